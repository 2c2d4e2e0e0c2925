"""check_linearizable: every part of a history, the small ones first; and what can come of it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Final, NoReturn, TypeAlias, final

import attrs

from ...core.errors import ConfigError, RaftError
from .history import History, Operation, OperationOutcome
from .models import Model

STEPS_PER_LOOK_AT_CLOCK: Final = 128

DEAD_ENDS_MAX: Final = 3
"""How many of the longest orders are kept for people to look at."""


@attrs.define(eq=False)
class Place:
    """An operation placed, and where the search stands after it."""

    frontier: int
    window: int
    state: Any
    operation: Operation | None
    before: Place | None
    answered: int
    """How many operations that have an answer are placed."""

    def order(self) -> list[Operation]:
        """The operations placed, first to last."""
        found = []
        at = self
        while at.operation is not None and at.before is not None:
            found.append(at.operation)
            at = at.before
        return found[::-1]


@attrs.frozen
class SearchEnd:
    """How a search ended."""

    order: list[Operation] | None
    """An order that explains everything, if one was found."""
    dead_ends: tuple[Place, ...]
    """Places from which nothing that has an answer can follow, after as many as possible."""
    steps: int
    timed_out: bool


@final
class Search:
    """One part of a history, indexed for the search.

    Operations with an answer are known by their position in the order of answers.
    """

    def __init__(self, operations: Sequence[Operation], model: Model[Any]) -> None:
        """Indexes; looks for nothing yet.

        Args:
            operations: one part, without those that certainly did not happen.
            model: what they are checked against.
        """
        answered = [op for op in operations if not op.is_pending]
        answered.sort(key=lambda op: (op.returned_at, op.called_at))
        self.model = model
        self.answered: Final = answered
        pending = sorted((op for op in operations if op.is_pending), key=lambda op: op.called_at)
        bits, self._open = _index(answered, pending)
        self._bits = bits[: len(answered)]
        self._only_reads = [model.only_reads(op) for op in answered]
        self._abstraction = model.abstraction(operations)
        self._alike = _group_alike(list(zip(pending, bits[len(answered) :], strict=True)))
        self._seen: set[tuple[int, int, Any]] = set()
        self._dead_ends: list[Place] = []

    def run(self, deadline: float) -> SearchEnd:
        """Look for an order until `deadline` (of `time.monotonic`, in seconds)."""
        root = Place(0, 0, self._abstraction(self.model.initial()), None, None, 0)
        stack = [self._ways_on(root)]
        at: Place | None = root
        steps = 0
        while stack:
            if at is not None and at.frontier == len(self.answered):
                return SearchEnd(at.order(), (), steps, timed_out=False)
            steps += 1
            if steps % STEPS_PER_LOOK_AT_CLOCK == 0 and time.monotonic() >= deadline:
                return SearchEnd(None, tuple(self._dead_ends), steps, timed_out=True)
            at = next(stack[-1], None)
            if at is None:
                stack.pop()
            else:
                stack.append(self._ways_on(at))
        return SearchEnd(None, tuple(self._dead_ends), steps, timed_out=False)

    def state_at(self, at: Place) -> Any:
        """The model's own state there; the search's may stand for several."""
        state = self.model.initial()
        for operation in at.order():
            state, _ = self.model.apply(state, operation.call)
        return state

    def refused_at(self, at: Place) -> Iterator[tuple[Operation, Any]]:
        """What has an answer and could be next at a dead end, with the result it would have."""
        state = self.state_at(at)
        for number in self._open[at.frontier]:
            if not at.window & self._bits[number]:
                operation = self.answered[number]
                yield operation, self.model.apply(state, operation.call)[1]

    def _ways_on(self, at: Place) -> Iterator[Place]:
        """Every place one operation further where nobody has been: first those with an answer, in
        the order of answers, which most often is the order of effects."""
        window, state, bits, answered = at.window, at.state, self._bits, self.answered
        apply = self._apply
        is_dead_end = True
        for number in self._open[at.frontier]:
            bit = bits[number]
            if window & bit:
                continue
            operation = answered[number]
            after, result = apply(state, operation.call)
            if result != operation.result:
                continue
            is_dead_end = False
            reads = self._only_reads[number]
            if not reads and self._is_idle(at, operation, after):
                continue
            place = self._enter(at, operation, bit, after, at.answered + 1)
            if place is not None:
                yield place
            if reads:
                return
        if is_dead_end:
            self._note_dead_end(at)
        yield from self._pending_ways_on(at)

    def _pending_ways_on(self, at: Place) -> Iterator[Place]:
        latest = self.answered[at.frontier].returned_at
        for alike in self._alike:
            # Of pending calls that are equal, the first goes first: they can stand for each other.
            operation, bit = next((pair for pair in alike if not at.window & pair[1]), (None, 0))
            if operation is None or latest is None or operation.called_at > latest:
                continue
            after, _ = self._apply(at.state, operation.call)
            if after == at.state or self._is_idle(at, operation, after):
                continue
            place = self._enter(at, operation, bit, after, at.answered)
            if place is not None:
                yield place

    def _is_idle(self, at: Place, operation: Operation, after: Any) -> bool:
        """Whether the pending operation that led here makes no difference to this next one.

        If `operation` has the same answer and effect without it, an order without it is as good.
        If the two can change places, the order with the pending one later is as good. Either is
        looked at from the place before, so nothing is missed here. Two pending ones are never
        made to change places: each order would point to the other.
        """
        if at.operation is None or at.before is None or not at.operation.is_pending:
            return False
        without, result = self._apply(at.before.state, operation.call)
        if operation.is_pending:
            return bool(without == after)
        if result != operation.result:
            return False
        return bool(without == after or self._apply(without, at.operation.call)[0] == after)

    def _apply(self, state: Any, call: Any) -> tuple[Any, Any]:
        after, result = self.model.apply(state, call)
        return self._abstraction(after), result

    def _enter(
        self, at: Place, operation: Operation, bit: int, state: Any, answered: int
    ) -> Place | None:
        """The place after `operation`; None if the search has been there."""
        frontier, window, bits = at.frontier, at.window | bit, self._bits
        while frontier < len(bits) and window & bits[frontier]:
            window ^= bits[frontier]
            frontier += 1
        key = (frontier, window, state)
        if key in self._seen:
            return None
        self._seen.add(key)
        return Place(frontier, window, state, operation, at, answered)

    def _note_dead_end(self, at: Place) -> None:
        longest = self._dead_ends[0].answered if self._dead_ends else -1
        if at.answered > longest:
            self._dead_ends = [at]
        elif at.answered == longest and len(self._dead_ends) < DEAD_ENDS_MAX:
            self._dead_ends.append(at)


def _index(
    answered: Sequence[Operation], pending: Sequence[Operation]
) -> tuple[list[int], list[list[int]]]:
    """A bit for every operation, and for every answer who was open when it came.

    Operations that are open at one time have different bits.

    Args:
        answered: in the order of their answers.
        pending: open from their call on, for ever.

    Returns:
        The bits of `answered`, then of `pending`; and per answer the positions in `answered`, in
        order, of the operations that were called before it and not answered before it.
    """
    everyone = [*answered, *pending]
    calls = sorted(range(len(everyone)), key=lambda number: everyone[number].called_at)
    called_at = [everyone[number].called_at for number in calls]
    bits = [0] * len(everyone)
    free: list[int] = []
    open_now: set[int] = set()
    open_at_answer = []
    begun = used = 0
    for number, operation in enumerate(answered):
        # A call at the very time of an answer comes first: the two overlap.
        until = bisect_right(called_at, operation.returned_at or 0)
        for other in calls[begun:until]:
            if free:
                bits[other] = 1 << heappop(free)
            else:
                bits[other], used = 1 << used, used + 1
            if other < len(answered):
                open_now.add(other)
        begun = max(begun, until)
        open_at_answer.append(sorted(open_now))
        open_now.remove(number)
        heappush(free, bits[number].bit_length() - 1)
    return bits, open_at_answer


def _group_alike(pending: Sequence[tuple[Operation, int]]) -> list[list[tuple[Operation, int]]]:
    """Pending operations with equal calls together, each group by the time of the calls."""
    groups: list[list[tuple[Operation, int]]] = []
    for pair in pending:
        group = next((group for group in groups if group[0][0].call == pair[0].call), None)
        if group is None:
            groups.append([pair])
        else:
            group.append(pair)
    return groups


LINES_SHOWN_MAX: Final = 12
"""Operations shown at the end of an order; those before it are counted."""


@final
class NotLinearizable(RaftError, AssertionError):  # noqa: N818 - as the result says
    """A history is not linearizable, or nobody knows.

    Fault: of the system that was tested, or of a model that is not its.
    Remedy: the message shows the order that cannot be continued; see docs/linearizability.md.

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
        """Raise.

        Raises:
            NotLinearizable: always.
        """
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
        """Raise: not knowing is no pass.

        Raises:
            NotLinearizable: always.
        """
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
