"""Lineage: whose disk this member is and of which history, and whom it therefore speaks with.

Rules of this file:

* Two nodes that both have a uuid exchange messages only if it is the same: a difference is refused
  before a term is looked at.
* Forming, once in a cluster's life, has two phases, each one small write: all first voters write
  down which disks they are (the record); whoever knows that all of them hold the same one, or hears
  from one who knows, may campaign. From then on a majority is enough.
* Nothing is told before it is durable. What is known of others is of this life, the newest counts.
* Openings tell an older copy of a disk from the disk itself, on the word of those who saw a later
  one. That finds mistakes; safety does not rest on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, final

import msgspec

from ..core.errors import PeerRefused, StorageError
from ..core.messages import (
    SEEN_MAX,
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Introduction,
    Message,
)
from ..core.types import Address, Configuration, Incarnation, NodeId
from .identity import Identity, encode_identity, uuid_of

FEEDS: Final = (AppendEntries, InstallSnapshot)
"""What a node that belongs to no history yet takes."""
REMEMBERED_MAX: Final = 1024
"""Most disks of which openings are remembered: all of them are stored anew for each."""
MET_MAX: Final = 256
"""Most nodes of which it is known what they said; whoever is forgotten is met again."""
ANSWERS: Final = (AppendEntriesReply, InstallSnapshotReply)
"""What is taken from such a node."""


@final
class Lineage:
    """One life's view of itself and of the others.

    Args:
        node_id: this node.
        cluster_id: the name of the cluster.
        identity: what this disk says of itself, durable already.
        voters: the first voters, as they were named to this node; empty: it joins.
        others: every other node whose address it was given.
        addresses: of the first voters, as far as they are known.
        features: what this node can do.
    """

    def __init__(
        self,
        node_id: NodeId,
        *,
        cluster_id: str,
        identity: Identity,
        voters: Collection[NodeId],
        others: Collection[NodeId],
        addresses: Mapping[NodeId, Address],
        features: tuple[str, ...] = (),
    ) -> None:
        self.identity: Identity = identity
        """As it shall be; what is told of it is what is durable."""
        self.met: dict[NodeId, Introduction] = {}
        """What each other node said of itself last."""
        self.has_news: bool = False
        """Whether there is something to write or to say; see `take_messages`, `take_identity`."""
        self.denied_by: set[NodeId] = set()
        """Who has seen a later opening of this disk: it is an older copy, or has a twin."""
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._addresses = addresses
        self._features = features
        self._voters = tuple(sorted(voters))
        self._others = frozenset({*voters, *others}) - {node_id}
        self._durable = identity
        self._handed: Identity | None = None
        self._messages: list[Introduction] = []
        self._said: dict[NodeId, Introduction] = {}
        self._disagreeing: dict[NodeId, Introduction] = {}  # they hold another record
        self._clients_at: Address | None = None
        self._seen_at: dict[NodeId, Address] = {}  # not where the configuration has them
        self._asked: set[NodeId] = set()  # they have not answered yet
        self._away: set[NodeId] = set()  # they went, or did not answer: they may have formed since

    @property
    def base(self) -> Configuration:
        """The configuration before the first entry, as far as the first voters have agreed."""
        return self.identity.base(self._addresses)

    @property
    def is_settled(self) -> bool:
        """Whether the first voters have agreed, and all that is to be kept is durable and told."""
        is_durable = self._handed is None and self.identity is self._durable
        return self.identity.formed and is_durable and not self.has_news and not self._messages

    # -- what it says ----------------------------------------------------------------------

    def introduction(self, peer: NodeId, *, wants_reply: bool = False) -> Introduction:
        """What this node says of itself to that one: what is durable."""
        said = self._said.get(peer)
        if said is None:
            if len(self._said) >= MET_MAX:
                self._said.clear()
            own, met = self._durable, self.met.get(peer)
            said = self._said[peer] = Introduction(
                self._node_id,
                peer,
                0,
                own.incarnation,
                self._voters,
                own.record,
                own.uuid,
                own.formed,
                own.opening,
                self._remembered(met),
                nonces=own.nonces[:-1],
                clients_at=self._clients_at,
                seen_at=self._seen_at,
                features=self._features,
            )
        return msgspec.structs.replace(said, wants_reply=True) if wants_reply else said

    def _remembered(self, met: Introduction | None) -> tuple[Incarnation, int, int] | None:
        seen = None if met is None else self._durable.remembered.get(met.incarnation)
        return None if met is None or seen is None else (met.incarnation, *seen)

    def begin(self) -> None:
        """Say to those that were named who is here."""
        self.ask(self._others)

    def ask(self, peers: Collection[NodeId]) -> None:
        """Ask these nodes who they are."""
        self._messages.extend(self.introduction(peer, wants_reply=True) for peer in sorted(peers))
        self.has_news = self.has_news or bool(peers)

    def ask_again(self) -> None:
        """Messages may be lost: ask those that are waited for once more; all, where somebody has
        written a record: whoever is silent may have formed since."""
        if not self.is_forming:
            return
        if self.identity.record is None and not any(said.record for said in self.met.values()):
            self.ask(self.waiting_for)
            return
        self._away |= self._asked
        self._asked = set(self._others)
        self.ask(self._others)

    def take_messages(self) -> list[Introduction]:
        """What is to be sent."""
        messages, self._messages = self._messages, []
        return messages

    def take_identity(self) -> bytes | None:
        """What is to be stored, in the next write; None: nothing new. One at a time."""
        self.has_news = False
        if self._handed is not None or self.identity == self._durable:
            return None
        self._handed = self.identity
        return encode_identity(self.identity)

    def on_stored(self) -> None:
        """What was taken is durable: tell everyone."""
        if self._handed is None:
            return
        before, self._durable, self._handed = self._durable, self._handed, None
        self._said.clear()
        told = (before.record, before.uuid, before.formed)
        if told != (self._durable.record, self._durable.uuid, self._durable.formed):
            self._introduce_to_all()
        self.has_news = True
        self._go_on_forming()

    def announce(self, clients_at: Address | None) -> None:
        """From now on this node takes clients there, which all others are told. It is no part of
        the identity, and is not stored: whoever starts again says anew where it is."""
        if clients_at != self._clients_at:
            self._clients_at = clients_at
            self._said.clear()
            self._introduce_to_all()
            self.has_news = True

    def note_seen_at(self, peer: NodeId, address: Address | None) -> None:
        """A member that is connected to us is there, and not where the configuration has it; all
        others are told. None: it is where it should be."""
        if self._seen_at.get(peer) == address:
            return
        seen_at = {other: at for other, at in self._seen_at.items() if other != peer}
        if address is not None:
            seen_at[peer] = address
        self._seen_at = dict(list(seen_at.items())[-SEEN_MAX:])
        self._said.clear()
        self._introduce_to_all()
        self.has_news = True

    def addresses_told_of(self, peer: NodeId) -> list[Address]:
        """Where others have seen this peer, or it itself has said so."""
        told = [said.seen_at[peer] for said in self.met.values() if peer in said.seen_at]
        return list(dict.fromkeys(told))

    def announced(self) -> dict[NodeId, Address]:
        """Where each other node takes clients, as it said itself; the last word of who is away."""
        return {
            peer: said.clients_at for peer, said in self.met.items() if said.clients_at is not None
        }

    def _introduce_to_all(self) -> None:
        self._messages += [
            self.introduction(peer) for peer in sorted(self._others | self.met.keys())
        ]

    # -- what others say -------------------------------------------------------------------

    def meet(self, said: Introduction, *, is_live: bool) -> bool:
        """Another node has said whose disk it is.

        Args:
            said: what it says.
            is_live: whether it is there to say so: the handshake of a connection. Otherwise it may
                be late, and of an earlier opening.

        Returns:
            Whether that is the newest of this node; otherwise nothing of it is heeded.

        Raises:
            PeerRefused: it is of another history, or an older copy of a disk; the reason.
            StorageError: this disk itself is an older copy, as two others say.
        """
        if said.wants_reply:
            self._messages.append(self.introduction(said.sender))
            self.has_news = True
        self._asked.discard(said.sender)
        self._away.discard(said.sender)
        self._check_history(said)
        if said.uuid is not None and said.uuid == self.identity.uuid:
            self._check_own_opening(said)
            if not self._remember(said, is_live=is_live):
                return False
        before = self.met.get(said.sender)
        if before is None or before.incarnation != said.incarnation:
            self._said.pop(said.sender, None)
        self.met[said.sender] = said
        self._disagreeing.pop(said.sender, None)
        self._forget_strangers()
        self._go_on_forming()
        return True

    def _forget_strangers(self) -> None:
        """Anybody may come, under any name: those who came first are forgotten first."""
        if len(self.met) > MET_MAX:
            needed = {*self._others, *(self.identity.record or ()), next(reversed(self.met))}
            first = next((peer for peer in self.met if peer not in needed), None)
            if first is not None:
                del self.met[first]

    def on_peer_lost(self, peer: NodeId) -> None:
        """While nobody has agreed on anything, whoever goes may come back with another disk."""
        if not self.is_forming:
            return
        if peer in self._others:
            self._away.add(peer)
        if self.identity.record is None:
            self.met.pop(peer, None)

    def _check_history(self, said: Introduction) -> None:
        """One history (R3): whoever belongs to another one is not spoken with."""
        own = self.identity
        if said.uuid is None or own.uuid is None or said.uuid == own.uuid:
            return
        if not own.formed and not said.formed:
            if said.sender in self._others:
                self._disagreeing[said.sender] = said
            raise PeerRefused(
                f"node {said.sender!r} and node {self._node_id!r} have agreed with different disks "
                "on who the first voters are: one was emptied while the cluster formed; their "
                "status says what to do (docs/identity.md)"
            )
        self._disagreeing.pop(said.sender, None)
        came_from = next((a for a in own.ancestors if a.uuid == said.uuid), None)
        hint = "" if came_from is None else f", recovered from it at entry {came_from.index}"
        raise PeerRefused(
            f"node {said.sender!r} belongs to history {said.uuid} of cluster "
            f"{self._cluster_id!r}, node {self._node_id!r} to {own.uuid}{hint}: one of them has a "
            "data directory of another cluster, or of before a recovery; empty it and have the "
            "node replaced (docs/identity.md)"
        )

    def _check_own_opening(self, said: Introduction) -> None:
        """Somebody may have seen a later opening of this disk than this one. One peer's word never
        disables a voter; two are believed (hazard I6)."""
        own, remembered = self.identity, said.remembered
        if remembered is None or remembered[0] != own.incarnation:
            return
        if not own.contradicts(remembered[1:]):
            self.denied_by.discard(said.sender)
            return
        self.denied_by.add(said.sender)
        told = (
            f"{', '.join(sorted(self.denied_by))} saw opening {remembered[1]} of the disk of node "
            f"{self._node_id!r}, which knows of {own.openings} and not of that one: its data "
            "directory is an older copy, or is used twice; empty it and have the node replaced "
            "(docs/identity.md)"
        )
        raise StorageError(told) if len(self.denied_by) > 1 else PeerRefused(told)

    def _remember(self, said: Introduction, *, is_live: bool) -> bool:
        """Openings only rise: whoever comes with an earlier one is late, or a copy. False: it is
        not the newest that is known of this disk."""
        own, seen = self.identity, self.identity.remembered.get(said.incarnation)
        if seen == said.opening:
            return True
        if seen is not None and said.opening[0] <= seen[0]:
            if said.opening[0] < seen[0] and not is_live:
                return False
            raise PeerRefused(
                f"node {said.sender!r} is there with opening {said.opening[0]} of its disk, and "
                f"opening {seen[0]} was seen before: its data directory is an older copy, or is "
                "used twice; empty it and have the node replaced (docs/identity.md)"
            )
        if seen is not None:
            since = said.opening[0] - seen[0]
            if since <= len(said.nonces) and said.nonces[-since] != seen[1]:
                raise PeerRefused(
                    f"node {said.sender!r} is there with a disk that knows nothing of its opening "
                    f"{seen[0]}, which was seen before: its data directory was an older copy, or "
                    "is used twice; empty it and have the node replaced (docs/identity.md)"
                )
        remembered = dict(own.remembered)
        remembered.pop(said.incarnation, None)  # whoever was opened last is forgotten last
        remembered[said.incarnation] = said.opening
        if len(remembered) > REMEMBERED_MAX:
            there = {said.incarnation, *(met.incarnation for met in self.met.values())}
            gone = (disk for disk in remembered if disk not in there)
            del remembered[next(gone, next(iter(remembered)))]
        self._change(remembered=remembered)
        return True

    def admits(self, message: Message, origin: Introduction) -> bool:
        """Whether this message may reach the core. It was met: the histories do not differ."""
        own = self.identity
        if own.uuid is None:
            if origin.uuid is None or not isinstance(message, FEEDS):
                return False
            is_taken = isinstance(message, InstallSnapshot) or (
                message.entries and message.prev_log_index == 0
            )
            if is_taken:  # with the first entries, or the snapshot, in one write
                self._change(uuid=origin.uuid, formed=True)
            return True
        if origin.uuid is None:
            if isinstance(message, ANSWERS):
                return True
            self.ask([origin.sender])  # what it said of itself last may be lost
            return False
        if not own.formed:
            if not origin.formed:
                return False
            self._change(formed=True)  # whoever speaks of terms knows that all hold the record
        return True

    # -- forming ---------------------------------------------------------------------------

    @property
    def is_forming(self) -> bool:
        """Whether the first voters have not agreed yet who they are."""
        return bool(self._voters) and not self.identity.formed

    @property
    def waiting_for(self) -> tuple[NodeId, ...]:
        """Of whom this node has to hear before it may campaign; empty when it has formed."""
        if not self.is_forming:
            return ()
        record = self.identity.record
        if record is None:
            return tuple(peer for peer in sorted(self._others) if self._why_not(peer))
        others = sorted(set(record) - {self._node_id})
        return tuple(peer for peer in others if not self._holds_record(peer, record))

    def problems(self) -> dict[NodeId, str]:
        """Why each of `waiting_for` is waited for, in a few words."""
        record = self.identity.record
        if record is None:
            return {peer: self._why_not(peer) for peer in self.waiting_for}
        return {peer: self._why_not_holding(peer, record) for peer in self.waiting_for}

    def _why_not(self, peer: NodeId) -> str:
        """Why the record cannot be written yet, as far as this peer goes; empty: it can."""
        said = self.met.get(peer)
        if said is None:
            return "it was not heard of yet; start it, or leave it out of voters and peers"
        if peer in self._voters and said.voters != self._voters:
            named = ", ".join(said.voters) or "nobody"
            return f"it was told that the first voters are {named}, we {', '.join(self._voters)}"
        if said.uuid is None and said.record is None:
            return ""
        if said.formed:
            return "it is of a cluster that exists; have this node added or replaced there"
        expected = self._would_be()
        if expected is None or said.record == expected:
            return ""
        what = "it has agreed with other disks than those that are there now"
        return f"{what}; {self._remedy(self._voters)}"

    def _would_be(self) -> dict[NodeId, Incarnation] | None:
        """The record, as those that are there would write it."""
        disks = {self._node_id: self.identity.incarnation}
        for peer in self._voters:
            if peer != self._node_id:
                said = self.met.get(peer)
                if said is None:
                    return None
                disks[peer] = said.incarnation
        return dict(sorted(disks.items()))

    def _holds_record(self, peer: NodeId, record: dict[NodeId, Incarnation]) -> bool:
        said = self.met.get(peer)
        return said is not None and said.incarnation == record[peer] and said.record == record

    def _why_not_holding(self, peer: NodeId, record: dict[NodeId, Incarnation]) -> str:
        said = self.met.get(peer)
        if peer in self._disagreeing:
            return f"it has agreed with other disks; {self._remedy(record)}"
        if said is not None and said.incarnation != record[peer]:
            return f"its disk was emptied while the cluster formed; {self._remedy(record)}"
        return "it has not confirmed which disks the first voters are"

    def _remedy(self, voters: Collection[NodeId]) -> str:
        """What is to be done about disks that differ. Whoever has formed may have committed
        something: nobody is told to empty disks before it is known of all that they have not, and
        that none of them can."""
        unknown = [
            peer
            for peer in sorted(set(voters) - {self._node_id})
            if peer in self._away or not (peer in self.met or peer in self._disagreeing)
        ]
        if unknown:
            return f"empty nothing before {', '.join(unknown)} said whether the cluster has formed"
        own = self.identity.incarnation
        known = (*self.met.values(), *self._disagreeing.values())
        may_form = any(
            said.formed or (said.record and said.record.get(self._node_id) != own) for said in known
        )
        if may_form:
            return "it may form without this disk: its own status says what to do"
        return "none of these disks holds anything: empty all"

    def _go_on_forming(self) -> None:
        own = self.identity
        if own.formed or not self._voters:
            return
        if own.record is None:
            record = self._would_be()
            if record is None or self.waiting_for:
                return
            self._change(record=record, uuid=uuid_of(self._cluster_id, record))
            return
        if self._durable.record is None:
            return
        held_by_all = not self.waiting_for
        hearsay = any(said.formed and said.uuid == own.uuid for said in self.met.values())
        if held_by_all or hearsay:
            self._change(formed=True)

    def _change(self, **fields: object) -> None:
        before = self.identity.uuid
        self.identity = own = msgspec.structs.replace(self.identity, **fields)
        if own.uuid != before:  # whom it met without a history of its own, it has to meet again
            self.met = {
                peer: said for peer, said in self.met.items() if said.uuid in (None, own.uuid)
            }
        self.has_news = True
