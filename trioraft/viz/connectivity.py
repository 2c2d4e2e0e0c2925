"""Who can talk to whom, after what was done to the cluster so far.

Rules of this file: a value, changed only by marks; a node always reaches itself. A dead node is
not the network's business: see `cluster.Cluster`.
"""

from __future__ import annotations

from typing import final

import attrs

from .model import Mark, NodeName


@final
@attrs.frozen
class Connectivity:
    """The network at one moment."""

    isolated: frozenset[NodeName] = frozenset()
    """Disconnected from all others, or muted."""
    groups: tuple[frozenset[NodeName], ...] = ()
    """Of a partition; a node in none of them is alone. Empty: there is none."""
    down: frozenset[tuple[NodeName, NodeName]] = frozenset()
    """Connections that are down, by who opened them and to whom."""
    cuts: tuple[tuple[NodeName, ...], ...] = ()
    """Ways that were cut, from whom to whom; as often as they were."""

    def after(self, mark: Mark) -> Connectivity:
        """What it is once this was done."""
        nodes = frozenset(mark.nodes)
        match mark.kind:
            case "disconnect":
                return attrs.evolve(self, isolated=self.isolated | nodes)
            case "reconnect":
                return attrs.evolve(self, isolated=self.isolated - nodes)
            case "partition":
                return attrs.evolve(self, groups=tuple(frozenset(group) for group in mark.groups))
            case "heal":
                return attrs.evolve(self, isolated=frozenset(), groups=(), cuts=())
            case "cut":
                return attrs.evolve(self, cuts=(*self.cuts, *mark.groups))
            case "mend":
                return attrs.evolve(self, cuts=_without(self.cuts, mark.groups))
            case "link down":
                return attrs.evolve(self, down=self.down | {(mark.nodes[0], mark.nodes[1])})
            case "link up":
                return attrs.evolve(self, down=self.down - {(mark.nodes[0], mark.nodes[1])})
            case "test" if mark.text.startswith("Mute "):
                # It is cut off some messages later; from here on nobody can blame it for silence.
                return attrs.evolve(self, isolated=self.isolated | set(mark.text.split()[1:2]))
            case "test" if mark.text.endswith(" is paused"):
                return attrs.evolve(self, isolated=self.isolated | set(mark.text.split()[:1]))
            case "test" if mark.text.endswith(" goes on"):
                return attrs.evolve(self, isolated=self.isolated - set(mark.text.split()[:1]))
            case _:
                return self

    def can_send(self, sender: NodeName, receiver: NodeName) -> bool:
        """Whether there is a way from one to the other."""
        if sender == receiver:
            return True
        if sender in self.isolated or receiver in self.isolated:
            return False
        if (sender, receiver) in self.down or (sender, receiver) in self.cuts:
            return False
        return not self.groups or any(
            sender in group and receiver in group for group in self.groups
        )

    def can_talk(self, one: NodeName, other: NodeName) -> bool:
        """Whether there is a way in both directions."""
        return self.can_send(one, other) and self.can_send(other, one)


def _without(
    cuts: tuple[tuple[NodeName, ...], ...], mended: tuple[tuple[NodeName, ...], ...]
) -> tuple[tuple[NodeName, ...], ...]:
    """Each of the mended ways is cut once less."""
    left = list(cuts)
    for way in mended:
        if way in left:
            left.remove(way)
    return tuple(left)
