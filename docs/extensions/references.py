"""Where a name in a signature leads: to its public name, or to what others document.

Rules of this file:

* Signatures name what they mention by where it is defined, and that is private; the reference shows
  it under the name that users import. `public_names` knows both.
* Addresses elsewhere are written here, or follow from the name, so that a build needs no network.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Final, ParamSpec, TypeVar

from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from docs.extensions.public_names import home_of, shown_as

PYTHON: Final = "https://docs.python.org/3"
TRIO: Final = "https://trio.readthedocs.io/en/stable"
STRUCTLOG: Final = "https://www.structlog.org/en/stable/api.html"
ELSEWHERE: Final = {
    "anyio.abc.ByteStream": "https://anyio.readthedocs.io/en/stable/api.html#anyio.abc.ByteStream",
    "msgspec.Struct": "https://jcristharif.com/msgspec/api.html#msgspec.Struct",
    "structlog.typing.FilteringBoundLogger": f"{STRUCTLOG}#structlog.typing.FilteringBoundLogger",
    "trio.TooSlowError": f"{TRIO}/reference-core.html#trio.TooSlowError",
    "trio.BusyResourceError": f"{TRIO}/reference-core.html#trio.BusyResourceError",
    "trio.CancelScope": f"{TRIO}/reference-core.html#trio.CancelScope",
    "trio.Nursery": f"{TRIO}/reference-core.html#trio.Nursery",
    "trio.TaskStatus": f"{TRIO}/reference-core.html#trio.TaskStatus",
    "trio.abc.Clock": f"{TRIO}/reference-core.html#trio.abc.Clock",
    "trio.lowlevel.Task": f"{TRIO}/reference-lowlevel.html#trio.lowlevel.Task",
}
"""What is documented outside of Python's own documentation."""


def elsewhere(target: str) -> str | None:
    """The address of a name that is not ours; None if nobody knows."""
    if target in ELSEWHERE:
        return ELSEWHERE[target]
    module, _, name = target.rpartition(".")
    if not module and isinstance(getattr(__import__("builtins"), name, None), type):
        page = "exceptions" if name.endswith(("Error", "Exception", "Warning")) else "functions"
        return f"{PYTHON}/library/{page}.html#{name}"
    if module.partition(".")[0] in sys.stdlib_module_names:
        return f"{PYTHON}/library/{module}.html#{target}"
    return None


@cache
def is_type_variable(target: str) -> bool:
    """Whether a full name is that of a type variable: there is nothing to link to."""
    module, _, name = target.rpartition(".")
    if module.partition(".")[0] not in {"trioraft", "trioleaks"}:
        return False
    try:
        return isinstance(getattr(import_module(module), name, None), TypeVar | ParamSpec)
    except ModuleNotFoundError:  # a class, then
        return False


@cache
def ours(target: str, module: str | None) -> str | None:
    """The full name under which the reference shows it; None if it shows no such thing."""
    shown = shown_as()
    if target in shown:
        return shown[target].full
    bare = [name.full for name in shown.values() if name.name == target]
    here = [full for full in bare if module and full.startswith(f"{module}.")]
    if here or bare:
        return (here or bare)[0]
    # a member, by the private name of its class or by the public one
    owner, _, member = target.rpartition(".")
    known = ours(owner, module) if owner else None
    return f"{known}.{member}" if known else None


def module_of(node: nodes.Node | None) -> str | None:
    """The module in which that is defined whose signature a node stands in."""
    while node is not None and not isinstance(node, desc_signature):
        node = node.parent
    if node is None:
        return None
    full = f"{node['module']}.{node['fullname']}"
    return _homes().get(full) or _homes().get(full.rpartition(".")[0])


@cache
def _homes() -> dict[str, str]:
    return {name.full: name.home for name in shown_as().values()}


@cache
def meaning(name: str, home: str) -> str:
    """What a bare name stands for in a module: the name by which it was imported, in full."""
    return f"{home_of(home, name)}.{name}"


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Called where Sphinx does not know the name."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    home = module_of(node)
    if home is not None and target.isidentifier():
        target = meaning(target, home)
    public = ours(target, node.get("py:module"))
    if public is not None and public != target:
        domain = env.domains.python_domain
        found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, contnode)
        if found is not None:
            return found
    if is_type_variable(target):
        return contnode
    address = elsewhere(target)
    if address is None:
        return None
    reference = nodes.reference("", "", internal=False, refuri=address)
    reference["reftitle"] = target
    reference += contnode
    return reference


def setup(app: Sphinx) -> dict[str, object]:
    """After Sphinx's own attempts."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
