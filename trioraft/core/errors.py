"""Every error trioraft raises, in one small tree.

Rules of this file:

* Each class says whose fault it is: yours (`ConfigError`), the cluster's state
  (`NotLeader`, `ProposalDropped`, …), a peer's (`BadMessage`), the disk's
  (`StorageError`) or ours (`InvariantViolation`).
* Each message says what happened, with which values, and what to do.
* `NotLeader` and `ProposalDropped` mean *certainly not in the log*; `OutcomeUnknown`
  means *may or may not be*. No error blurs the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


def forming_text(waiting_for: Sequence[str]) -> str:
    """What keeps a new cluster from answering."""
    return f"the cluster is forming: waiting for {', '.join(waiting_for)}"


class RaftError(Exception):
    """Base class of every error that trioraft raises on purpose."""


class ConfigError(RaftError, ValueError):
    """A value given by the caller cannot work. Raised before anything is started."""


class WrongEventLoop(RaftError, RuntimeError):  # noqa: N818 - what is wrong
    """Something was used under an event loop that it is not made for, or under none; nothing was
    done."""


class NotLeader(RaftError):  # noqa: N818 - the pinned name; the field says "not leader"
    """This node does not lead, so the command was not taken; it is certainly not in the log.

    Attributes:
        leader_id: the leader this node knows of, or None.
        leader_address: where that leader can be reached, or None.
        waiting_for: of whom this node has to hear before a new cluster can have a leader.
    """

    def __init__(
        self,
        leader_id: str | None = None,
        leader_address: tuple[str, int] | None = None,
        waiting_for: Sequence[str] = (),
    ) -> None:
        self.leader_id = leader_id
        self.leader_address = leader_address
        self.waiting_for = tuple(waiting_for)
        if waiting_for:
            super().__init__(f"there is no leader yet: {forming_text(waiting_for)}")
            return
        known = "no leader is known" if leader_id is None else f"the leader is {leader_id!r}"
        super().__init__(f"this node is not the leader; {known}: ask there, or wait for one")


class NotMember(NotLeader):
    """This node was removed from the cluster, so it gets no more entries: what is asked of it here
    it could not answer, however long it waited. Ask one of the members."""

    def __init__(self, node_id: str, removed_index: int) -> None:
        super().__init__()
        self.args = (
            f"node {node_id!r} was removed from the cluster (configuration {removed_index}) and "
            "gets no more of its log: ask one of the members; or add it again",
        )


class ProposalDropped(RaftError):  # noqa: N818 - the pinned name
    """The command certainly is not in the log and never will be: it is safe to propose again."""


class OutcomeUnknown(RaftError):  # noqa: N818 - the pinned name
    """The command may or may not be applied: the node died meanwhile, or lost its leadership and
    did not learn in time what became of the command."""


class Overloaded(RaftError):  # noqa: N818 - the pinned name
    """A bound in `Limits` is reached; the command was not taken. Slow down, or `await propose`."""


class TransferFailed(RaftError):  # noqa: N818 - as the field says
    """Leadership was not transferred in time; this node leads on, and takes commands again."""


class ConfigurationConflict(RaftError):  # noqa: N818 - as the field says
    """A change of the cluster's members was refused; nothing was changed. Another one is under
    way, or the configuration is not the one that the caller had looked at."""


class NodeDead(RaftError):  # noqa: N818 - the pinned name
    """The node is Dead: it was killed, left, or failed. Open a new one."""


class SessionExpired(RaftError):  # noqa: N818 - the pinned name
    """The client's session was evicted: its retries can no longer be told from new commands."""


class StorageError(RaftError):
    """The disk failed, or cannot be used as it is. Nothing unacknowledged was promised."""


class ResourceExhausted(StorageError):  # noqa: N818 - as the field says
    """The process or the machine has nothing left of something that a call of the storage needs.
    The disk has not failed, nothing of the call is stored, and it may be tried again."""

    lacking: ClassVar[str | None] = "resources"
    """What is used up, in a word; None: room on the disk."""


class DiskFull(ResourceExhausted):
    """There is no room for a write; it was rolled back as a whole. It may be tried again."""

    lacking: ClassVar[str | None] = None


class DescriptorsExhausted(ResourceExhausted):
    """Nothing can be opened: this process (`ulimit -n`), or the machine, has no descriptors left.
    Nothing of the call is stored; it may be tried again."""

    lacking: ClassVar[str | None] = "descriptors"


class ThreadsExhausted(ResourceExhausted):
    """No thread can be started that would call the storage. The call was not made; it may be tried
    again."""

    lacking: ClassVar[str | None] = "threads"


class SnapshotGone(StorageError):  # noqa: N818 - as the field says
    """A snapshot that is asked for was replaced by a newer one meanwhile."""


class CorruptStorage(StorageError):  # noqa: N818 - the pinned name
    """A stored record is not what was written. Nothing was repaired or cut off."""


class BadMessage(RaftError):  # noqa: N818 - the pinned name
    """A peer sent what no correct peer sends. It costs the sender its connection, nothing else."""


class ApplyFailed(RaftError):  # noqa: N818 - what happened
    """Applying a committed entry failed by something that other nodes may not have, such as want of
    memory: no result. The node is Dead, and the entry is not applied here; the cause is chained.

    Attributes:
        index: of the entry.
        term: of the entry.
        size_bytes: of its command.
    """

    def __init__(self, index: int, term: int, size_bytes: int, cause: str) -> None:
        self.index = index
        self.term = term
        self.size_bytes = size_bytes
        super().__init__(
            f"entry {index} of term {term}, a command of {size_bytes} bytes, is not applied here: "
            f"{cause}. That may be so on this machine alone, and is no result. Give the machine "
            "what it lacks and open the node again; if the entry ends every member, see "
            "docs/lost-quorum.md for the way past it: trioraft recover --skip "
            f"{index}"
        )


class PeerRefused(BadMessage):
    """Whoever sent this is of another history, or an older copy of a disk: nothing of it counts."""


class ResultsDiverged(RaftError):  # noqa: N818 - what happened
    """A majority of voters has other results than this node for the same entries. It is Dead: its
    state is not theirs, and nobody may read from it."""


class InvariantViolation(RaftError):  # noqa: N818 - the pinned name
    """A bug in trioraft: a state that must not exist. The node dies loudly; please report it."""
