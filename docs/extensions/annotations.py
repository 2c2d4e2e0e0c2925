"""Types in signatures, as their source says them, with the names that users import.

Rules of this file:

* Evaluated, a type alias is gone: `LogIndex` would be shown as a number with its bounds. So what is
  shown is the annotation's text, in which each name is exchanged for the public one, and a private
  alias for what it stands for. `Annotated[X, …]` is shown as X: bounds are told in words.
* The annotations of what is shown are rewritten in this process, before autodoc reads them. The
  names are not in the modules' own namespaces, so that autodoc cannot evaluate them and takes them
  as they are. Nothing is encoded or decoded in this process after that.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from functools import cache
from typing import Final

import attrs
import msgspec
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

from docs.extensions.public_names import (
    OURS,
    alias_of,
    home_of,
    is_defined_in,
    public_names,
    shown_as,
)
from docs.extensions.references import is_type_variable
from trioraft.testing import open_cluster

_YIELDS: Final = re.compile(r"collections\.abc\.(?:Async)?Iterator\[(.*)\]")


class _Rewriting(ast.NodeTransformer):
    """Of the annotations of one module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name, as users know it."""
        if hasattr(builtins, node.id):
            return node
        home = home_of(self._module, node.id)
        full = f"{home}.{node.id}"
        if full in shown_as():
            return _expression(shown_as()[full].full)
        if home == "typing" or is_type_variable(full):
            return node
        if home.partition(".")[0] not in OURS:
            return _expression(full)
        alias = alias_of(home, node.id)
        if alias is not None:
            return _rewritten(ast.unparse(alias), home)
        return _expression(full) if is_defined_in(home, node.id) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Something of something."""
        match node:
            case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[first, *_])):
                visited: ast.expr = self.visit(first)
                return visited
            case ast.Subscript(value=ast.Name(id="Literal")):
                return node
        return ast.Subscript(self.visit(node.value), self.visit(node.slice), node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """A name that is quoted is one all the same."""
        if isinstance(node.value, str):
            return _rewritten(node.value, self._module)
        return node


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _rewritten(text: str, module: str) -> ast.expr:
    visited: ast.expr = _Rewriting(module).visit(_expression(text))
    return visited


@cache
def shown_type(text: str, module: str) -> str:
    """An annotation of a module's, as it is shown."""
    return ast.unparse(ast.fix_missing_locations(_rewritten(text, module)))


def _rewrite(annotations: object, module: str, done: set[int]) -> None:
    if not isinstance(annotations, dict) or id(annotations) in done:
        return
    done.add(id(annotations))
    for name, text in annotations.items():
        if isinstance(text, str):
            annotations[name] = shown_type(text, module)


def _rewrite_function(function: object, done: set[int]) -> None:
    while function is not None:
        function = getattr(function, "__func__", function)
        module = getattr(function, "__module__", "") or ""
        if module.partition(".")[0] in OURS:
            annotations = getattr(function, "__annotations__", None)
            _rewrite(annotations, module, done)
            _rewrite_signature(function)
            if annotations and hasattr(function, "__wrapped__"):
                _show_what_is_yielded(annotations, inspect.unwrap(function))  # type: ignore[arg-type] # a function
        function = getattr(function, "__wrapped__", None)


@attrs.frozen
class _Named:
    """A default, as it is written."""

    name: str

    def __repr__(self) -> str:
        return self.name


def _show_what_is_yielded(annotations: dict[str, str], function: object) -> None:
    """A context manager written as a generator gives what it yields, not an iterator."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        returned = _YIELDS.fullmatch(annotations.get("return", ""))
        if returned:
            annotations["return"] = returned[1]


def _rewrite_signature(function: object) -> None:
    """One that was taken over from another function."""
    signature = vars(function).get("__signature__") if hasattr(function, "__dict__") else None
    if not isinstance(signature, inspect.Signature):
        return
    module = inspect.unwrap(open_cluster).__module__
    parameters = []
    for parameter in signature.parameters.values():
        if isinstance(parameter.annotation, str):
            parameter = parameter.replace(annotation=shown_type(parameter.annotation, module))
        if inspect.isclass(parameter.default) and parameter.default is not inspect.Parameter.empty:
            parameter = parameter.replace(default=_Named(parameter.default.__name__))
        parameters.append(parameter)
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # may


def _annotate_what_constructors_assign(value: type) -> None:
    """`self.term: Term = …`, which autodoc reads from the source, too."""
    analyzer = ModuleAnalyzer.for_module(value.__module__)
    analyzer.analyze()
    for (name, attribute), text in analyzer.annotations.items():
        if name == value.__qualname__ and attribute not in vars(value).get("__annotations__", {}):
            value.__annotations__ = {**vars(value).get("__annotations__", {}), attribute: text}


def _rewrite_class(value: type, done: set[int]) -> None:
    for base in value.__mro__:
        if base.__module__.partition(".")[0] not in OURS:
            continue
        _annotate_what_constructors_assign(base)
        _rewrite(vars(base).get("__annotations__"), base.__module__, done)
        for member in vars(base).values():
            if isinstance(member, property):
                _rewrite_function(member.fget, done)
            elif not inspect.isclass(member):
                _rewrite_function(member, done)


@cache
def constructor_of_struct(value: type[msgspec.Struct]) -> str:
    """The arguments that a struct takes; msgspec would evaluate their annotations, which are shown
    with the fields."""
    shown = []
    for field in msgspec.structs.fields(value):
        if field.default is not msgspec.NODEFAULT:
            shown.append(f"{field.name}={field.default!r}")
        elif field.default_factory is not msgspec.NODEFAULT:
            shown.append(f"{field.name}={field.default_factory()!r}")
        else:
            shown.append(field.name)
    return f"({', '.join(shown)})"


def rewrite(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """All annotations of public names."""
    done: set[int] = set()
    for name in public_names():
        if inspect.isclass(name.value):
            if not issubclass(name.value, msgspec.Struct):
                _rewrite_class(name.value, done)
        elif callable(name.value):
            _rewrite_function(name.value, done)


def rewrite_struct(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, None] | None:
    """A struct's fields, once autodoc has looked at its signature, which is always evaluated."""
    if not inspect.isclass(value) or not issubclass(value, msgspec.Struct):
        return None
    arguments = constructor_of_struct(value)
    _rewrite_class(value, set())
    return arguments, None


def setup(app: Sphinx) -> dict[str, object]:
    """Before any page is read."""
    app.connect("env-before-read-docs", rewrite)
    app.connect("autodoc-process-signature", rewrite_struct)
    return {"parallel_read_safe": False}
