"""check_linearizable: every part of a history, the small ones first.

Rules of this file: one part that is illegal decides; so the small ones, where that shows soonest,
go before one that may take all the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ...core.errors import ConfigError
from .history import History
from .model import Model
from .operation import Operation, OperationOutcome
from .result import Illegal, LinearizabilityResult, Linearizable, Prefix, Refusal, Unknown
from .search import Place, Search


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
