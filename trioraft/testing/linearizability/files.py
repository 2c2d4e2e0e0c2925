"""Histories as text: a line that says what this is, then a line of JSON for each operation. Fields
are only added, with a default; another meaning is another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ...core.decoding import UNREADABLE
from .history import History, HistoryError, Operation, OperationOutcome
from .models import MODELS, Model

FORMAT: Final = "trioraft-history"
VERSION: Final = 1
HISTORY_BYTES_MAX: Final = 256 << 20
"""Largest file that is read as a history; a device that never ends is none."""

T = TypeVar("T")


class HistoryHeader(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    version: int
    model: str


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation."""

    client: str
    call: msgspec.Raw
    called_at: int | float
    outcome: OperationOutcome
    returned_at: int | float | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


def save_history(
    path: Path | str, history: History | Iterable[Operation], model: Model[Any]
) -> None:
    """Write a history to a file, to look at it or to check it again. An old one is replaced.

    Args:
        path: the file.
        history: what to write.
        model: the one to check it against; its name is written as well.

    Raises:
        OSError: the file cannot be written.
    """
    operations = history.operations() if isinstance(history, History) else history
    encode = msgspec.json.Encoder().encode
    lines = [encode(HistoryHeader(FORMAT, VERSION, model.name))]
    lines += [encode(_line(operation)) for operation in operations]
    Path(path).write_bytes(b"\n".join([*lines, b""]))


def load_history(
    path: Path | str, model: Model[Any] | None = None
) -> tuple[Sequence[Operation], Model[Any]]:
    """Read a history that `save_history` wrote.

    Args:
        path: the file.
        model: the one it was written with; without it, the one of trioraft's own that is named in
            the file.

    Returns:
        The operations and the model: what `check_linearizable` wants.

    Raises:
        HistoryError: it is no history, or one of another model or version.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        content = file.read(HISTORY_BYTES_MAX + 1)
    if len(content) > HISTORY_BYTES_MAX:
        raise HistoryError(f"{path} has more than {HISTORY_BYTES_MAX} bytes: no history has")
    first, *others = content.split(b"\n")
    header = _decoded(first, HistoryHeader, 1)
    if (header.format, header.version) != (FORMAT, VERSION):
        raise HistoryError(
            f"{path} is {header.format!r} of version {header.version}; this reads {FORMAT!r} of "
            f"version {VERSION}"
        )
    model = model or MODELS.get(header.model)
    if model is None or model.name != header.model:
        raise HistoryError(
            f"{path} is a history of {header.model!r}: give the model of that name; here are "
            f"{', '.join(sorted(MODELS))}"
        )
    numbered = ((number, line) for number, line in enumerate(others, 2) if line.strip())
    return [_operation(line, model, number) for number, line in numbered], model


def _line(operation: Operation) -> Line:
    return Line(
        operation.client,
        msgspec.Raw(msgspec.json.encode(operation.call)),
        operation.called_at,
        operation.outcome,
        operation.returned_at,
        msgspec.Raw(msgspec.json.encode(operation.result)),
    )


def _operation(text: bytes, model: Model[Any], number: int) -> Operation:
    line = _decoded(text, Line, number)
    call = _decoded(line.call, model.calls, number)
    result = None
    if line.outcome is OperationOutcome.OK:
        result = _decoded(line.result, model.results, number)
    try:
        return Operation(line.client, call, line.called_at, line.returned_at, line.outcome, result)
    except HistoryError as error:
        raise HistoryError(f"line {number}: {error}") from None


def _decoded(text: bytes | msgspec.Raw, wanted: type[T], number: int) -> T:
    try:
        return msgspec.json.decode(text, type=wanted)
    except UNREADABLE as error:
        raise HistoryError(f"line {number} is no line of a history: {error}") from error
