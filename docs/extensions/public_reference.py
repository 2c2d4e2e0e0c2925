"""The directive `public`: the reference of public names, from their docstrings.

Rules of this file:

* `.. public:: MODULE` with names below it shows just these; without names, all that the module
  offers and no other page shows, and where its other names are shown.
* A name that no page shows is a warning, and so the end of a build that takes warnings for errors;
  a name that does not exist is one, too.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import ClassVar, Final, Generic, Protocol, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.extensions.docstrings import translate
from docs.extensions.public_names import (
    PublicName,
    is_ours,
    modules,
    public_names,
    shown_as,
)

_LOGGER: Final = logging.getLogger(__name__)
SHOWN: Final = "trioraft_shown"
"""Of the environment: which page shows a name."""
_NOT_TO_MAKE: Final = re.compile(r"\b(Made by|Handed out)\b")
"""docs/public-names.md: a class that says so is not for users to make."""


def shown(env: BuildEnvironment) -> dict[str, str]:
    """By full name: the page that shows it."""
    if not hasattr(env, SHOWN):
        setattr(env, SHOWN, {})
    pages: dict[str, str] = getattr(env, SHOWN)
    return pages


class Public(SphinxDirective):
    """Writes the directives of autodoc for public names, and has them read."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        offered = {name.name: name for name in public_names() if name.module == module}
        wanted = [word for line in self.content for word in line.split()]
        for name in wanted:
            if name not in offered:
                _LOGGER.warning("%s.%s is not public", module, name, location=self.get_location())
        names = [offered[name] for name in wanted if name in offered]
        lines = [f".. py:currentmodule:: {module}", ""]
        if not wanted:
            first = shown_as()
            names = [name for name in offered.values() if first[name.defined] is name]
            lines += _elsewhere(
                [name for name in offered.values() if first[name.defined] is not name]
            )
        for name in names:
            shown(self.env)[name.full] = self.env.docname
            lines += [*_directive(name), ""]
        source = f"{module} (public names)"
        self.state_machine.insert_input(lines, source)
        return []


def _elsewhere(names: list[PublicName]) -> Iterator[str]:
    if names:
        links = (f":py:obj:`{name.name} <{shown_as()[name.defined].full}>`" for name in names)
        yield "Shown with the names of another module: " + ", ".join(links) + "."
        yield ""


def _directive(name: PublicName) -> Iterator[str]:
    value = name.value
    if inspect.isclass(value) and value.__name__ == name.name:
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        yield f".. {kind}:: {name.full}"
        yield "   :members:"
        yield "   :undoc-members:"
        yield f"   :inherited-members: {', '.join(_shown_elsewhere(value))}"
        yield "   :show-inheritance:"
    elif inspect.isfunction(value):
        yield f".. autofunction:: {name.full}"
    else:
        yield from _plain(name)


def _shown_elsewhere(value: type) -> list[str]:
    """The classes that it inherits from and whose members it need not show: public ones, which do
    themselves, and those of others."""
    public = {id(name.value) for name in public_names()}
    return [base.__name__ for base in value.__mro__[1:] if id(base) in public or not is_ours(base)]


def show_public_bases(
    app: Sphinx, name: str, value: object, options: object, bases: list[type]
) -> None:
    """A private base is nobody's business: what it brings is shown with the class."""
    public = {id(shown.value) for shown in public_names()}
    bases[:] = [
        base
        for base in bases
        if id(get_origin(base) or base) in public
        or (
            not is_ours(get_origin(base) or base)
            and (get_origin(base) or base) not in {object, Generic, Protocol}
        )
    ]
    if not bases:
        bases.append(object)


def hide_constructor(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Of a class that is not for users to make."""
    if what == "class" and _NOT_TO_MAKE.search(inspect.getdoc(value) or ""):
        return "", None
    return None


def _plain(name: PublicName) -> Iterator[str]:
    """A constant or a type alias: its value is what Python shows, its text stands below it."""
    analyzer = ModuleAnalyzer.for_module(name.home)
    analyzer.analyze()
    text = analyzer.attr_docs.get(("", name.name), [])
    is_constant = name.name.isupper()
    yield f".. py:{'data' if is_constant else 'type'}:: {name.name}"
    yield ""
    for line in translate([*text], None):
        yield f"   {line}" if line.strip() else ""


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """A page is read anew."""
    pages = shown(env)
    for name in [name for name, page in pages.items() if page == docname]:
        del pages[name]


def check_all_are_shown(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name is on some page."""
    for module in modules():
        missing = [
            name.name
            for name in public_names()
            if name.module == module
            and shown_as()[name.defined] is name
            and name.full not in shown(env)
        ]
        if missing:
            _LOGGER.warning(
                "no page of docs/reference shows, of %s: %s", module, ", ".join(missing)
            )


def setup(app: Sphinx) -> dict[str, object]:
    """Adds the directive, and the check."""
    app.add_directive("public", Public)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("env-purge-doc", forget)
    app.connect("env-check-consistency", check_all_are_shown)
    return {"parallel_read_safe": False}
