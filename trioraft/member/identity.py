"""Identity: what a disk says of itself, for ever.

Rules of this file:

* A voter is a disk, `(id, incarnation)`: an emptied one is a new node, and the old one is gone.
* A record, once written, never changes, and the uuid of a history is its hash: so it is known
  before the first election, and needs nobody to decide on it.
* Values only: who has met whom, and what follows, is `lineage`'s.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import CorruptStorage
from ..core.messages import NONCES_MAX
from ..core.types import Address, Configuration, Count, Incarnation, LogIndex, NodeId, Term

Opening: TypeAlias = tuple[Count, Count]
"""One opening of a disk: which one it was, and a number drawn for it alone."""

NUMBER_BITS: Final = 62
NONCES_KEPT: Final = NONCES_MAX
"""Openings of which a disk knows the numbers: who remembers an older one of it is believed."""


class Ancestor(msgspec.Struct, frozen=True, array_like=True):
    """A history that this one was recovered from, and where that ended."""

    uuid: str
    index: LogIndex
    term: Term


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What a disk keeps about itself, beside term, vote and log; stored as one opaque value."""

    incarnation: Incarnation
    record: dict[NodeId, Incarnation] | None = None
    """Which disks the first voters are; None: not agreed yet, or this node joined later."""
    uuid: str | None = None
    """The history that the log belongs to, 32 hexadecimal digits; None: none yet."""
    formed: bool = False
    """Whether all first voters are known to hold the record, or entries of the history came."""
    openings: Count = 0
    """How often this disk was opened."""
    nonces: tuple[Count, ...] = ()
    """The numbers of its last openings, the newest last."""
    remembered: dict[Incarnation, Opening] = {}
    """The newest opening seen of each other disk of this history."""
    ancestors: tuple[Ancestor, ...] = ()
    """The histories that it was recovered from, the latest last."""

    @property
    def opening(self) -> Opening:
        """The present one."""
        return (self.openings, self.nonces[-1] if self.nonces else 0)

    def contradicts(self, opening: Opening) -> bool:
        """Whether somebody has seen an opening of this disk that it knows nothing of: then this is
        an older copy of it, or a twin."""
        number, nonce = opening
        first_kept = self.openings - len(self.nonces) + 1
        if number > self.openings:
            return True
        return number >= first_kept and self.nonces[number - first_kept] != nonce

    def base(self, addresses: Mapping[NodeId, Address]) -> Configuration:
        """The configuration before the first entry: that of the record, once it counts."""
        if self.record is None or not self.formed:
            return Configuration(())
        known = {voter: addresses[voter] for voter in sorted(self.record) if voter in addresses}
        return Configuration(tuple(sorted(self.record)), addresses=known, disks=self.record)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Identity).decode


def encode_identity(identity: Identity) -> bytes:
    """As a storage keeps it."""
    return _encode(identity)


def decode_identity(stored: bytes) -> Identity:
    """What a storage kept.

    Raises:
        CorruptStorage: it is none.
    """
    try:
        return _decode(stored)
    except UNREADABLE as error:
        raise CorruptStorage(
            f"what is stored of this disk's identity cannot be read ({error}): restore the node's "
            "directory, or empty it and have the node replaced (trioraft admin replace)"
        ) from None


def uuid_of(cluster_id: str, record: Mapping[NodeId, Incarnation]) -> str:
    """The history that begins with this record."""
    content = msgspec.msgpack.encode((cluster_id, sorted(record.items())))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _new_incarnation(rng: random.Random) -> Incarnation:
    return rng.randint(1, 2**NUMBER_BITS - 1)


def new_uuid(rng: random.Random) -> str:
    """Of a history that was recovered by force."""
    return f"{rng.getrandbits(128):032x}"


def recovered_by_force(
    stored: bytes | None, *, last_index: LogIndex, last_term: Term, rng: random.Random
) -> Identity:
    """The identity of a disk that goes on alone: of a new history, so that whoever belongs to the
    one before is refused, whatever it holds.

    Args:
        stored: what the storage kept.
        last_index: where the log ended.
        last_term: that entry's term.
        rng: where the numbers come from.
    """
    identity = Identity(_new_incarnation(rng)) if stored is None else decode_identity(stored)
    ancestors = identity.ancestors
    if identity.uuid is not None:
        ancestors = (*ancestors, Ancestor(identity.uuid, last_index, last_term))
    return msgspec.structs.replace(
        identity, uuid=new_uuid(rng), formed=True, remembered={}, ancestors=ancestors
    )


def restored_from_backup(
    node_ids: Iterable[NodeId], ancestors: Iterable[Ancestor], rng: random.Random
) -> dict[NodeId, Identity]:
    """The identities of new disks that begin with the same backup: first voters of a new history,
    which hold one record of each other, so that they have formed. Whoever belongs to the one before
    is refused, as after `recovered_by_force`.

    Args:
        node_ids: the voters.
        ancestors: the histories that it came from, the latest last.
        rng: where the numbers come from.
    """
    record = {node_id: _new_incarnation(rng) for node_id in sorted(node_ids)}
    uuid, before = new_uuid(rng), tuple(ancestors)
    return {
        node_id: Identity(disk, dict(record), uuid, formed=True, ancestors=before)
        for node_id, disk in record.items()
    }


def opened(
    stored: bytes | None,
    *,
    cluster_id: str,
    node_id: NodeId,
    voters: Iterable[NodeId],
    others: Iterable[NodeId],
    rng: random.Random,
) -> Identity:
    """The identity of a disk that is being opened, to be stored before anybody hears of it.

    Args:
        stored: what the storage kept; None: it is new.
        cluster_id: the name of the cluster.
        node_id: this node.
        voters: the first voters, as they were named to this node.
        others: every other node whose address it was given.
        rng: where the numbers come from.

    A single voter that was given no other address agrees with itself at once.
    """
    identity = Identity(_new_incarnation(rng)) if stored is None else decode_identity(stored)
    nonces = (*identity.nonces, rng.getrandbits(NUMBER_BITS))[-NONCES_KEPT:]
    identity = msgspec.structs.replace(identity, openings=identity.openings + 1, nonces=nonces)
    is_alone = set(voters) == {node_id} and not set(others) - {node_id}
    if identity.uuid is None and is_alone:
        record = {node_id: identity.incarnation}
        identity = msgspec.structs.replace(
            identity, record=record, uuid=uuid_of(cluster_id, record), formed=True
        )
    return identity
