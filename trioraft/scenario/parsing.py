"""From a text to a `Scenario`, or to one error that says where it is, and what was expected.

Rules of this file:

* Every phrase of the table is tried; the one that got furthest says what was expected there. So no
  rule of the grammar stands here a second time.
* What can be known before anything runs is said here: names of nodes, names that nobody gave, a
  time that lies before another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, final

import attrs

from ..core.config import Timing
from ..core.errors import ConfigError
from .grammar import PHRASES, SLOTS, Kind, Needs, Phrase
from .model import NODES_MAX, STEPS_MAX, TIMES_MAX, Scenario, Settings, Step, Who

_TOKEN: Final = re.compile(r'"(?P<quoted>[^"\n]*)"|(?P<comment>#[^\n]*)|(?P<mark>[,;])|[^\s,;"#]+')
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min)")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)%")
_NAME: Final = re.compile(r"[^\W\d][\w-]*")
_LINE_END: Final = "the end of the line"


class ScenarioError(ConfigError):
    """A scenario that cannot be read, or that asks for what whoever plays it cannot do.

    Fault: of whoever wrote it.
    Remedy: the message names the file, the line and the column, and what can stand there;
        docs/scenarios.md has every word.

    Attributes:
        source: the file.
        line: counted from 1.
        column: counted from 1.
    """

    def __init__(self, source: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{source}:{line}:{column}: {message}")
        self.source = source
        self.line = line
        self.column = column


@final
@attrs.frozen
class _Token:
    text: str
    line: int
    column: int
    is_quoted: bool = False


class _Mismatch(Exception):  # noqa: N818 - no error yet: another phrase may fit
    """This phrase does not fit; how far it did, and what could have stood there."""

    def __init__(self, at: int, expected: set[str], why: str = "") -> None:
        self.at = at
        self.expected = expected
        self.why = why


@attrs.frozen
class _Words:
    """One of these words."""

    words: tuple[str, ...]


@attrs.frozen
class _Slot:
    name: str


@attrs.frozen
class _Optional:
    elements: tuple[Any, ...]


@cache
def _compiled(pattern: str) -> tuple[Any, ...]:
    """A pattern's elements."""
    parts = re.findall(r"\[[^\]]+\]|\S+", pattern)
    elements: list[Any] = []
    for part in parts:
        if part.startswith("["):
            elements.append(_Optional(_compiled(part[1:-1])))
        elif part.isupper() and part in SLOTS:
            elements.append(_Slot(part))
        else:
            elements.append(_Words(tuple(part.split("|"))))
    return tuple(elements)


def _words_of(elements: Sequence[Any]) -> Iterator[str]:
    for element in elements:
        match element:
            case _Words(words=words):
                yield from words
            case _Optional(elements=inner):
                yield from _words_of(inner)


@cache
def words() -> frozenset[str]:
    """Every word of the grammar: no name for a node."""
    roles = "leader old a an another follower followers all others everyone it them node the and"
    found = {word for phrase in PHRASES for word in _words_of(_compiled(phrase.pattern))}
    return frozenset(found | {*roles.split()})


def parse(text: str, source: str = "scenario", *, name: str | None = None) -> Scenario:
    """Read a scenario.

    Args:
        text: as docs/scenarios.md says.
        source: the file, for errors.
        name: what it is called; by default as the file, without what is behind the dot.

    Raises:
        ScenarioError: at the first mistake.
    """
    return _Parser(text, source).scenario(name or re.sub(r"\.\w+$", "", source.rpartition("/")[2]))


@final
class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._lines = text.splitlines()
        self._names: set[str] = set()
        self._nodes = {"0", "1", "2"}
        self._has_acted = False
        self._at_s = 0.0
        self._steps: list[Step] = []
        self._settings: dict[str, Step] = {}
        self._machine: Needs | None = None

    def scenario(self, name: str) -> Scenario:
        blocks: list[tuple[int, list[Step]]] = [(1, [])]
        opened: list[Step] = []
        for tokens in self._statements():
            for step in self._phrases(tokens):
                self._steps.append(step)
                self._check(step)
                match step.phrase.pattern:
                    case "repeat NUMBER times":
                        opened.append(step)
                        blocks.append((step.values["number"], []))
                    case "end":
                        if not opened:
                            raise self._wrong(step, "there is nothing to end: no `repeat` is open")
                        opened.pop()
                        times, repeated = blocks.pop()
                        blocks[-1][1].extend(repeated * times)
                        if len(blocks[-1][1]) > STEPS_MAX:
                            message = f"these are more than {STEPS_MAX} steps; repeat less often"
                            raise self._wrong(step, message)
                    case _ if step.phrase.kind is not Kind.SETTING:
                        blocks[-1][1].append(step)
        if opened:
            raise self._wrong(
                opened[-1], "this `repeat` has no `end`: write one behind what is repeated"
            )
        settings = self._made_settings()
        steps = tuple(step for step in blocks[0][1] if step not in self._settings.values())
        return Scenario(
            name=name,
            source=self._source,
            about=self._about(),
            text=self._text,
            settings=settings,
            steps=steps,
            phrases=tuple(self._steps),
        )

    # -- tokens ----------------------------------------------------------------------------

    def _statements(self) -> Iterator[list[_Token]]:
        for number, line in enumerate(self._lines, start=1):
            tokens: list[_Token] = []
            end = 0
            for found in _TOKEN.finditer(line):
                self._check_gap(number, line, end, found.start())
                end = found.end()
                if found["comment"] is not None:
                    end = len(line)
                    break
                if found["mark"] == ";":
                    if tokens:
                        yield tokens
                    tokens = []
                    continue
                quoted = found["quoted"]
                tokens.append(
                    _Token(
                        found[0] if quoted is None else quoted,
                        number,
                        found.start() + 1,
                        quoted is not None,
                    )
                )
            self._check_gap(number, line, end, len(line))
            if tokens:
                yield tokens

    def _check_gap(self, number: int, line: str, start: int, end: int) -> None:
        if '"' in line[start:end]:
            column = line.index('"', start) + 1
            raise ScenarioError(
                self._source,
                number,
                column,
                'this " has no second one on its line; put one behind the text',
            )

    def _about(self) -> str:
        lines = []
        for line in self._lines:
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return " ".join(lines).strip()

    # -- phrases ---------------------------------------------------------------------------

    def _phrases(self, tokens: list[_Token]) -> Iterator[Step]:
        """A statement: a phrase, and (with or without a comma) one more behind a moment."""
        at = 0
        while at < len(tokens):
            kinds = (*Kind,) if at == 0 else (Kind.ACTION, Kind.EXPECTATION)
            phrase, values, end = self._best(tokens, at, kinds)
            step = Step(
                phrase,
                values,
                tokens[at].line,
                tokens[at].column,
                self._written(tokens[at], tokens[end - 1]),
            )
            if phrase.kind is Kind.MOMENT and end < len(tokens) - 1 and tokens[end].text == ",":
                end += 1
            yield step
            at = end

    def _written(self, first: _Token, last: _Token) -> str:
        line = self._lines[first.line - 1]
        return line[first.column - 1 : last.column - 1 + len(last.text) + 2 * last.is_quoted]

    def _best(
        self, tokens: list[_Token], at: int, kinds: Sequence[Kind]
    ) -> tuple[Phrase, Mapping[str, Any], int]:
        misses: list[_Mismatch] = []
        for phrase in PHRASES:
            if phrase.kind not in kinds:
                continue
            matcher = _Matcher(tokens, self._nodes, self._names)
            try:
                end = matcher.match(_compiled(phrase.pattern), at)
            except _Mismatch as miss:
                misses.append(miss)
                continue
            if end == len(tokens) or phrase.kind is Kind.MOMENT:
                return phrase, matcher.values, end
            misses.append(_Mismatch(end, {_LINE_END, *matcher.also(end)}))
        furthest = max(miss.at for miss in misses)
        near = [miss for miss in misses if miss.at == furthest]
        raise self._mistake(tokens, furthest, near)

    def _mistake(self, tokens: list[_Token], at: int, misses: list[_Mismatch]) -> ScenarioError:
        expected = sorted(set().union(*(miss.expected for miss in misses)))
        whys = [miss.why for miss in misses if miss.why]
        if at < len(tokens):
            token = tokens[at]
            said = f"{token.text!r} cannot stand here"
            near = get_close_matches(token.text, [*_single_words(expected)], n=1, cutoff=0.6)
        else:
            token = attrs.evolve(tokens[-1], column=tokens[-1].column + len(tokens[-1].text))
            said, near = "something is missing here", []
        if whys:
            said, expected = whys[0], [] if not near else expected
        message = said
        if expected:
            message += f"; expected {_listed(expected)}"
        if near:
            message += f". Did you mean {near[0]!r}?"
        return ScenarioError(self._source, token.line, token.column, message)

    # -- what can be known before it runs --------------------------------------------------

    def _wrong(self, step: Step, message: str) -> ScenarioError:
        return ScenarioError(self._source, step.line, step.column, message)

    def _check(self, step: Step) -> None:
        """What this phrase may not be, after those before it."""
        phrase, values = step.phrase, step.values
        if phrase.kind is Kind.SETTING:
            self._check_setting(step)
        elif phrase.pattern.startswith("network") and not self._has_acted:
            self._settings[phrase.pattern] = step
        else:
            self._has_acted = True
        match phrase.pattern:
            case "at DURATION":
                if values["duration"] < self._at_s:
                    raise self._wrong(
                        step, f"{values['duration']:g} s is before the last `at`, {self._at_s:g} s"
                    )
                self._at_s = values["duration"]
            case "repeat NUMBER times":
                self._check_number(step, 1, TIMES_MAX)
            case "call WHO NAME":
                self._names.add(values["name"])
            case "add node NUMBER":
                number = str(values["number"])
                if number in self._nodes:
                    raise self._wrong(
                        step, f"there is a node {number} already; it can be restarted"
                    )
                self._nodes.add(number)
        if phrase.needs in (Needs.KV, Needs.COMMANDS):
            if self._machine not in (None, phrase.needs):
                raise self._wrong(
                    step,
                    f"this scenario has {self._machine} already; a cluster has either those or "
                    f"{phrase.needs}",
                )
            self._machine = phrase.needs

    def _check_setting(self, step: Step) -> None:
        pattern = step.phrase.pattern
        if self._has_acted:
            raise self._wrong(step, "settings come first, before anything happens")
        if pattern in self._settings:
            before = self._settings[pattern].line
            raise self._wrong(step, f"this was set already, in line {before}")
        self._settings[pattern] = step
        if pattern.startswith("NUMBER nodes"):
            self._check_number(step, 1, NODES_MAX)
            self._nodes.clear()
            self._nodes.update(map(str, range(step.values["number"])))

    def _check_number(self, step: Step, low: int, high: int) -> None:
        number = step.values["number"]
        if not low <= number <= high:
            raise self._wrong(step, f"{number} is out of range; give {low} to {high}")

    def _made_settings(self) -> Settings:
        made: dict[str, Any] = {}
        timing: dict[str, Any] = {}
        last: Step | None = None
        for pattern, step in self._settings.items():
            if step.phrase.needs is Needs.TIMING:
                last = step
            _SETTERS[pattern](step, made, timing)
        try:
            return Settings(**made, timing=Timing(**timing))
        except ConfigError as error:
            if last is None:
                raise
            raise self._wrong(last, str(error)) from error


def _span(step: Step) -> tuple[float, float]:
    low: float = step.values["duration"]
    high: float = step.values.get("duration2", low)
    return low, high


def _set_switch(name: str, off: Any = False) -> Callable[..., None]:
    def set_it(step: Step, made: dict[str, Any], timing: dict[str, Any]) -> None:
        if step.chose("off"):
            timing[name] = off

    return set_it


def _set_timeout(step: Step, made: dict[str, Any], timing: dict[str, Any]) -> None:
    timing["election_timeout_s"] = _span(step)


def _set_heartbeat(step: Step, made: dict[str, Any], timing: dict[str, Any]) -> None:
    timing["heartbeat_interval_s"] = step.values["duration"]


def _set_made(name: str, value: Callable[[Step], Any]) -> Callable[..., None]:
    def set_it(step: Step, made: dict[str, Any], timing: dict[str, Any]) -> None:
        made[name] = value(step)

    return set_it


_SETTERS: Final[Mapping[str, Callable[..., None]]] = {
    "NUMBER nodes|node": _set_made("nodes", lambda step: step.values["number"]),
    "seed NUMBER": _set_made("seed", lambda step: step.values["number"]),
    "election timeout DURATION [to DURATION]": _set_timeout,
    "heartbeat DURATION": _set_heartbeat,
    "pre-vote on|off": _set_switch("pre_vote"),
    "check-quorum on|off": _set_switch("check_quorum"),
    "fast-failover on|off": _set_switch("fast_failover"),
    "widening on|off": _set_switch("widening_max", 1),
    "network delay DURATION [to DURATION]": _set_made("delay_s", _span),
    "network loss PERCENT": _set_made("loss", lambda step: step.values["percent"]),
}


_OF_ROLES: Final = (
    "leader",
    "old",
    "follower",
    "another",
    "followers",
    "all",
    "others",
    "everyone",
)


def _single_words(expected: Sequence[str]) -> Iterator[str]:
    """What a mistyped word may have been."""
    for each in expected:
        if each.startswith("who ("):
            yield from _OF_ROLES
        elif " " not in each:
            yield each


def _listed(expected: Sequence[str]) -> str:
    *most, last = expected
    return f"{', '.join(most)} or {last}" if most else last


# -- one phrase ------------------------------------------------------------------------------


@final
class _Matcher:
    """Tries one phrase on a statement."""

    def __init__(self, tokens: Sequence[_Token], nodes: set[str], names: set[str]) -> None:
        self.values: dict[str, Any] = {"words": frozenset()}
        self._tokens = tokens
        self._nodes = nodes
        self._names = names
        self._skipped: list[tuple[int, set[str]]] = []

    def also(self, at: int) -> set[str]:
        """What could have stood there, and was left out."""
        return set().union(*(expected for place, expected in self._skipped if place == at))

    def match(self, elements: Sequence[Any], at: int) -> int:
        """Returns where the phrase ends; raises `_Mismatch`."""
        for element in elements:
            match element:
                case _Words(words=words):
                    text = self._text(at)
                    if text not in words or self._tokens[at].is_quoted:
                        raise self._miss(at, {*words})
                    if len(words) > 1:
                        self.values["words"] |= {text}
                    at += 1
                case _Slot(name=name):
                    at = self._fill(name, at)
                case _Optional(elements=inner):
                    at = self._maybe(inner, at)
        return at

    def _maybe(self, elements: Sequence[Any], at: int) -> int:
        first = elements[0]
        if isinstance(first, _Slot):
            return self.match(elements, at) if at < len(self._tokens) else at
        if self._text(at) in first.words:
            self.values["words"] |= {self._text(at)}
            return self.match(elements, at)
        self._skipped.append((at, {*first.words}))
        return at

    def _miss(self, at: int, expected: set[str], why: str = "") -> _Mismatch:
        return _Mismatch(at, expected | self.also(at), why)

    def _text(self, at: int) -> str:
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _fill(self, name: str, at: int) -> int:
        value, end = self._WHAT_FILLS[name](self, at)
        key = name.lower()
        self.values[f"{key}2" if key in self.values else key] = value
        return end

    def _number(self, at: int) -> tuple[Any, int]:
        if not re.fullmatch(r"[0-9]{1,9}", self._text(at)):
            raise self._miss(at, {SLOTS["NUMBER"]})
        return int(self._text(at)), at + 1

    def _count(self, at: int) -> tuple[Any, int]:
        if self._text(at) == "all":
            return None, at + 1
        if not re.fullmatch(r"[0-9]{1,9}", self._text(at)):
            raise self._miss(at, {SLOTS["COUNT"]})
        return int(self._text(at)), at + 1

    def _duration(self, at: int) -> tuple[Any, int]:
        found = _DURATION.fullmatch(self._text(at))
        if found is None:
            raise self._miss(at, {SLOTS["DURATION"]})
        return float(found[1]) * _UNITS_S[found[2]], at + 1

    def _percent(self, at: int) -> tuple[Any, int]:
        found = _PERCENT.fullmatch(self._text(at))
        if found is None or float(found[1]) > 100:
            raise self._miss(at, {SLOTS["PERCENT"]})
        return float(found[1]) / 100, at + 1

    def _word(self, at: int, what: str = "WORD") -> tuple[Any, int]:
        if at >= len(self._tokens) or self._text(at) == ",":
            raise self._miss(at, {SLOTS[what]})
        return self._text(at), at + 1

    def _value(self, at: int) -> tuple[Any, int]:
        value, end = self._word(at, "VALUE")
        is_nothing = value == "nothing" and not self._tokens[at].is_quoted
        return None if is_nothing else value, end

    def _name(self, at: int) -> tuple[Any, int]:
        text = self._text(at)
        if text in words():
            raise self._miss(at, {SLOTS["NAME"]}, f"{text!r} is a word of scenarios, and no name")
        if not _NAME.fullmatch(text):
            raise self._miss(at, {SLOTS["NAME"]})
        return text, at + 1

    def _who(self, at: int) -> tuple[Any, int]:
        found: list[Who] = []
        while True:
            one, at = self._one(at)
            found.append(one)
            if self._text(at) not in (",", "and") or at + 1 >= len(self._tokens):
                self._skipped.append((at, {"and"}))
                return tuple(found), at
            at += 1
            if self._text(at) == "and":  # "0, 1, and 2"
                at += 1

    def _one(self, at: int) -> tuple[Who, int]:
        if self._text(at) == "the":
            at += 1
        pair = f"{self._text(at)} {self._text(at + 1)}"
        if pair in _PAIRS:
            return Who(_PAIRS[pair]), at + 2
        text = self._text(at)
        if text in _SINGLES:
            return Who(_SINGLES[text]), at + 1
        if text == "node":
            at, text = at + 1, self._text(at + 1)
            if not text.isdecimal():
                raise self._miss(at, {SLOTS["NUMBER"]})
        if text.isdecimal():
            if text not in self._nodes:
                known = ", ".join(sorted(self._nodes))
                raise self._miss(at, set(), f"there is no node {text}; there are {known}")
            return Who("node", text), at + 1
        if text in self._names:
            return Who("name", text), at + 1
        seconds = {pair.removeprefix(f"{text} ") for pair in _PAIRS if pair.startswith(f"{text} ")}
        if get_close_matches(self._text(at + 1), seconds, n=1):  # "a folower": that is the mistake
            raise self._miss(at + 1, seconds)
        raise self._miss(at, {SLOTS["WHO"], *self._names})

    _WHAT_FILLS: Final[Mapping[str, Callable[[_Matcher, int], tuple[Any, int]]]] = {
        "NUMBER": _number,
        "COUNT": _count,
        "DURATION": _duration,
        "PERCENT": _percent,
        "WHO": _who,
        "WORD": _word,
        "NAME": _name,
        "KEY": lambda self, at: self._word(at, "KEY"),
        "VALUE": _value,
        "CLIENT": lambda self, at: self._word(at, "CLIENT"),
    }


_PAIRS: Final = {
    "old leader": "old leader",
    "a follower": "a follower",
    "another follower": "another follower",
    "all followers": "followers",
    "all others": "all others",
    "all nodes": "everyone",
}
_SINGLES: Final = {
    "leader": "leader",
    "followers": "followers",
    "everyone": "everyone",
    "it": "it",
    "them": "it",
}
