"""Histories to check the checker with: simulated ones, which are right by construction, and a dumb
checker that tries every order.

Rules of this file:

* A simulated operation takes effect at a moment that is drawn between call and answer, on a single
  copy; nothing of that moment is in the history.
* The dumb checker shares no code with the real one but the models' `apply`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any

from trioraft.testing.linearizability import Model, Operation, OperationOutcome

OK = OperationOutcome.OK

Draw = Callable[[random.Random, int], Any]
"""A call, given a random source and a number that is not used twice."""


def simulated(
    model: Model[Any],
    draw: Draw,
    *,
    count: int,
    clients: int = 5,
    pending: float = 0.0,
    seed: int = 0,
) -> list[Operation]:
    """A history of `count` operations that is linearizable.

    Args:
        model: the single copy.
        draw: makes the calls.
        count: of operations.
        clients: how many are at work at a time.
        pending: the share of operations whose outcome nobody learns; half of those take effect.
        seed: of everything that is drawn.
    """
    rng = random.Random(seed)
    ready_at = [rng.random() for _ in range(clients)]
    planned = []
    effects = []
    for number in range(count):
        client = min(range(clients), key=ready_at.__getitem__)
        called_at = ready_at[client]
        effect_at = called_at + rng.expovariate(1)
        returned_at = effect_at + rng.expovariate(1)
        ready_at[client] = returned_at + rng.expovariate(2)
        is_pending = rng.random() < pending
        happens = not is_pending or rng.random() < 0.5
        if happens:
            effects.append((effect_at, number))
        planned.append((called_at, returned_at, client, is_pending, number))
    calls = {number: draw(rng, number) for number in range(count)}
    results = {}
    state = model.initial()
    for _, number in sorted(effects):
        state, results[number] = model.apply(state, calls[number])
    return [
        Operation(f"c{client}", calls[number], called_at)
        if is_pending
        else Operation(f"c{client}", calls[number], called_at, returned_at, OK, results[number])
        for called_at, returned_at, client, is_pending, number in planned
    ]


def dumb_check(operations: Sequence[Operation], model: Model[Any]) -> bool:
    """Whether any order of the answered and any of the pending operations explains the answers."""
    happened = [op for op in operations if op.outcome is not OperationOutcome.FAILED]
    answered = [op for op in happened if op.outcome is OK]
    pending = [op for op in happened if op.outcome is not OK]
    return any(
        _keeps_time(order) and _explains(order, model)
        for size in range(len(pending) + 1)
        for chosen in combinations(pending, size)
        for order in permutations([*answered, *chosen])
    )


def _keeps_time(order: Sequence[Operation]) -> bool:
    """Nothing stands before what was answered before it was called."""
    return not any(
        later.returned_at is not None and later.returned_at < earlier.called_at
        for earlier, later in combinations(order, 2)
    )


def _explains(order: Sequence[Operation], model: Model[Any]) -> bool:
    state = model.initial()
    for operation in order:
        state, result = model.apply(state, operation.call)
        if operation.outcome is OK and result != operation.result:
            return False
    return True


def explained_by(order: Sequence[Operation], model: Model[Any]) -> bool:
    """Whether this order keeps time and explains every answer in it; for long orders."""
    latest_call = float("-inf")
    for operation in order:
        latest_call = max(latest_call, operation.called_at)
        if operation.returned_at is not None and operation.returned_at < latest_call:
            return False
    return _explains(order, model)
