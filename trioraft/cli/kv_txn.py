"""`trioraft kv txn`: transactions, written as people would say them.

    trioraft kv txn --if 'stock > 0' --then 'incr sold' --then 'put order/7 one' --else 'get stock'

Words are split as a shell splits them, so keys and values with spaces stand in quotes. Without
options the same is read from standard input, a line each: `if stock > 0`, `then incr sold`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, cast, get_args

from ..kv.client import KvClient
from ..kv.commands import (
    Compare,
    CompareBy,
    CompareHow,
    Deleted,
    Found,
    Incremented,
    Operation,
    Page,
    Written,
)
from ..kv.transactions import HOWS, Do, How, If
from .connecting import ReachedCluster, SaidNo, reaching
from .kv_values import AsJson, as_bytes, print_json, shown
from .saying import read_input, say
from .signature import BadParameter, Commands, Option
from .values import parse_duration_s

app: Commands = Commands(help="")

TXN_BYTES_MAX: Final = 1024 * 1024
"""Of a transaction on standard input."""
_NUMBERS: Final[Mapping[str, CompareBy]] = {
    "changed": CompareBy.CHANGED_INDEX,
    "created": CompareBy.CREATED_INDEX,
    "version": CompareBy.VERSION,
    "lease": CompareBy.LEASE,
    "count": CompareBy.COUNT,
}
_CONDITIONS: Final = (
    "KEY = VALUE (or !=, <, <=, >, >=), KEY absent, KEY present, and of numbers version(KEY), "
    "created(KEY), changed(KEY), lease(KEY), count(PREFIX)"
)
_ACTIONS: Final = (
    "put KEY VALUE [ttl=TIME] [lease=ID], append KEY VALUE, delete KEY, delete-range "
    "PREFIX, incr KEY [BY], get KEY, list [PREFIX]"
)

Conditions = Annotated[
    list[str] | None,
    Option("--if", metavar="CONDITION", show_default=False, help=f"What must hold: {_CONDITIONS}."),
]
Then = Annotated[
    list[str] | None,
    Option(
        "--then", metavar="ACTION", show_default=False, help=f"What to do if all hold: {_ACTIONS}."
    ),
]
Else = Annotated[
    list[str] | None,
    Option("--else", metavar="ACTION", show_default=False, help="What to do otherwise."),
]


@app.command()
@reaching
async def txn(
    cluster: ReachedCluster,
    if_: Conditions = None,
    then: Then = None,
    else_: Else = None,
    as_json: AsJson = False,
) -> None:
    """Do several things at once, if something holds. The answer is no if it does not.

    Without options it is read from standard input: lines that begin with if, then or else.
    """
    parts = {"if": if_ or [], "then": then or [], "else": else_ or []}
    if not any(parts.values()):
        parts = _from_lines(read_input(TXN_BYTES_MAX + 1))
    done = await KvClient(cluster.client).txn(
        if_=[condition_of(text) for text in parts["if"]],
        then=[operation_of(text) for text in parts["then"]],
        else_=[operation_of(text) for text in parts["else"]],
    )
    if not as_json:
        say(f"{'then' if done.succeeded else 'else'}, index {done.index}")
    else:
        print_json(index=done.index, succeeded=done.succeeded)
    for result in done.results:
        _show(result, as_json)
    if not done.succeeded:
        raise SaidNo


def _from_lines(content: bytes) -> dict[str, list[str]]:
    if len(content) > TXN_BYTES_MAX:
        raise BadParameter(f"standard input has more than {TXN_BYTES_MAX} bytes")
    parts: dict[str, list[str]] = {"if": [], "then": [], "else": []}
    for number, line in enumerate(os.fsdecode(content).splitlines(), 1):
        first, _, rest = line.strip().partition(" ")
        if not first or first.startswith("#"):
            continue
        if first not in parts:
            raise BadParameter(f"line {number} begins with {first!r}: give if, then or else")
        parts[first].append(rest)
    if not any(parts.values()):
        raise BadParameter("nothing to do: give --then, or lines on standard input")
    return parts


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadParameter(f"{text!r}: {error}") from None


def condition_of(text: str) -> Compare:
    """A condition, as it is written."""
    match _words(text):
        case [key, "absent"]:
            return If.absent(as_bytes(key))
        case [key, "present"]:
            return If.present(as_bytes(key))
        case [what, how, operand] if how in get_args(How):
            name, bracket, key = what.partition("(")
            if bracket and key.endswith(")") and name in _NUMBERS:
                by, which = _NUMBERS[name], as_bytes(key[:-1])
                number = _number(operand, text)
                return Compare(which, by, _how(how), number, is_prefix=by is CompareBy.COUNT)
            return If.value(as_bytes(what), cast("How", how), as_bytes(operand))
    raise BadParameter(f"{text!r} is no condition: give {_CONDITIONS}")


def _how(text: str) -> CompareHow:
    return HOWS[text]


def _number(word: str, text: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise BadParameter(f"{text!r}: {word!r} is no whole number") from None


def operation_of(text: str) -> Operation:
    """Something to do, as it is written."""
    match _words(text):
        case ["put", key, value, *further]:
            return _put(as_bytes(key), as_bytes(value), further, text)
        case ["append", key, value]:
            return Do.append(as_bytes(key), as_bytes(value))
        case [("delete" | "delete-range" | "get" | "list") as name, key]:
            return _BY_KEY[name](as_bytes(key))
        case ["list"]:
            return Do.page()
        case ["incr", key]:
            return Do.increment(as_bytes(key))
        case ["incr", key, by]:
            return Do.increment(as_bytes(key), _number(by, text))
    raise BadParameter(f"{text!r} is nothing to do: give {_ACTIONS}")


_BY_KEY: Final[Mapping[str, Callable[[bytes], Operation]]] = {
    "delete": Do.delete,
    "delete-range": Do.delete_range,
    "get": Do.get,
    "list": Do.page,
}


def _put(key: bytes, value: bytes, further: Sequence[str], text: str) -> Operation:
    lease, ttl_s = None, None
    for word in further:
        name, _, said = word.partition("=")
        if name == "lease":
            lease = _number(said, text)
        elif name == "ttl":
            try:
                ttl_s = parse_duration_s(said)
            except ValueError as error:
                raise BadParameter(f"{text!r}: {error}") from None
        else:
            raise BadParameter(f"{text!r}: {word!r} means nothing: give ttl=TIME or lease=ID")
    return Do.put(key, value, lease=lease, ttl_s=ttl_s)


def _show(result: Written | Incremented | Deleted | Found | Page, as_json: bool) -> None:
    match result:
        case Written():
            fields = {"existed": result.existed, "version": result.version}
            text = "written" if result.version else "deleted"
        case Incremented():
            fields = {"number": result.number}
            text = str(result.number)
        case Deleted():
            fields = {"deleted": result.count}
            text = f"{result.count} deleted"
        case Found():
            if as_json:
                return print_json(value=result.value, changed_index=result.changed_index)
            return say("absent" if result.value is None else shown(result.value))
        case Page():
            for pair in result.pairs:
                if as_json:
                    print_json(key=pair.key, value=pair.value, changed_index=pair.changed_index)
                else:
                    say(f"{shown(pair.key)}\t{shown(pair.value)}")
            return None
    return print_json(**fields) if as_json else say(text)
