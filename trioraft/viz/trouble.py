"""What was wrong with lines and machines, for how long: outages of nodes, and the simulation's
weather. It is what the page draws under the lanes; findings ask `cluster` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from .cluster import Connectivity
from .model import NodeName, Run

OutageLevel: TypeAlias = Literal["off", "alone", "partly"]
"""`off`: it does not run. `alone`: it reaches nobody. `partly`: some ways to or from it are cut."""
WAYS_NAMED_MAX: Final = 6


@attrs.frozen
class Outage:
    """A time during which messages to or from a node could not pass."""

    node: NodeName
    start_s: float
    end_s: float
    level: OutageLevel
    text: str


@attrs.frozen
class Weather:
    """Something that is wrong for a while, as the simulation announces it."""

    start_s: float
    end_s: float
    label: str
    entry: int
    row: int
    """Which of several at once: 0 is the first."""


def outages(run: Run) -> list[Outage]:
    """When each node was off, alone, or short of some ways; by node, then by time."""
    found: list[Outage] = []
    since: dict[NodeName, tuple[float, OutageLevel, str]] = {}
    network = Connectivity()

    def note(at_s: float) -> None:
        states = states_of(network, run.node_names)
        for name in run.node_names:
            before, now = since.get(name), states.get(name)
            if before is not None and before[1:] != now:
                del since[name]
                found.append(Outage(name, before[0], at_s, before[1], before[2]))
            if now is not None and name not in since:
                since[name] = (at_s, *now)

    for mark in run.marks:
        after = network.after(mark)
        if after != network:
            network = after
            note(mark.at_s)
    for name, (start_s, level, text) in since.items():
        found.append(Outage(name, start_s, run.duration_s, level, text))
    for node in run.nodes:
        for span in node.roles:
            if span.role == "Dead":
                found.append(Outage(node.name, span.start_s, span.end_s, "off", "it does not run"))
    return sorted(found, key=lambda outage: (outage.node, outage.start_s))


def states_of(
    network: Connectivity, names: tuple[NodeName, ...]
) -> dict[NodeName, tuple[OutageLevel, str]]:
    """What is wrong with each node; who is well is left out. Ways to a node that is alone are that
    node's affair."""
    states: dict[NodeName, tuple[OutageLevel, str]] = {}
    for name in names:
        # Who has nobody left to talk to because all others are isolated is not cut off itself.
        others = [
            other
            for other in names
            if other != name and (name in network.isolated or other not in network.isolated)
        ]
        reaches = any(network.can_send(name, other) for other in others)
        is_reached = any(network.can_send(other, name) for other in others)
        told = ["it reaches nobody"] * (not reaches) + ["nobody reaches it"] * (not is_reached)
        if others and told:
            states[name] = ("alone", ", and ".join(told))
    alone = frozenset(states)
    for name in names:
        others = [other for other in names if other != name and other not in alone]
        ways = [
            f"{one}→{two}"
            for other in others
            for one, two in ((name, other), (other, name))
            if not network.can_send(one, two)
        ]
        if name not in alone and ways:
            more = len(ways) - WAYS_NAMED_MAX
            listed = ", ".join(ways[:WAYS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
            states[name] = ("partly", f"no way {listed}")
    return states


# --- the simulation's weather -------------------------------------------------------------------

_FAULT: Final = re.compile(
    r"fault \d+: at [\d.]+ s: (\w+) (\S+)(?: for (\d+\.?\d*) s)? \((\d+\.?\d*)\)"
)
ROWS_MAX: Final = 4
"""More at once share the last row."""

_OF_LINES: Final[Mapping[str, str]] = {
    "drop": "messages get lost, {share:.0%}",
    "loss": "messages get lost, {share:.0%}",
    "delay": "messages are late, up to {ms:.0f} ms",
    "long": "lines are long, {ms:.0f} ms more",
    "duplicate": "messages come twice, {share:.0%}",
    "reorder": "messages overtake each other, {share:.0%}",
    "narrow": "lines are narrow",
    "bottleneck": "a line is narrow",
    "partition": "a partition",
    "one_way": "lines cut in one direction",
    "bridge": "two halves with one bridge",
    "ring": "a ring: each reaches its neighbours only",
    "slow_disk": "the disk is slow, {ms:.0f} ms",
    "disk_full": "the disk is full",
    "eio": "the disk fails",
    "pause": "the process is paused",
    "suspend": "the machine sleeps",
    "clock_skew": "the clock runs {share:.2f} times as fast",
    "client_loss": "clients' messages get lost, {share:.0%}",
    "machine_error": "the state machine lacks memory",
}
"""Of faults that last: what the reader of a page is told. `share` and `ms` are the level as such,
and in milliseconds."""


def weather(run: Run) -> list[Weather]:
    """What the simulation says is wrong for a while, by time."""
    found: list[Weather] = []
    busy_until_s = [0.0] * ROWS_MAX
    for start_s, end_s, label, entry in _announced(run):
        free = next((row for row, end in enumerate(busy_until_s) if end <= start_s), ROWS_MAX - 1)
        busy_until_s[free] = max(busy_until_s[free], end_s)
        found.append(Weather(start_s, end_s, label, entry, free))
    return found


def _announced(run: Run) -> Iterator[tuple[float, float, str, int]]:
    for mark in run.marks:
        match = _FAULT.match(mark.text) if mark.kind == "test" else None
        if match is None or match[3] is None or match[1] not in _OF_LINES:
            continue
        level = float(match[4])
        what = _OF_LINES[match[1]].format(share=level, ms=level * 1000)
        whom = {"*": "everywhere", "leader": "at the leader"}.get(match[2], f"at {match[2]}")
        end_s = min(mark.at_s + float(match[3]), run.duration_s)
        yield mark.at_s, end_s, f"{what}, {whom}", mark.entry
