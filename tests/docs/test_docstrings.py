"""What the reference says of a public name is there, and is true of its signature.

Rules of this file:

* What is public is what `docs/public-names.md` says, and trioleaks: classes, functions, and what a
  public class itself defines without a `_` in front. Private names are nobody's matter here.
* How docstrings are written stands in `docs/style.md`; here is what a machine can hold of it.
* "As `X.y`." stands for the other's docstring: there must be one, and it is checked where it is.
* Each rule is also shown to bite, on a docstring that breaks it.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Final

import attrs
import pytest

from trioraft import ConfigError

from ..public_names import public_errors, public_objects

_HEADS: Final = ("Args", "Returns", "Yields", "Raises", "Attributes", "Fault", "Remedy")
_UNITS: Final = {"_ms": r"millisecond|\bms\b", "_s": r"second|\bs\b", "_bytes": r"\bbytes?\b"}
"""By the end of a parameter's name, what its text must have."""
_BY_CONVENTION: Final = ("task_status",)
"""What Trio documents, and is the same wherever it occurs."""
_AS: Final = re.compile(r"(?:\b[Aa]s |\A)`(?:trioraft\.)?([\w.]+)`")
"""Where a docstring points at another: "As `X.y`", or by beginning with it: "`X.y`: and then…"."""


@attrs.frozen(slots=False)
class Subject:
    """A public class, function, method or property."""

    name: str
    """As it can be imported, and then its member."""
    value: object
    """A class, or the function itself, without wrappers."""
    owner: type | None = None
    """The class that defines it."""

    @cached_property
    def doc(self) -> str:
        """Its own docstring, or that of the method which it overrides."""
        own = inspect.cleandoc(getattr(self.value, "__doc__", None) or "")
        if own or self.owner is None:
            return own
        member = self.name.rpartition(".")[2]
        for base in self.owner.__mro__[1:]:
            inherited = vars(base).get(member)
            if inherited is not None and base.__module__.startswith(("trioraft", "trioleaks")):
                return inspect.cleandoc(inherited.__doc__ or "")
        return ""

    @cached_property
    def parameters(self) -> list[str]:
        """Its own, without `self` and what is private."""
        makes = self.value
        if isinstance(makes, type):
            if "__init__" not in vars(makes) or not is_for_users_to_make(makes):
                return []
            makes = vars(makes)["__init__"]
        if not inspect.isfunction(makes):
            return []
        names = [*inspect.signature(makes).parameters]
        if names[:1] in (["self"], ["cls"]):
            names = names[1:]
        return [name for name in names if name[0] != "_" and name not in _BY_CONVENTION]

    @property
    def waits(self) -> bool:
        """Whether it can be cancelled."""
        return inspect.iscoroutinefunction(self.value) or inspect.isasyncgenfunction(self.value)

    @cached_property
    def raised(self) -> set[str]:
        """The names behind `raise` in its own lines."""
        makes = self.value
        if isinstance(makes, type):
            makes = vars(makes).get("__init__") if is_for_users_to_make(makes) else None
        if not inspect.isfunction(makes):
            return set()
        return set(names_raised(ast.parse(textwrap.dedent(inspect.getsource(makes))).body[0]))

    def __str__(self) -> str:
        return self.name


def is_made_of_fields(value: object) -> bool:
    """Whether a class has fields that are documented one by one, and no `__init__` of its own."""
    made = attrs.has(value) if isinstance(value, type) else False
    return made or hasattr(value, "__struct_fields__")


def is_for_users_to_make(cls: type) -> bool:
    """Whether its constructor is for users: not of what is handed out, of errors (whose attributes
    are what counts), of protocols, or of what is made of fields."""
    doc = cls.__doc__ or ""
    handed_out = bool(re.search(r"\b(Made by|made by|Handed out|handed out)\b", doc))
    made_elsewhere = issubclass(cls, BaseException) or getattr(cls, "_is_protocol", False)
    handed_out = handed_out and not entries(inspect.cleandoc(doc), "Args")
    return not (handed_out or made_elsewhere or is_made_of_fields(cls))


def names_raised(node: ast.AST) -> Iterator[str]:
    """Of the errors that these lines raise by name; those of functions within are their own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        match child:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name)) | ast.Name(id=name)):
                yield name
        yield from names_raised(child)


def function_in(member: object) -> object:
    """What a class's attribute runs: a property's getter, a method without its wrappers."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    return inspect.unwrap(member) if callable(member) else None


def members(name: str, cls: type) -> Iterator[Subject]:
    """What a class defines for its users, itself or by a private class below it."""
    public = {id(value) for value in public_objects().values()}
    defined: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        ours = base.__module__.startswith(("trioraft", "trioleaks"))
        if base is cls or (ours and id(base) not in public):
            defined |= vars(base)
    for member, value in defined.items():
        found = None if member[0] == "_" or isinstance(value, type) else function_in(value)
        if inspect.isfunction(found):
            yield Subject(f"{name}.{member}", found, cls)


@cache
def subjects() -> dict[str, Subject]:
    """All of them, each by its first name."""
    everything = dict(public_objects())
    trioleaks = importlib.import_module("trioleaks")
    everything |= {f"trioleaks.{name}": getattr(trioleaks, name) for name in trioleaks._HOMES}
    seen: set[int] = set()
    found: dict[str, Subject] = {}
    for name, value in everything.items():
        home = str(getattr(value, "__module__", ""))
        if not home.startswith(("trioraft", "trioleaks")) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, type):
            found[name] = Subject(name, value)
            found |= {member.name: member for member in members(name, value)}
        elif inspect.isfunction(value):
            found[name] = Subject(name, inspect.unwrap(value))
    return found


def section(doc: str, head: str) -> str:
    """The lines below a heading, without their indentation."""
    found = re.search(rf"^{head}:\n((?:    .*\n?|\n)+)", doc + "\n", re.MULTILINE)
    return textwrap.dedent(found[1]).strip() if found else ""


def entries(doc: str, head: str) -> list[tuple[str, str]]:
    """Each name that a section explains, with its text."""
    found = []
    for block in re.split(r"\n(?=\S)", section(doc, head)):
        names, colon, text = block.partition(":")
        if colon and re.fullmatch(r"[\w*]+(, [\w*]+)*", names):
            found += [(name.strip("*"), text) for name in names.split(", ")]
    return found


def _is_a_name(name: str) -> bool:
    """Of a class or of its member; a bare function's or method's may be many."""
    return "." in name or name[0].isupper()


def meant(subject: Subject, name: str) -> Subject | None:
    """Whom "As `name`." points at: a member of the same class, or a public name's end."""
    own = f"{subject.name.rpartition('.')[0]}.{name}"
    for candidate in (own, name, f"trioraft.{name}"):
        if candidate in subjects() and candidate != subject.name:
            return subjects()[candidate]
    ends = [there for there in subjects() if there.endswith(f".{name}") and _is_a_name(name)]
    return subjects()[ends[0]] if ends and ends[0] != subject.name else None


def prose(doc: str) -> str:
    """Without what its sections explain: "As `X.y`." there is of that section, or entry, alone."""
    return "\n".join(line for line in doc.splitlines() if not line.startswith("    "))


def stood_on(subject: Subject) -> Iterator[Subject]:
    """Whose docstrings it says to be as: itself, or its class for its members of the same name, or
    by overriding."""
    found = [meant(subject, name) for name in _AS.findall(prose(subject.doc))]
    if subject.owner is not None:
        member = subject.name.rpartition(".")[2]
        for name in _AS.findall(prose(general_part(subject))):
            found += [class_member(name, member)]
        for base in subject.owner.__mro__[1:]:
            found += [class_member(base.__name__, member)]
    yield from (other for other in found if other is not None and other is not subject)


def class_member(cls: str, member: str) -> Subject | None:
    """Of a public class, by the end of its name."""
    end = f".{cls}.{member}"
    return next((one for name, one in subjects().items() if name.endswith(end)), None)


def pointed_at(subject: Subject) -> Iterator[Subject]:
    """Those whose docstrings this one's stands on, and so on."""
    waiting, seen = [subject], {subject.name}
    while waiting:
        here = waiting.pop()
        for other in stood_on(here):
            if other.name not in seen:
                seen.add(other.name)
                waiting.append(other)
                yield other


def has_docstring(subject: Subject) -> Iterator[str]:
    """It says something, or overrides what does."""
    if not subject.doc:
        yield "no docstring"


def arguments_are_told(subject: Subject) -> Iterator[str]:
    """Two parameters or more are told one by one; and none that is not there."""
    told = [name for name, _ in entries(subject.doc, "Args")]
    for name in sorted({name for name in told if told.count(name) > 1}):
        yield f"{name} stands twice below Args:"
    there = {*subject.parameters, *_BY_CONVENTION}
    if not is_made_of_fields(subject.value):
        yield from (f"there is no parameter {name}" for name in told if name not in there)
    if len(subject.parameters) >= 2:
        others = {name for other in pointed_at(subject) for name, _ in entries(other.doc, "Args")}
        others |= {p for o in pointed_at(subject) if len(o.parameters) == 1 for p in o.parameters}
        for one in (subject, *pointed_at(subject)):
            others |= told_for_all(one)
        for name in subject.parameters:
            if name not in told and name not in others:
                yield f"{name} is not told below Args:"


def told_for_all(subject: Subject) -> set[str]:
    """The parameters that the class tells of once, for every method: a paragraph of its docstring
    begins with their names."""
    heads = re.findall(r"^(?:`\w+`(?:, | and )?)+", general_part(subject), re.MULTILINE)
    return set(re.findall(r"\w+", " ".join(head.replace(" and ", " ") for head in heads)))


def general_part(subject: Subject) -> str:
    """What the class says of all its methods."""
    return inspect.cleandoc(subject.owner.__doc__ or "") if subject.owner else ""


def units_are_told(subject: Subject) -> Iterator[str]:
    """A number of seconds is called one."""
    docs = [subject.doc, *(other.doc for other in pointed_at(subject))]
    docs += [general_part(subject), *(general_part(other) for other in pointed_at(subject))]
    for name in subject.parameters:
        unit = next((words for end, words in _UNITS.items() if name.endswith(end)), None)
        texts = [text for doc in docs for told, text in entries(doc, "Args") if told == name]
        if unit and not re.search(unit, " ".join(texts or docs)):
            yield f"the unit of {name} is not told"


def errors_are_told(subject: Subject) -> Iterator[str]:
    """What it raises in its own lines, of this project's public errors, or a class above it."""
    known = {error.__name__: error for error in public_errors().values()}
    docs = [subject.doc, *(other.doc for other in pointed_at(subject))]
    others = [meant(subject, name) for name in _AS.findall(section(subject.doc, "Raises"))]
    docs += [other.doc for other in others if other is not None]
    told = {name for doc in docs for name, _ in entries(doc, "Raises")}
    for name in sorted(subject.raised & known.keys()):
        if told.isdisjoint(base.__name__ for base in known[name].__mro__):
            yield f"{name} is not told below Raises:"
    for name, _ in entries(subject.doc, "Raises"):
        home = vars(inspect.getmodule(subject.value) or builtins)
        if name not in known and not hasattr(builtins, name) and name not in home:
            yield f"there is no error {name}"


def cancellation_is_told(subject: Subject) -> Iterator[str]:
    """What waits says what cancelling does, or its class does, for all that say nothing else."""
    docs = [subject.doc, *(other.doc for other in pointed_at(subject))]
    wholes = [general_part(one) for one in (subject, *pointed_at(subject))]
    general = re.search(r"^Cancelling ", "\n".join(wholes), re.MULTILINE)
    if subject.waits and not general and not re.search(r"[Cc]ancel", " ".join(docs)):
        yield "what cancelling does is not told"


def pointers_lead_somewhere(subject: Subject) -> Iterator[str]:
    """A docstring that is nothing but "As `X.y`." has another to stand for it."""
    found = re.match(r"(?:As )?`(?:trioraft\.)?([A-Z]\w+\.\w+)`[.:]", subject.doc)
    if found and meant(subject, found[1]) is None:
        yield f"As `{found[1]}`: there is no such public name"


Rule = Callable[[Subject], Iterator[str]]
RULES: tuple[Rule, ...] = (
    has_docstring,
    arguments_are_told,
    units_are_told,
    errors_are_told,
    cancellation_is_told,
    pointers_lead_somewhere,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_public_docstring_keeps_the_rules(rule: Rule) -> None:
    found = [f"{one}: {what}" for one in subjects().values() for what in rule(one)]
    assert found == []


class _Clock:
    """A class.

    Cancelling a method ends its wait.
    """

    async def sleep(self) -> None:
        """Wait."""

    def told_at_the_class(self, at_s: float, zone: str) -> None:
        """Say so."""


class _Told(_Clock):
    """A class.

    `at_s` and `zone` are a time in seconds, and where.
    """


async def _waits() -> None:
    """Wait."""


def _told_nothing(one: int, other: int) -> None:
    """Do it."""


def _told_too_much(one: int) -> None:
    """Do it.

    Args:
        one: this.
        other: which there is not.
    """


def _told_twice(one: int) -> None:
    """Do it.

    Args:
        one: this.
        one: and this.
    """


def _without_unit(wait_s: float) -> None:
    """Do it.

    Args:
        wait_s: how long.
    """


def _raises() -> None:
    """Do it."""
    raise ConfigError("on purpose")


def _raises_what_is_none() -> None:
    """Do it.

    Raises:
        ConfigErrand: there is no such error.
    """


def _told_elsewhere(data: bytes, timeout_s: float) -> None:
    """As `Nothing.at_all`."""


def _told_by_another(data: bytes, timeout_s: float) -> None:
    """As `Client.call`."""


async def _waits_as_another_raises() -> None:
    """Wait.

    Raises:
        As `Client.call`.
    """


def _bare(one: int) -> None:
    pass


@pytest.mark.parametrize(
    ("rule", "function"),
    [
        (has_docstring, _bare),
        (arguments_are_told, _told_nothing),
        (arguments_are_told, _told_too_much),
        (arguments_are_told, _told_twice),
        (arguments_are_told, _told_elsewhere),
        (units_are_told, _without_unit),
        (errors_are_told, _raises),
        (errors_are_told, _raises_what_is_none),
        (cancellation_is_told, _waits),
        (cancellation_is_told, _waits_as_another_raises),
        (pointers_lead_somewhere, _told_elsewhere),
    ],
)
def test_each_rule_bites(rule: Rule, function: Callable[..., object]) -> None:
    assert [*rule(Subject("tests.function", function))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_docstring_may_point_at_another_or_leave_it_to_the_class(rule: Rule) -> None:
    assert [*rule(Subject("tests.function", _told_by_another))] == []
    assert [*rule(Subject("tests.Clock.sleep", _Clock.sleep, _Clock))] == []
    assert [*rule(Subject("tests.Told.told", _Clock.told_at_the_class, _Told))] == []


def test_every_kind_of_public_name_is_looked_at() -> None:
    for name in ("Client.add_learner", "Node.status", "SQLiteStorage", "Credentials.of"):
        assert f"trioraft.{name}" in subjects()
    assert "trioleaks.no_leaks" in subjects() or "trioraft.testing.no_leaks" in subjects()
    assert "trioraft.aio.open_node" in subjects()
