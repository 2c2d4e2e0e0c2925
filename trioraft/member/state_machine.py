"""What a state machine is: commands in, results out, the same on every node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, runtime_checkable

from ..core.errors import InvariantViolation
from ..core.types import LogIndex


class StateMachine(Protocol):
    """The object that the cluster replicates (paper, sections 2 and 7).

    It may also have an attribute `error_types`, a tuple of all exceptions that `apply` raises on
    purpose: then any other is taken for a fault of the machine it runs on, and ends the node.

    And `has_canonical_snapshots = True`, if equal states always give equal bytes (no set, nothing
    in the order in which it came, no clock): then nodes compare their whole states now and then,
    not only results (hazard E4). It costs a `snapshot()` every `results.CONTENTS_EVERY` entries.
    """

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Apply one committed command; called once per index, in order, never concurrently.

        It reads no clock, no random source, no file, and nothing but its own state and its
        arguments; otherwise the nodes' states part for ever.

        Args:
            index: position of the command in the log; rises, with gaps where the protocol's own
                entries stand.
            data: the command as it was proposed.

        Returns:
            The result that the proposer's `propose` gives back, on the node that proposed it.

        Raises:
            Exception: becomes the command's result: the proposer gets it raised. It must be
                raised on every node alike, and leave the state as it should be. What may be so
                on this machine alone (see `is_local`) is no result: it ends the node.
        """

    def snapshot(self) -> bytes | Iterable[bytes]:
        """The whole state, as it is between two commands; called in the Trio thread, so be quick.

        A large state may be handed out piece by piece: the iterable is consumed in a worker
        thread, or in turns with the event loop if the storage does not block, while further
        commands are applied. So it must be a view that they do not change: of a copy, or of a
        structure that is never changed in place.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by that of a snapshot.

        Args:
            chunks: the content in order, cut anywhere. Called in a worker thread if the storage
                blocks; nothing is applied meanwhile.
        """


@runtime_checkable
class Hosted(Protocol):
    """A state machine that wants another one around it, wherever a node has it."""

    def in_sessions(self) -> StateMachine:
        """The machine for the node: always the same one."""


def hosted(machine: StateMachine) -> StateMachine:
    """The machine as a node has it: itself, or what it wants around it."""
    return machine.in_sessions() if isinstance(machine, Hosted) else machine


def kind_of(machine: StateMachine) -> str:
    """What kind of state it has, in a word or two, so that a backup of one is not restored into
    another: its `machine_kind`, if it says so; else the name of its class."""
    said = getattr(machine, "machine_kind", None)
    return said if isinstance(said, str) else type(machine).__qualname__


@runtime_checkable
class Preparing(Protocol):
    """A state machine that looks at each command before it is proposed."""

    def prepare_command(self, data: bytes) -> bytes:
        """The command as it shall stand in the log. Changes nothing.

        Raises:
            RaftError: it cannot be read, or is deeper or larger than any may be: not proposed.
        """


@runtime_checkable
class KeyedCommands(Protocol):
    """A state machine that tells which keys a command writes, so that roles may bound them by
    prefixes. (`keys_read` likewise, of questions and subscriptions.)"""

    def keys_written(self, data: bytes) -> Iterable[bytes]:
        """All keys that the command may change, or whose content its result may show.

        Raises:
            RaftError: it cannot be read.
        """


@runtime_checkable
class Timed(Protocol):
    """A state machine in which something ends by itself, as a lease does. Only the log can end it
    on every node alike, so whoever leads proposes a command when it is due."""

    def due_in_s(self, now_s: float) -> float | None:
        """How long from now on until something ends, in seconds; 0 or less: it is over. None:
        nothing will. Asked after each slice of commands, so be quick.

        Args:
            now_s: the node's monotonic clock.
        """

    def command_when_due(self, now_s: float) -> bytes:
        """The command that ends what is over, as it stands in the log. It may be proposed again
        while the one before is on its way: it must do no harm twice.

        Args:
            now_s: the node's monotonic clock, in seconds.
        """


def chained(*parts: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """What `snapshot` returns, of several, one after the other. Whoever goes through it no further
    closes it (`close_chunks`), and so all that it is made of: views of the state are not kept by an
    error whose traceback leads to them."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from part


def close_chunks(chunks: Iterable[bytes]) -> None:
    """Nobody goes through these any more."""
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def timed(machine: StateMachine) -> Timed | None:
    """The machine, if anything in it ends by itself. One around another says so for that one, with
    None in the place of what it has not."""
    return machine if isinstance(machine, Timed) and callable(machine.due_in_s) else None


def preparation_of(machine: StateMachine) -> Callable[[bytes], bytes] | None:
    """Its `prepare_command`; None: it takes commands as they are.

    To be asked once, not for each command: a look at a protocol takes longer than some of them.
    """
    return machine.prepare_command if isinstance(machine, Preparing) else None


def contents_of(machine: StateMachine) -> Callable[[], bytes | Iterable[bytes]] | None:
    """What gives its content as bytes that are equal for equal states: its snapshot, if it says so;
    of a machine around another one, what that one says (`canonical_contents`)."""
    if getattr(machine, "has_canonical_snapshots", False) is True:
        return machine.snapshot
    return getattr(machine, "canonical_contents", None)


@runtime_checkable
class Judge(Protocol):
    """A state machine that says itself which exceptions are results."""

    def is_result(self, error: Exception) -> bool:
        """Whether this one, which the last `apply` raised, is raised by every replica alike."""


def is_result(machine: StateMachine, error: BaseException) -> bool:
    """Whether what `apply` raised is the command's result: every replica raises it alike.

    Args:
        machine: the state machine that raised it.
        error: what it raised.
    """
    if not isinstance(error, Exception) or isinstance(error, InvariantViolation):
        return False
    if isinstance(machine, Judge):
        return machine.is_result(error)
    declared: tuple[type[Exception], ...] | None = getattr(machine, "error_types", None)
    return not is_local(error) if declared is None else isinstance(error, tuple(declared))


_LOCAL: Final = (MemoryError, RecursionError, SystemError, ImportError)
_SQLITE_LOCAL: Final = frozenset({3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 22, 26})
"""Primary result codes of SQLite that speak of a file or of memory; no OSError of Python's."""


def is_local(error: BaseException | None) -> bool:
    """Whether an exception speaks of the machine that it was raised on: want of memory or of stack,
    a module that is missing, an error number of the system, whatever is no plain `Exception`.
    Likewise one that was raised because of such a one, and a group that has one (hazard E1).
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not isinstance(error, Exception) or isinstance(error, _LOCAL):
            return True
        if isinstance(error, OSError) and error.errno is not None:
            return True
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int) and code & 0xFF in _SQLITE_LOCAL:
            return True
        if isinstance(error, ExceptionGroup) and any(map(is_local, error.exceptions)):
            return True
        is_hidden = error.__suppress_context__ and error.__cause__ is None  # "from None"
        error = error.__cause__ or (None if is_hidden else error.__context__)
    return False
