"""check_linearizable: every part of a history, the small ones first; and what can come of it.

One part that is illegal decides; so the small ones, where that shows soonest, go before one that
may take all the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias, final

import attrs

from ...core.errors import ConfigError, RaftError
from .history import History, Operation, OperationOutcome
from .models import Model
from .search import Place, Search

LINES_SHOWN_MAX: Final = 12
"""Operations shown at the end of an order; those before it are counted."""


@final
class NotLinearizable(RaftError, AssertionError):  # noqa: N818 - as the result says
    """A history is not linearizable, or nobody knows.

    Attributes:
        result: an `Illegal` or an `Unknown`.
    """

    def __init__(self, result: Illegal | Unknown) -> None:
        self.result = result
        super().__init__(str(result))


@final
@attrs.frozen
class Refusal:
    """An operation that had to be next, or could have been, and does not fit."""

    operation: Operation
    would_return: Any
    """The only result that it could have had here."""


@final
@attrs.frozen
class Prefix:
    """An order of operations that is right as far as it goes, and cannot be continued."""

    order: tuple[Operation, ...]
    state: Any
    """The model's state after them."""
    refusals: tuple[Refusal, ...]
    """What could come next; the first had to, before anything that was called later."""

    def __str__(self) -> str:
        hidden = max(0, len(self.order) - LINES_SHOWN_MAX)
        lines = ["  this order is right as far as it goes:"]
        if hidden:
            lines.append(f"    ({hidden} before)")
        lines += [f"    {operation}" for operation in self.order[hidden:]]
        lines.append(f"  state then: {shortened(self.state)}")
        lines.append("  and none of these can be next:")
        for refusal in self.refusals:
            would = shortened(refusal.would_return)
            lines.append(f"    {refusal.operation}: here it would return {would}")
        return "\n".join(lines)


@final
@attrs.frozen
class Linearizable:
    """There is an order that explains every answer."""

    orders: Mapping[str, tuple[Operation, ...]]
    """One such order of each part, with those pending operations that took effect by then."""
    steps: int
    """How many places the search looked at."""

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        placed = sum(map(len, self.orders.values()))
        return f"linearizable: {placed} operations in order, {self.steps} steps"

    def raise_if_not_linearizable(self) -> None:
        """Does nothing."""


@final
@attrs.frozen
class Illegal:
    """No order explains every answer."""

    part: str
    """The model's name for the part, such as a key; empty where there is only one."""
    operations: tuple[Operation, ...]
    """The part's operations."""
    prefixes: tuple[Prefix, ...]
    """The longest orders that were found; at least one."""
    steps: int

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        where = f" of {self.part!r}" if self.part else ""
        answered = sum(not operation.is_pending for operation in self.operations)
        placed = sum(not operation.is_pending for operation in self.prefixes[0].order)
        head = (
            f"not linearizable: of {answered} answers{where} at most {placed} can be explained, "
            f"with {len(self.operations) - answered} operations of unknown outcome"
        )
        return "\n  or:\n".join([f"{head}\n{self.prefixes[0]}", *map(str, self.prefixes[1:])])

    def raise_if_not_linearizable(self) -> NoReturn:
        """Always raises `NotLinearizable`."""
        raise NotLinearizable(self)


@final
@attrs.frozen
class Unknown:
    """The time was up before the search was through."""

    part: str
    """The part that was looked at when the time was up."""
    timeout_s: float
    steps: int

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        where = f" (at {self.part!r})" if self.part else ""
        return (
            f"unknown: no order was found, nor shown to be missing, within {self.timeout_s:g} s"
            f"{where}, {self.steps} steps. Give it more time, or record fewer operations at a "
            "time, fewer of unknown outcome, or more keys"
        )

    def raise_if_not_linearizable(self) -> NoReturn:
        """Always raises `NotLinearizable`: not knowing is no pass."""
        raise NotLinearizable(self)


LinearizabilityResult: TypeAlias = Linearizable | Illegal | Unknown

SHOWN_CHARS_MAX: Final = 200


def shortened(value: Any) -> str:
    """A value's repr; of a long one its beginning and, since texts grow there, its end."""
    text = repr(value)
    if len(text) <= SHOWN_CHARS_MAX:
        return text
    half = SHOWN_CHARS_MAX // 2
    return f"{text[:half]}…({len(text) - 2 * half} characters)…{text[-half:]}"


def check_linearizable(
    history: History | Iterable[Operation], model: Model[Any], timeout_s: float = 60.0
) -> LinearizabilityResult:
    """Is there an order of these operations that explains every answer?

    Each operation takes effect at one moment between its call and its answer; one of unknown
    outcome at any time after its call, or never; one that failed, never (Herlihy and Wing).

    Args:
        history: what the clients saw.
        model: what a single copy would have answered.
        timeout_s: how long to look, in seconds. The question is hard in general: with many
            operations at a time, or many of unknown outcome, it may take for ever.

    Returns:
        `Linearizable`, which is true; `Illegal` or `Unknown`, which are false. Each has
        `raise_if_not_linearizable()`.

    Raises:
        ConfigError: the time is not positive.
    """
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s is {timeout_s}: give the search some time")
    deadline = time.monotonic() + timeout_s
    operations = history.operations() if isinstance(history, History) else tuple(history)
    happened = [op for op in operations if op.outcome is not OperationOutcome.FAILED]
    orders: dict[str, tuple[Operation, ...]] = {}
    steps = 0
    parts = sorted(model.partition(happened).items(), key=lambda item: len(item[1]))
    for name, part in parts:
        search = Search(part, model)
        end = search.run(deadline)
        steps += end.steps
        if end.order is not None:
            orders[name] = tuple(end.order)
        elif end.timed_out:
            return Unknown(name, timeout_s, steps)
        else:
            return _illegal(name, part, search, end.dead_ends, steps)
    return Linearizable(orders, steps)


def _illegal(
    name: str, part: Sequence[Operation], search: Search, ends: tuple[Place, ...], steps: int
) -> Illegal:
    prefixes = []
    for end in ends:
        refusals = tuple(Refusal(*refused) for refused in search.refused_at(end))
        prefixes.append(Prefix(tuple(end.order()), search.state_at(end), refusals))
    return Illegal(name, tuple(part), tuple(prefixes), steps)
