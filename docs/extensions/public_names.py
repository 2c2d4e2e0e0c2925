"""The public names of the package, where each is defined, and under which name it is shown.

Rules of this file:

* What the public modules are, docs/public-names.md says, and nobody else.
* A name's home is where it is assigned or defined; `X as X` is followed to it by reading the
  sources, since a type alias knows neither its module nor its name.
* What is public under several names is shown under the first, in the order of the page; the others
  lead there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Final

import attrs

OURS: Final = frozenset({"trioraft", "trioleaks"})
NOT_SHOWN: Final = frozenset({"T", "S", "T_co"})
"""Type variables that a public module defines."""
PAGE: Final = Path(__file__).parent.parent / "public-names.md"
_ROW: Final = re.compile(r"^\| `((?:trioraft|trioleaks)[\w.]*)` \|", re.MULTILINE)


@attrs.frozen
class PublicName:
    """One name, as users import it."""

    module: str
    name: str
    home: str
    """The module in which it is defined."""
    value: object

    @property
    def full(self) -> str:
        """With the module from which users import it."""
        return f"{self.module}.{self.name}"

    @property
    def defined(self) -> str:
        """With the module in which it is defined; names of one thing share it."""
        return f"{self.home}.{self.name}"


def modules() -> tuple[str, ...]:
    """The public modules, and the leak check's, which is a distribution of its own."""
    return (*_ROW.findall(PAGE.read_text(encoding="utf-8")), "trioleaks")


@attrs.frozen
class _Source:
    """Where a module has a name from."""

    module: str
    is_handed_on: bool
    """Whether it is public there: defined, or imported as itself."""


@cache
def _tree(module_name: str) -> ast.Module:
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module_name)
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


@cache
def _names_in(module_name: str) -> dict[str, _Source]:
    """Every name of a module that its source assigns, defines or imports by name."""
    spec = importlib.util.find_spec(module_name)
    package = getattr(spec, "parent", "") or ""  # of a package: itself
    found: dict[str, _Source] = {}
    for node in _statements(_tree(module_name).body):
        match node:
            case ast.ImportFrom():
                source = importlib.util.resolve_name(
                    "." * node.level + (node.module or ""), package
                )
                for alias in node.names:
                    named = alias.asname or alias.name
                    found[named] = _Source(source, alias.asname == alias.name)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found[node.name] = _Source(module_name, True)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = _Source(module_name, True)
    return found


@cache
def home_of(module: str, name: str) -> str:
    """The module in which that is defined which a module calls so."""
    while module.partition(".")[0] in OURS:
        source = _names_in(module).get(name)
        if source is None or source.module == module:
            return module
        module = source.module
    return module


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """All of them, also what only type checkers read."""
    found = []
    for node in body:
        found.append(node)
        if isinstance(node, ast.If):
            found += _statements(node.body)
    return found


@cache
def public_names() -> tuple[PublicName, ...]:
    """All of them, module by module."""
    return tuple(
        PublicName(
            module, name, home_of(module, name), getattr(importlib.import_module(module), name)
        )
        for module in modules()
        for name, source in sorted(_names_in(module).items())
        if source.is_handed_on and not name.startswith("_") and name not in NOT_SHOWN
    )


def is_defined_in(module: str, name: str) -> bool:
    """Whether a module of ours assigns or defines a name."""
    source = _names_in(module).get(name)
    return source is not None and source.module == module


@cache
def alias_of(module: str, name: str) -> ast.expr | None:
    """What a module's type alias stands for; None if the name is none."""
    for node in _statements(_tree(module).body):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=found), annotation=ast.Name(id="TypeAlias"), value=ast.expr()
            ) if found == name:
                return node.value
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Subscript() as value) if (
                found == name
            ):
                return value
    return None


def is_ours(value: type) -> bool:
    """Whether it is defined here."""
    return value.__module__.partition(".")[0] in OURS


@cache
def shown_as() -> dict[str, PublicName]:
    """By where it is defined: the name under which it is shown."""
    shown: dict[str, PublicName] = {}
    for name in public_names():
        shown.setdefault(name.defined, name)
    return shown
