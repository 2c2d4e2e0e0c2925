"""A scenario that was read: its settings, and its steps in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, final

import attrs

from ..core.config import Timing
from ..core.types import NodeId
from .grammar import Needs, Phrase

NODES_MAX: Final = 9
"""More do not fit on a terminal, and explain nothing."""
TIMES_MAX: Final = 100
"""So often may something be repeated."""
STEPS_MAX: Final = 10_000
"""So many steps may there be in all."""
PATIENCE_S_MIN: Final = 6.0
"""So long is waited at least for what has no `within`, however short the election timeouts are: a
busy machine is slow in other things too."""
DELAY_S: Final = (0.001, 0.005)
"""How long a message travels if nothing is said."""


@final
@attrs.frozen
class Who:
    """One of those that a phrase speaks of: a role, or (kinds "node", "name") one by its name."""

    kind: str
    name: str = ""


Value: TypeAlias = Any
"""What stood in a slot: seconds, a number, a word, or a tuple of `Who`."""


@final
@attrs.frozen
class Step:
    """One phrase, and where it stands."""

    phrase: Phrase
    values: Mapping[str, Value]
    """By slot, in lower case; of a slot that stands twice the second has a 2 behind it. Words that
    were chosen from several stand under "words"."""
    line: int
    column: int
    text: str
    """As it was written."""

    def chose(self, word: str) -> bool:
        """Whether this word of the phrase was written."""
        return word in self.values["words"]


@final
@attrs.frozen
class Settings:
    """What holds from the beginning."""

    nodes: int = 3
    seed: int | None = None
    """None: whoever plays chooses."""
    timing: Timing = attrs.field(factory=Timing)
    delay_s: tuple[float, float] = DELAY_S
    loss: float = 0.0
    """Share of messages, 0 … 1."""

    @property
    def ids(self) -> tuple[NodeId, ...]:
        """The nodes' names."""
        return tuple(map(str, range(self.nodes)))


@final
@attrs.frozen
class Scenario:
    """What happens, and what is expected. Read by `parse` or `load`.

    Attributes:
        name: what it is called.
        source: the file, as errors name it.
        about: its first comment: what it shows.
        text: all of it.
        settings: what holds from the beginning.
    """

    name: str
    source: str
    about: str
    text: str
    settings: Settings
    steps: tuple[Step, ...]
    """What is played, in this order; what is repeated stands there as often."""
    phrases: tuple[Step, ...]
    """Every phrase of the text once, settings too."""

    def needs(self) -> Iterator[tuple[Needs, Step]]:
        """What not every backend can do, and the first step that wants it."""
        seen = set()
        for step in self.phrases:
            if step.phrase.needs is not None and step.phrase.needs not in seen:
                seen.add(step.phrase.needs)
                yield step.phrase.needs, step

    def slowed(self, factor: float) -> Scenario:
        """The same story so many times as slow: every time of it, and the nodes' patience. Messages
        travel as fast as ever, unless it says itself how fast that is.

        Raises:
            ConfigError: no timing can be that slow, or quick.
        """
        timing = self.settings.timing
        low_s, high_s = timing.election_timeout_s
        slow = attrs.evolve(
            timing,
            election_timeout_s=(factor * low_s, factor * high_s),
            heartbeat_interval_s=factor * timing.heartbeat_interval_s,
            fast_failover_spread_s=factor * timing.fast_failover_spread_s,
        )
        delay_s = self.settings.delay_s
        if delay_s != DELAY_S:
            delay_s = factor * delay_s[0], factor * delay_s[1]
        return attrs.evolve(
            self,
            settings=attrs.evolve(self.settings, timing=slow, delay_s=delay_s),
            steps=tuple(_slowed(step, factor) for step in self.steps),
        )

    @property
    def has_keys(self) -> bool:
        """Whether clients write and read keys; otherwise commands are proposed, or nothing is."""
        return any(need is Needs.KV for need, _ in self.needs())


def _slowed(step: Step, factor: float) -> Step:
    spoken = ("duration", "duration2")
    times = {name: factor * step.values[name] for name in spoken if name in step.values}
    return attrs.evolve(step, values={**step.values, **times})
