"""Judging: is what the clients of a simulation saw linearizable?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..testing.linearizability import KeyValue, Operation, OperationOutcome, check_linearizable
from .machine import CAS, GET
from .outcomes import OPEN_S, ClientCall

PATIENCE_S: Final = 30.0
"""A check that takes longer has not passed."""


def check_history(history: Sequence[ClientCall]) -> str | None:
    """What is wrong with this history; None if it is linearizable."""
    result = check_linearizable(list(operations_of(history)), KeyValue(), PATIENCE_S)
    return None if result else str(result)


def operations_of(history: Sequence[ClientCall]) -> Iterator[Operation]:
    """The same for the checker: a register that holds 0 is a key that is not there."""
    for call in history:
        is_open = call.completed_s == OPEN_S
        yield Operation(
            client=str(call.client),
            call=_call(call),
            called_at=call.invoked_s,
            returned_at=None if is_open else call.completed_s,
            outcome=OperationOutcome.UNKNOWN if is_open else OperationOutcome.OK,
            result=None if is_open else _result(call),
        )


def _call(call: ClientCall) -> object:
    key = str(call.key)
    if call.kind == GET:
        return KeyValue.Get(key)
    if call.kind == CAS:
        return KeyValue.CompareAndSet(key, call.expected or None, call.argument)
    return KeyValue.Put(key, call.argument)


def _result(call: ClientCall) -> object:
    if call.kind == GET:
        return call.result or None
    return bool(call.result) if call.kind == CAS else None
