"""Every error: whose fault it is and what to do, copies and pickles, and messages that help.

Rules of this file: errors are found, not listed. One that needs other arguments than a message has
an example below, and a test fails where it is missing.
"""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import trioraft
from tests.errors_page import PAGE, fault_and_remedy, updated
from tests.public_names import MODULES, public_errors
from trioleaks import Leak, LeakError, LeakKind
from trioraft.core.errors import (
    ApplyFailed,
    EntryAltered,
    InvariantViolation,
    NotLeader,
    NotMember,
    RaftError,
)
from trioraft.kv import HistoryCompacted
from trioraft.machines.replicated import LeadershipLost
from trioraft.machines.sessions import CommandFailed
from trioraft.net.tls import UnusableCertificates
from trioraft.rpc.errors import HandshakeRefused, NoRole
from trioraft.scenario import ScenarioError, ScenarioFailed
from trioraft.testing.linearizability import NotLinearizable, Unknown

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trioraft"

EXAMPLES: tuple[BaseException, ...] = (
    ApplyFailed(7, 2, 100, "MemoryError"),
    EntryAltered(7, 2),
    CommandFailed("ValueError", "no"),
    HandshakeRefused("cluster", "wrong cluster"),
    HistoryCompacted(1, 5),
    LeadershipLost(3, "1", "it was removed"),
    LeakError([Leak(LeakKind.TASK, "forgotten")], heading="leaks"),
    NoRole("no-role", "none"),
    NotLeader("1", ("127.0.0.1", 4001)),
    NotLeader(waiting_for=("1", "2")),
    NotMember("0", 12),
    NotLinearizable(Unknown("time is up", 1.0, 10)),
    ScenarioError("mine.scenario", 3, 7, "what is wrong: what to write"),
    ScenarioFailed("mine.scenario", 3, "expect one leader", "nobody leads", "trioraft viz"),
    UnusableCertificates(["a", "b"]),
)
INTERNAL = {
    "FrameTooSlow": "becomes the end of a connection",
    "NotSent": "becomes another attempt, or ServerLost by its base",
    "PeerRefused": "becomes the end of a connection, and a log line",
    "SaidNothing": "becomes the end of a connection",
}
"""Errors that no caller sees under this name, and why; if at all, as a base of theirs."""
COMMANDS = ("trioraft.cli.", "trioraft.sim.")
"""Their errors become what a command says, and its exit code."""


@cache
def all_errors() -> tuple[type[RaftError], ...]:
    """Every class of the package that is a `RaftError`."""
    for module in pkgutil.walk_packages(trioraft.__path__, "trioraft."):
        if not module.name.endswith(("__main__", "plugin")):
            importlib.import_module(module.name)
    found: set[type[RaftError]] = {RaftError}
    waiting = [RaftError]
    while waiting:
        for error in waiting.pop().__subclasses__():
            if error.__module__.startswith("trioraft.") and error not in found:
                found.add(error)
                waiting.append(error)
    return tuple(sorted(found, key=lambda error: error.__qualname__))


def examples_of(error: type[BaseException]) -> list[BaseException]:
    """Errors of this class; made of a message unless there are examples."""
    given = [example for example in EXAMPLES if type(example) is error]
    return given or [error("what happened: what to do")]


def pickled(error: BaseException, protocol: int | None = None) -> BaseException:
    """As it arrives in another process."""
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own, of this moment
    assert isinstance(again, BaseException)
    return again


def as_seen(error: BaseException) -> tuple[object, ...]:
    """What can be told of an error."""
    state = {name: str(value) for name, value in vars(error).items()}
    return type(error), str(error), repr(error), [str(part) for part in error.args], state


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__qualname__)
def test_copies_and_pickles_have_everything(error: type[RaftError]) -> None:
    for example in examples_of(error):
        example.add_note("seen by worker 3")
        for again in (
            copy.copy(example),
            copy.deepcopy(example),
            *(pickled(example, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        ):
            assert again is not example
            assert as_seen(again) == as_seen(example)


def test_the_others_survive_too() -> None:
    for error in public_errors().values():
        if not issubclass(error, RaftError):
            for example in examples_of(error):
                again = pickled(example)
                assert as_seen(again) == as_seen(example)


class UserError(RaftError):
    """As a user derives one: with arguments of their own."""

    def __init__(self, *, key: str, limit: int) -> None:
        super().__init__(f"{key} is beyond {limit}")
        self.key, self.limit = key, limit


def test_errors_that_users_derive_survive_too() -> None:
    again = pickled(UserError(key="colour", limit=7))
    assert isinstance(again, UserError)
    assert (again.key, again.limit, str(again)) == ("colour", 7, "colour is beyond 7")


def test_every_error_that_callers_see_is_public() -> None:
    public = set(public_errors().values())
    hidden = {
        error.__name__
        for error in all_errors()
        if error not in public
        and not error.__module__.startswith(COMMANDS)
        and not error.__name__.startswith("_")
    }
    assert hidden == set(INTERNAL)


# -- whose fault, and what to do -------------------------------------------------------------


@pytest.mark.parametrize("name", public_errors())
def test_each_says_whose_fault_it_is_and_what_to_do(name: str) -> None:
    assert fault_and_remedy(public_errors()[name]) is not None


def test_the_page_has_what_the_errors_say() -> None:
    """If it does not: `python -m tests.errors_page --update`."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == updated(page)


class WrapsError(Exception):
    """One whose lines are long.

    Fault: of a text that
        is wrapped.
    Remedy: none.
    """


def test_what_is_said_may_be_wrapped() -> None:
    assert fault_and_remedy(WrapsError) == ("of a text that is wrapped.", "none.")
    assert fault_and_remedy(ValueError) is None


# -- messages --------------------------------------------------------------------------------

MADE_ELSEWHERE = {
    *("NotLeader", "NotMember", "LeadershipLost", "HistoryCompacted", "ApplyFailed"),
    "EntryAltered",
}
"""Whose messages are made by the class itself."""
NO_REMEDY = {
    "BadMessage": "it is told to a log, about somebody else",
    "CommandFailed": "it is what a state machine raised",
    "InvariantViolation": "its note says it",
    "NotLinearizable": "its message is a report",
    "UnknownCommand": "it is in the log: its description says it",
    **INTERNAL,
}
"""Errors whose messages need not say what to do, and why."""
TWO_PARTS = re.compile(r"[:;.] \S")


def messages_in(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, error and message, as far as it stands there, of each error that is made."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[*_, ast.Constant(value=str(text))]):
                yield node.lineno, name, text
            case ast.Call(func=ast.Name(id=name), args=[*_, ast.JoinedStr(values=parts)]):
                texts = (
                    str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts
                )
                yield node.lineno, name, "".join(texts)


def is_helpless(message: str) -> bool:
    """Whether it says one thing only; what stands in `{}` may say the other."""
    return not TWO_PARTS.search(message) and not message.endswith("{}")


def test_every_message_says_what_to_do() -> None:
    names = {error.__name__ for error in all_errors()} - {*MADE_ELSEWHERE, *NO_REMEDY}
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}: {message}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if "sim" not in path.parts
        for line, name, message in messages_in(path.read_text(encoding="utf-8"))
        if name in names and is_helpless(message)
    ]
    assert found == []


def test_the_rule_bites() -> None:
    [(line, name, message)] = messages_in('raise ConfigError(f"timeout is {value}s")')
    assert (line, name) == (1, "ConfigError")
    assert is_helpless(message)
    assert not is_helpless("timeout is 0: give a positive number")


def test_a_violation_asks_to_be_reported() -> None:
    assert "please report it" in InvariantViolation("impossible").__notes__[0]


def test_modules_are_those_of_the_page() -> None:
    assert all(name.rpartition(".")[0] in MODULES for name in public_errors())
