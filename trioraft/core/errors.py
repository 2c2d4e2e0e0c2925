"""Every error trioraft raises, in one small tree.

Rules of this file:

* Each class says whose fault it is: yours (`ConfigError`), the cluster's state
  (`NotLeader`, `ProposalDropped`, …), a peer's (`BadMessage`), the disk's
  (`StorageError`) or ours (`InvariantViolation`).
* Each message says what happened, with which values, and what to do. Each class says in its
  docstring whose fault it is ("Fault:") and what to do ("Remedy:"); `docs/errors.md` quotes both.
* `NotLeader` and `ProposalDropped` mean *certainly not in the log*; `OutcomeUnknown`
  means *may or may not be*. No error blurs the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


def forming_text(waiting_for: Sequence[str]) -> str:
    """What keeps a new cluster from answering."""
    return f"the cluster is forming: waiting for {', '.join(waiting_for)}"


class RaftError(Exception):
    """Base class of every error that trioraft raises on purpose.

    Fault: its subclasses say whose.
    Remedy: catch the subclasses that you have an answer to, and let the others end the program.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles, as multiprocessing makes them, are made of what the error has. The
        constructor is not called again: subclasses want other arguments than the message."""
        return _made_again, (type(self), self.args), self.__dict__ or None


def _made_again(error_type: type[RaftError], args: tuple[Any, ...]) -> RaftError:
    return error_type.__new__(error_type, *args)


class ConfigError(RaftError, ValueError):
    """A value given by the caller cannot work. Raised before anything is started.

    Fault: the caller's.
    Remedy: give another value; the message names the one that was given, and what can be.
    """


class WrongEventLoop(RaftError, RuntimeError):  # noqa: N818 - what is wrong
    """Something was used under an event loop that it is not made for, or under none; nothing was
    done.

    Fault: the caller's.
    Remedy: use what the message names: it is made for that event loop.
    """


class NotLeader(RaftError):  # noqa: N818 - the pinned name; the field says "not leader"
    """This node does not lead, so the command was not taken; it is certainly not in the log.

    Fault: nobody's; leaders change.
    Remedy: ask `leader_id`, or wait for a leader and ask again. A `Client` does so by itself.

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
        self.waiting_for: tuple[str, ...] = tuple(waiting_for)
        if waiting_for:
            super().__init__(f"there is no leader yet: {forming_text(waiting_for)}")
            return
        known = "no leader is known" if leader_id is None else f"the leader is {leader_id!r}"
        super().__init__(f"this node is not the leader; {known}: ask there, or wait for one")


class NotMember(NotLeader):
    """This node was removed from the cluster, so it gets no more entries: what is asked of it here
    it could not answer, however long it waited.

    Fault: nobody's; it was removed on purpose.
    Remedy: ask one of the members, or add the node again.
    """

    def __init__(self, node_id: str, removed_index: int) -> None:
        super().__init__()
        RaftError.__init__(  # another message than of a node that may lead some day
            self,
            f"node {node_id!r} was removed from the cluster (configuration {removed_index}) and "
            "gets no more of its log: ask one of the members; or add it again",
        )


class ProposalDropped(RaftError):  # noqa: N818 - the pinned name
    """The command certainly is not in the log and never will be.

    Fault: nobody's; leadership moved meanwhile.
    Remedy: propose it again.
    """


class OutcomeUnknown(RaftError):  # noqa: N818 - the pinned name
    """The command may or may not be applied: the node died meanwhile, or lost its leadership and
    did not learn in time what became of the command.

    Fault: nobody's; it cannot be known.
    Remedy: look at the state before you repeat it; a `Client`'s session makes repeating safe.
    """


class DeadlineExceeded(RaftError):  # noqa: N818 - as the field says
    """The call's deadline passed. Unless it is an `OutcomeUnknown` too, nothing was applied.

    Fault: the cluster's, which has no leader, or is slow; or of a deadline that is too short.
    Remedy: call again; `trioraft admin status` shows what keeps the cluster.
    """


class DeadlineOutcomeUnknown(DeadlineExceeded, OutcomeUnknown):
    """The call's deadline passed while the command was on its way: it may or may not be applied.

    Fault: as `DeadlineExceeded`.
    Remedy: look at the state before you repeat the command.
    """


class Overloaded(RaftError):  # noqa: N818 - the pinned name
    """A bound in `Limits` or `ServiceLimits` is reached; the command was not taken.

    Fault: the callers', who bring more than the cluster takes.
    Remedy: slow down, or `await node.propose()`, which waits for room.
    """


class LockLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The lease ran out, or was taken away, while its holder was at work; that was cancelled.

    Fault: of the network or the cluster, when it could not be renewed in time; or of whoever took
        it away.
    Remedy: take what was under way for undone, and ask for the lock again.
    """


class TransferFailed(RaftError):  # noqa: N818 - as the field says
    """Leadership was not transferred in time; this node leads on, and takes commands again.

    Fault: nobody's; the other node was too slow, or another transfer is under way.
    Remedy: see `status.progress` for who keeps up, and transfer to that one.
    """


class ConfigurationConflict(RaftError):  # noqa: N818 - as the field says
    """A change of the cluster's members was refused; nothing was changed. Another one is under
    way, or the configuration is not the one that the caller had looked at.

    Fault: nobody's; two operators at once.
    Remedy: look at `status.configuration` and `status.change`, and decide anew.
    """


class Unreachable(RaftError):  # noqa: N818 - what was found
    """Nobody answers as that node at that address; nothing was changed.

    Fault: of whoever gave the address, or of the node, which is not there yet.
    Remedy: start it there first, or `force` the move if it is down or will be there later.
    """


class NodeDead(RaftError):  # noqa: N818 - the pinned name
    """The node is Dead: it was killed, left, or failed.

    Fault: the caller's, who uses it after its end; or what ended it, which `open_node` raises.
    Remedy: open a new one, over the same storage.
    """


class SessionExpired(RaftError):  # noqa: N818 - the pinned name
    """The client's session was evicted: its retries can no longer be told from new commands.

    Fault: nobody's; more clients than `SessionMachine(sessions_max=…)`, or one that was away long.
    Remedy: look at the state before you repeat the command; the next call opens a new session.
    """


class StorageError(RaftError):
    """The disk failed, or cannot be used as it is. Nothing unacknowledged was promised.

    Fault: the disk's, or of whoever gave this directory.
    Remedy: do what the message says. The node is Dead; the others go on without it.
    """


class ResourceExhausted(StorageError):  # noqa: N818 - as the field says
    """The process or the machine has nothing left of something that a call of the storage needs.
    The disk has not failed, nothing of the call is stored.

    Fault: the machine's, which has too little.
    Remedy: make room; what waits is tried again by itself.
    """

    lacking: ClassVar[str | None] = "resources"
    """What is used up, in a word; None: room on the disk."""


class DiskFull(ResourceExhausted):
    """There is no room for a write; it was rolled back as a whole.

    Fault: the machine's: the disk, or the quota, is full.
    Remedy: make room on the disk; the write is tried again by itself.
    """

    lacking: ClassVar[str | None] = None


class DescriptorsExhausted(ResourceExhausted):
    """Nothing can be opened: this process, or the machine, has no descriptors left. Nothing of the
    call is stored.

    Fault: the machine's, or of a program that leaks descriptors.
    Remedy: raise `ulimit -n`, or close what is open; it is tried again by itself.
    """

    lacking: ClassVar[str | None] = "descriptors"


class ThreadsExhausted(ResourceExhausted):
    """No thread can be started that would call the storage. The call was not made.

    Fault: the machine's: its bound on processes and threads is reached, or its memory is used up.
    Remedy: raise the bound (`ulimit -u`, the container's); it is tried again by itself.
    """

    lacking: ClassVar[str | None] = "threads"


class SnapshotGone(StorageError):  # noqa: N818 - as the field says
    """A snapshot that is asked for was replaced by a newer one meanwhile. Storages raise it; a node
    then sends the newer one.

    Fault: nobody's.
    Remedy: ask for the newest one.
    """


class CorruptStorage(StorageError):  # noqa: N818 - the pinned name
    """A stored record is not what was written. Nothing was repaired or cut off.

    Fault: the disk's, or of whoever wrote to its files.
    Remedy: replace the node (`Node.replace`, `trioraft admin replace`); it gets everything anew.
    """


class BadMessage(RaftError):  # noqa: N818 - the pinned name
    """A peer sent what no correct peer sends. It costs the sender its connection, nothing else.

    Fault: the peer's: another program, another release, or a bug there.
    Remedy: see who dials this port. The node goes on, and logs it.
    """


class ApplyFailed(RaftError):  # noqa: N818 - what happened
    """Applying a committed entry failed by something that other nodes may not have, such as want of
    memory: no result. The node is Dead, and the entry is not applied here; the cause is chained.

    Fault: the machine's, which has too little; or the state machine's, which asks for too much.
    Remedy: give it what it lacks, and open the node again.

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


class EntryAltered(RaftError):  # noqa: N818 - what happened
    """An entry in this node's memory is not what its leader took, by the checksum that it carries.
    The node is Dead; the entry is neither applied here nor sent on.

    Fault: the machine's: its memory, most likely.
    Remedy: test its memory. Started again, the node reads its disk anew; or replace it.

    Attributes:
        index: of the entry.
        term: of the entry.
    """

    def __init__(self, index: int, term: int) -> None:
        self.index = index
        self.term = term
        super().__init__(
            f"entry {index} of term {term} does not have the checksum that its leader gave it, and "
            "what was stored or received had it: the memory of this machine has altered it. "
            "Nothing of it was applied here. Test the memory; started again, the node reads its "
            "log from the disk, where each record has a checksum of its own; or have it replaced "
            "(trioraft admin replace)"
        )


class PeerRefused(BadMessage):
    """Whoever sent this is of another history, an older copy of a disk, or of a release that cannot
    do what the cluster has switched on: nothing of it counts.

    Fault: the peer's: its disk is a copy, or of another cluster; or its release is too old.
    Remedy: start it with an empty disk, or with a newer release; the message says which.
    """


class ResultsDiverged(RaftError):  # noqa: N818 - what happened
    """A majority of voters has other results than this node for the same entries. It is Dead: its
    state is not theirs, and nobody may read from it.

    Fault: the state machine's: its `apply` depends on more than the entries, or differs by release.
    Remedy: find what it depends on; run the same release everywhere; replace the node.
    """


class InvariantViolation(RaftError):  # noqa: N818 - the pinned name
    """A state that must not exist. The node dies loudly.

    Fault: ours: a bug in trioraft.
    Remedy: report it, with the message and the log; the other nodes go on.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.add_note("This is a bug in trioraft: please report it, with the node's log.")
