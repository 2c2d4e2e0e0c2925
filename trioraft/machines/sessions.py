"""Sessions: a command that a client sends again is applied once (dissertation, section 6.3).

* The session table is part of the replicated state: only log entries change it, and it is in every
  snapshot, before the inner machine's own content (hazard S5).
* A session's id is its secret (hazard G7): a hash of the client's random id and of the log index of
  the opening. Only its opener is told it; no error, event or status has it. It is never used twice,
  so what was said in an evicted session is never taken for something new. (An opening that says
  nothing of secrets, from an older log, is named by its index alone.)
* A command that raises is applied like any other: its error is its result (hazard S6), unless it
  may be this machine's alone: then nothing is kept, and the node ends (hazard E1). What is refused
  here (`SessionExpired`, `Overloaded`, …) is not applied and leaves no result.
* Results are kept encoded until the client says that it has them.
* What decides stands in the log: the bounds come with the opening of a session, from whoever leads,
  and an error counts alike however long its text is on this machine (hazard E2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, Final, TypeAlias, final

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import ConfigError, OutcomeUnknown, Overloaded, RaftError, SessionExpired
from ..core.types import Count, LogIndex
from ..member.state_machine import (
    KeyedCommands,
    StateMachine,
    Timed,
    contents_of,
    is_local,
    is_result,
    kind_of,
    preparation_of,
    timed,
)
from .chunks import ChunkReader, head_of
from .items import ItemReader
from .msgpack_heads import array_head, head_bytes
from .nesting import check_nesting, check_result_nesting, result_too_deep
from .viewed import DictView, Discarded, ViewedDict

CLIENT_ID_BYTES = 16
"""Length of a client's id: random, so that no two clients ever choose the same one."""
SESSIONS_MAX = 10_000
"""Sessions that are kept, unless said otherwise."""
RESULTS_MAX = 1024
"""Unacknowledged results that a session may have, unless said otherwise."""
RESULTS_BYTES_MAX = 1024 * 1024
"""Bytes of unacknowledged results from which on a session takes no more commands."""
MESSAGE_CHARS_MAX = 4096
"""What is kept, and sent, of an exception's message; the rest is cut off."""
RESULTS_TOTAL_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of the results of all sessions together, `RESULT_OVERHEAD_BYTES` for each included."""
RESULT_OVERHEAD_BYTES = 256
"""What each result counts in the total besides its bytes, so that empty ones are counted too: about
what a small one takes in memory."""
ROOM_PART = 16
"""Which part of that bound is made free when it is passed."""
FAILURE_BYTES = 1024
"""What each exception counts as a result, whatever its message has: that may differ."""

SessionId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
"""What opening a session returned: its name in every command of it, and its secret."""
SESSION_ID_BITS = 62
Bound: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
Sequence: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
"""Number of a command within its session, from 1."""
ClientId: TypeAlias = Annotated[
    bytes, msgspec.Meta(min_length=CLIENT_ID_BYTES, max_length=CLIENT_ID_BYTES)
]
"""Random bytes that a client drew for one session."""


class Bounds(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What decides which sessions and commands are refused or forgotten; see `SessionMachine`."""

    sessions_max: Bound = SESSIONS_MAX
    results_max: Bound = RESULTS_MAX
    results_bytes_max: Bound = RESULTS_BYTES_MAX
    results_total_bytes_max: Bound | None = None
    """None: none, as in logs and snapshots from before there was one."""


DEFAULT_BOUNDS: Final = Bounds()


class UnknownCommand(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """A committed command that this release cannot read; refused on every node, nothing changed.

    Fault: the sender's, who is of a newer release, or speaks to another kind of machine.
    Remedy: upgrade all nodes before the clients that use what is new.
    """


class CommandFailed(RaftError):  # noqa: N818 - as above
    """What a command raised when it was applied, if that type is not known here.

    Fault: as the error says that the state machine raised.
    Remedy: name the type in `error_types`, to get it as itself.

    Attributes:
        type_name: the exception's class, as in "ValueError".
        message: what it said.
    """

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        self.message = message
        super().__init__(f"{type_name}: {message}")


class SessionFull(Overloaded):
    """The session has too many results that its client did not acknowledge; not applied.

    Fault: the client's, which has more commands on their way than `results_max`.
    Remedy: a smaller `Client(spread_max=…)`, or a larger `SessionMachine(results_max=…)`.
    """


def message_of(error: BaseException) -> str:
    """An exception's message, whatever it is: short enough to keep, and text that can be sent."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception's own code; that it failed is the message
        return f"a {type(error).__qualname__} that cannot be shown: its __str__ raises"
    if len(message) > MESSAGE_CHARS_MAX:
        message = f"{message[:MESSAGE_CHARS_MAX]}…"
    return message.encode(errors="backslashreplace").decode()


def error_from(
    type_name: str, message: str, error_types: Mapping[str, type[Exception]]
) -> Exception:
    """What a command raised, made again from what is known of it.

    Args:
        type_name: the exception's class.
        message: its message, see `message_of`.
        error_types: by name: classes to make it of again, where their constructor takes a message.
    """
    error_type = error_types.get(type_name)
    if error_type is not None:
        try:
            return error_type(message)
        except Exception:  # noqa: BLE001 - a constructor of its own kind; its name says what it was
            return CommandFailed(type_name, message)
    return CommandFailed(type_name, message)


# -- what stands in the log ----------------------------------------------------------------

ENVELOPE_VERSION = b"\x01"
"""First byte of every command. Fields may be appended to an envelope, with a default, without a
new version; whatever an old node would misread needs one."""


class PlainCommand(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A command without a session: if it is sent twice, it is applied twice."""

    data: bytes


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Open a session; its id is the result. Sent again, it opens no second one."""

    client_id: ClientId
    bounds: Bounds | None = None
    """Those that count from here on; put in by the node that proposes it, from its settings."""
    is_secret: bool = False
    """Whether the session's id is secret, or its log index; put in likewise."""


class SessionCommand(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A command that is applied once, however often it is sent."""

    session_id: SessionId
    sequence: Sequence
    acknowledged_below: Count
    """The client has the results of all commands with a sequence below this one."""
    data: bytes


class CloseSession(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The client is done; nothing is kept of its session."""

    session_id: SessionId


Envelope: TypeAlias = PlainCommand | OpenSession | SessionCommand | CloseSession
"""What a `SessionMachine` applies."""

_ENCODER = msgspec.msgpack.Encoder()
_ENVELOPES: msgspec.msgpack.Decoder[Envelope] = msgspec.msgpack.Decoder(Envelope)


def encode_plain(data: bytes) -> bytes:
    """A command without a session, for `propose`. It returns what the inner machine returns."""
    return ENVELOPE_VERSION + _ENCODER.encode(PlainCommand(data))


def encode_open(client_id: bytes) -> bytes:
    """Open a session, for `propose`. It returns the session's id, an `int`.

    Args:
        client_id: `CLIENT_ID_BYTES` random bytes. Send the same ones when you try again, and draw
            new ones for every new session.

    Raises:
        ConfigError: the client id has another length.
    """
    if len(client_id) != CLIENT_ID_BYTES:
        raise ConfigError(
            f"client_id has {len(client_id)} bytes: draw {CLIENT_ID_BYTES} random ones, as "
            f"secrets.token_bytes({CLIENT_ID_BYTES}) does"
        )
    return ENVELOPE_VERSION + _ENCODER.encode(OpenSession(client_id))


def encode_command(
    session_id: SessionId, sequence: Sequence, data: bytes, acknowledged_below: int = 0
) -> bytes:
    """A command of a session, for `propose`. It returns what the inner machine returned first.

    Args:
        session_id: what opening the session returned.
        sequence: the command's number, from 1, another one for each command. The same one when
            the command is sent again. Sessions do not order commands: those on their way at the
            same time may be applied in any order.
        data: the command, for the inner machine.
        acknowledged_below: the client has the results of all sequences below this one and will
            never send them again; 0 or 1 if there are none.

    Proposing it raises `SessionExpired` (the session was evicted or closed: whether an earlier
    attempt was applied is not known any more), `SessionFull` (too many results are unacknowledged;
    not applied), `ConfigError` (the sequence was acknowledged before; not applied), and whatever
    the command raised when it was applied.
    """
    return ENVELOPE_VERSION + _ENCODER.encode(
        SessionCommand(session_id, sequence, acknowledged_below, data)
    )


def encode_close(session_id: SessionId) -> bytes:
    """Close a session, for `propose`. It returns None, also if there is no such session."""
    return ENVELOPE_VERSION + _ENCODER.encode(CloseSession(session_id))


def is_repeatable(data: bytes) -> bool:
    """Whether an envelope may be sent again without harm: all but a command without a session."""
    return len(data) > 2 and data[:1] == ENVELOPE_VERSION and data[2] != 0


def opens_session(data: bytes) -> bool:
    """Whether an envelope opens a session."""
    return data[:1] == ENVELOPE_VERSION and data[2:3] == b"\x01"


def closes_session(data: bytes) -> bool:
    """Whether an envelope closes one."""
    return data[:1] == ENVELOPE_VERSION and data[2:3] == b"\x03"


def decode_envelope(data: bytes) -> Envelope:
    """What `encode_…` made.

    Raises:
        UnknownCommand: it is of a later version, or nothing of the kind.
    """
    version = data[:1]
    if version != ENVELOPE_VERSION:
        raise UnknownCommand(
            f"a command of envelope version {version.hex() or 'none'} is in the log, this release "
            f"reads {ENVELOPE_VERSION.hex()}: encode commands with its sessions, and upgrade "
            "every node before any of them proposes in a later version"
        )
    try:
        return _ENVELOPES.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise UnknownCommand(f"a command in the log cannot be read: {error}") from error


# -- the table -----------------------------------------------------------------------------


class _Failure(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    type_name: str
    message: str


class _Success(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    value: bytes
    """As msgpack."""


_Outcome: TypeAlias = _Success | _Failure


class _Session(msgspec.Struct, array_like=True, gc=False):
    """What is remembered of one client. Nothing in it refers to anything else: no cycle is made of
    it, and a million of them are no work for the collector."""

    client_id: bytes
    acknowledged_below: int = 0
    results: dict[int, _Outcome] = {}
    results_bytes: int = 0


class _SessionTable(msgspec.Struct, frozen=True, array_like=True):
    """The sessions as they stand in a snapshot, least recently used first. (It is written, and
    read, piece by piece: see `_encoded_table` and `_read_table`.)"""

    version: int
    bounds: Bounds
    sessions: list[tuple[int, _Session]]


TABLE_VERSION = 1
"""Version of the session table in a snapshot."""
_TABLE_MAGIC = b"trioraft sessions\n"
_TABLE_FIELDS = len(_SessionTable.__struct_fields__)
_Listed: TypeAlias = list[tuple[int, _Session]]
_LISTED: msgspec.msgpack.Decoder[_Listed] = msgspec.msgpack.Decoder(_Listed)


@final
class SessionMachine:
    """A state machine with sessions around another one.

    Its commands are made by `encode_plain`, `encode_open`, `encode_command` and `encode_close`.

    Args:
        machine: what the commands' data is applied to. Its results must be encodable by msgspec.
        result_type: what `machine.apply` returns: a stored result is decoded as this, so that a
            repeated command returns the same as the first one. Default: plain msgpack types.
        error_types: exceptions that `machine.apply` raises on purpose: a repeated command raises
            the same type, made from its message (its first `MESSAGE_CHARS_MAX` characters).
            Any other, and one that cannot be made so, becomes `CommandFailed`.
        sessions_max: sessions kept; one more evicts the least recently used one, by log order.
        results_max: unacknowledged results of one session; then its commands are refused.
        results_bytes_max: likewise, in bytes; passed by one result at most.
        results_total_bytes_max: bytes of the results of all sessions, each with
            `RESULT_OVERHEAD_BYTES` more; beyond it the sessions that hold most are evicted, of
            equals the least recently used ones, until a sixteenth of it is free.
        reads_bare: whether commands in no envelope, and snapshots without sessions, are the inner
            machine's: those of a log that began without a `SessionMachine`. No command of the inner
            machine may begin with the first byte of an envelope then.

    The bounds decide what is applied, so they stand in the log: those of the node that leads when a
    session is opened count from then on, on every node, whatever its own settings are. Until then,
    and where nobody prepares commands, they are the defaults.

    Raises:
        ConfigError: a bound is not positive.
    """

    def __init__(
        self,
        machine: StateMachine,
        *,
        result_type: Any = Any,
        error_types: Iterable[type[Exception]] = (),
        sessions_max: int = SESSIONS_MAX,
        results_max: int = RESULTS_MAX,
        results_bytes_max: int = RESULTS_BYTES_MAX,
        results_total_bytes_max: int = RESULTS_TOTAL_BYTES_MAX,
        reads_bare: bool = False,
    ) -> None:
        self._reads_bare = reads_bare
        self.machine = machine
        """The inner state machine."""
        self.canonical_contents: Callable[[], bytes | Iterable[bytes]] | None = contents_of(machine)
        """Of the inner machine. The table is not: the texts of exceptions may differ."""
        self._prepare_inside = preparation_of(machine)
        self._keys_inside = machine.keys_written if isinstance(machine, KeyedCommands) else None
        self.keys_written: Callable[[bytes], Iterable[bytes]] | None = (
            None if self._keys_inside is None else self._keys_written
        )
        """Which keys a command writes, if the inner machine says that; else None."""
        inside = timed(machine)
        self.due_in_s: Callable[[float], float | None] | None = (
            None if inside is None else inside.due_in_s
        )
        """When something ends by itself in the inner machine, if it says that; else None."""
        self.command_when_due: Callable[[float], bytes] | None = (
            None if inside is None else self._command_when_due(inside)
        )
        self._results: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(result_type)
        self._error_types = {error_type.__qualname__: error_type for error_type in error_types}
        given = (sessions_max, results_max, results_bytes_max, results_total_bytes_max)
        if min(given) < 1:
            raise ConfigError(
                "sessions_max, results_max, results_bytes_max and results_total_bytes_max are "
                f"{given}: give positive whole numbers"
            )
        self._settings = Bounds(*given)
        self._bounds = DEFAULT_BOUNDS  # as the log has them
        self._results_bytes = 0  # what all sessions weigh
        # Least recently used first. Whoever changes a session takes it out, and puts it in again.
        self._sessions: ViewedDict[SessionId, _Session] = ViewedDict(freeze=_as_it_is)
        self._id_of: dict[bytes, SessionId] = {}
        self._discarded = Discarded()
        self._is_inside = False  # what was raised last came out of the inner machine

    @property
    def machine_kind(self) -> str:
        """That of the inner machine, in sessions."""
        return f"{kind_of(self.machine)} in sessions"

    @property
    def spread_max(self) -> int:
        """How many commands of one session may be on their way at the same time, as far as this
        node's own bounds go."""
        return max(1, self._settings.results_max // 2)

    def _opened(self, data: bytes) -> Envelope:
        if self._reads_bare and data[:1] != ENVELOPE_VERSION:
            return PlainCommand(data)
        return decode_envelope(data)

    def __len__(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """What counts against a bound over all sessions: by name, how much there is and how much
        there may be (None: any); with that of the inner machine, if it has a `usage` too. Names
        and numbers only; nothing of a session."""
        bounds = self._bounds
        inside = getattr(self.machine, "usage", None)
        return {
            **({} if inside is None else inside()),
            "sessions": (len(self._sessions), bounds.sessions_max),
            "results_bytes": (self._results_bytes, bounds.results_total_bytes_max),
        }

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """Apply one envelope; see `encode_…` for what it returns and raises.

        As `StateMachine.apply`.
        """
        self._is_inside = False
        if self._discarded:
            self._discarded.let_go()
        envelope = self._opened(data)
        match envelope:
            case SessionCommand():
                return self._apply_once(index, envelope)
            case PlainCommand():
                return self._apply_inside(index, envelope.data)
            case OpenSession():
                return self._open(index, envelope)
            case CloseSession():
                return self._forget(envelope.session_id)

    def prepare_command(self, data: bytes) -> bytes:
        """Refuse what cannot be read, or is nested too deep, before it is proposed; the opening of
        a session gets the bounds of this node, and a secret id.

        Raises:
            UnknownCommand, ConfigError: that is so, of the envelope or of what is in it.
        """
        check_nesting(data[1:])
        envelope = self._opened(data)
        if self._prepare_inside is not None and isinstance(envelope, PlainCommand | SessionCommand):
            prepared = self._prepare_inside(envelope.data)
            if prepared is not envelope.data:
                changed = msgspec.structs.replace(envelope, data=prepared)
                return ENVELOPE_VERSION + _ENCODER.encode(changed)
        elif isinstance(envelope, OpenSession):
            opening = OpenSession(envelope.client_id, self._settings, True)
            return ENVELOPE_VERSION + _ENCODER.encode(opening)
        return data

    def _keys_written(self, data: bytes) -> Iterable[bytes]:
        check_nesting(data[1:])
        envelope = self._opened(data)
        if self._keys_inside is None or not isinstance(envelope, PlainCommand | SessionCommand):
            return ()
        return self._keys_inside(envelope.data)

    @staticmethod
    def _command_when_due(inside: Timed) -> Callable[[float], bytes]:
        return lambda now_s: encode_plain(inside.command_when_due(now_s))

    def is_result(self, error: Exception) -> bool:
        """Whether what the last `apply` raised is a result; called by the node."""
        return is_result(self.machine, error) if self._is_inside else not is_local(error)

    def _apply_inside(self, index: LogIndex, data: bytes) -> Any:
        self._is_inside = True
        result = self.machine.apply(index, data)
        self._is_inside = False
        return result

    # -- opening and closing ---------------------------------------------------------------

    def _open(self, index: LogIndex, opening: OpenSession) -> SessionId:
        client_id = opening.client_id
        self._bounds = opening.bounds or self._bounds
        known = self._id_of.get(client_id)
        if known is not None:
            self._use(known)
            return known
        while len(self._sessions) >= self._bounds.sessions_max:
            self._forget(next(iter(self._sessions)))
        self._keep_within_total()
        session_id = self._secret_id(client_id, index) if opening.is_secret else index
        self._sessions[session_id] = _Session(client_id)
        self._id_of[client_id] = session_id
        return session_id

    def _secret_id(self, client_id: bytes, index: LogIndex) -> SessionId:
        """Keyed by what only the client and the log have; the index makes it another one each time
        that the same client id is used."""
        said = index.to_bytes(8, "big")
        digest = hashlib.blake2b(said, digest_size=8, key=client_id).digest()
        session_id = int.from_bytes(digest, "big") >> (64 - SESSION_ID_BITS) or 1
        while session_id in self._sessions:
            session_id = session_id % (2**SESSION_ID_BITS - 1) + 1
        return session_id

    def _forget(self, session_id: SessionId) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            del self._id_of[session.client_id]
            self._results_bytes -= _weight_bytes(session)

    def _keep_within_total(self) -> None:
        """Evict who holds most, if all results together have passed their bound: until there is
        some room again, so that not every further result has all sessions looked at."""
        total_max = self._bounds.results_total_bytes_max
        if total_max is None or self._results_bytes <= total_max:
            return
        kept_bytes = total_max - total_max // ROOM_PART
        # Of equals the first stays first, and they stand in the order of their last use.
        by_weight = sorted(self._sessions, key=lambda each: -_weight_bytes(self._sessions[each]))
        for session_id in by_weight:
            if self._results_bytes <= kept_bytes:
                return
            self._forget(session_id)

    def _use(self, session_id: SessionId) -> _Session:
        """The session, which is the most recently used one now."""
        session: _Session | None = self._sessions.pop(session_id, None)
        if session is None:
            raise SessionExpired(
                "this session is not open (any more): of more than "
                f"{self._bounds.sessions_max} the least recently used one goes, and where the "
                "results of all grow too large, the one that holds most. Whether commands without "
                "an answer were applied is not known: ask the state machine, and open a new session"
            )
        self._sessions[session_id] = session
        return session

    # -- commands --------------------------------------------------------------------------

    def _apply_once(self, index: LogIndex, command: SessionCommand) -> Any:
        session = self._use(command.session_id)
        if command.acknowledged_below > session.acknowledged_below:
            before_bytes = _weight_bytes(session)
            _acknowledge(session, command.acknowledged_below)
            self._results_bytes += _weight_bytes(session) - before_bytes
        stored = session.results.get(command.sequence)
        if stored is not None:
            return self._repeat(stored)
        if command.sequence < session.acknowledged_below:
            raise ConfigError(
                f"sequence {command.sequence} of this session is below "
                f"{session.acknowledged_below}, which the client has acknowledged: its result is "
                "not kept. Number commands upwards, and acknowledge only what is answered"
            )
        self._check_room(session, command)
        try:
            result = self._apply_inside(index, command.data)
            outcome = _encoded(result)
        except Exception as error:
            if not self.is_result(error):
                raise
            failure = _Failure(type(error).__qualname__, message_of(error))
            self._keep(session, command.sequence, failure)
            if isinstance(error, SessionExpired | SessionFull):  # of the machine's, not of ours
                self._is_inside = False
                raise CommandFailed(failure.type_name, failure.message) from error
            raise
        self._keep(session, command.sequence, outcome)
        return result

    def _check_room(self, session: _Session, command: SessionCommand) -> None:
        results_max = self._bounds.results_max
        results_bytes_max = self._bounds.results_bytes_max
        if len(session.results) >= results_max or session.results_bytes >= results_bytes_max:
            raise SessionFull(
                f"this session has {len(session.results)} results of "
                f"{session.results_bytes} bytes that its client has not acknowledged (bounds: "
                f"{results_max}, {results_bytes_max} bytes); sequence {command.sequence} was not "
                "applied: raise acknowledged_below, or have fewer commands on their way"
            )

    def _keep(self, session: _Session, sequence: Sequence, outcome: _Outcome) -> None:
        size_bytes = _size_bytes(outcome)
        session.results[sequence] = outcome
        session.results_bytes += size_bytes
        self._results_bytes += size_bytes + RESULT_OVERHEAD_BYTES
        self._keep_within_total()

    def _repeat(self, stored: _Outcome) -> Any:
        if isinstance(stored, _Success):
            try:
                return self._results.decode(stored.value)
            except msgspec.ValidationError as error:  # kept by a release with other results
                raise OutcomeUnknown(
                    f"it was applied; what it returned is of old: {error}"
                ) from None
        if stored.type_name == OutcomeUnknown.__qualname__:  # this node could not say, and cannot
            raise OutcomeUnknown(stored.message)
        raise error_from(stored.type_name, stored.message, self._error_types)

    def snapshot(self) -> Iterator[bytes]:
        """The session table, then what the inner machine says. Of both a view is taken now; they
        are encoded later, piece by piece, so that nobody waits for all of it."""
        table = _encoded_table(self._bounds, self._sessions.view())
        content = self.machine.snapshot()
        return chain(table, (content,) if isinstance(content, bytes) else content)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the sessions, and have the inner machine replace its state.

        Raises:
            ConfigError: the snapshot is not one of a `SessionMachine`.
        """
        reader = ChunkReader(chunks)
        bounds, sessions = DEFAULT_BOUNDS, ViewedDict[SessionId, _Session](freeze=_as_it_is)
        id_of: dict[bytes, SessionId] = {}
        results_bytes = 0
        if not self._reads_bare or reader.begins_with(_TABLE_MAGIC):
            head = reader.head_chunks(_TABLE_MAGIC, "a SessionMachine")
            bounds, pieces = _read_table(head)
            for piece in pieces:
                sessions.update(piece)
                for number, session in piece:
                    id_of[session.client_id] = number
                    results_bytes += _weight_bytes(session)
        self._discarded.add(self._sessions, self._id_of)
        self._bounds, self._sessions, self._id_of = bounds, sessions, id_of
        self._results_bytes = results_bytes
        self.machine.restore(reader.rest())


def sessions_in(reader: ChunkReader) -> int | None:
    """How many sessions a snapshot has, if it is one of a `SessionMachine`; what follows in the
    reader is the inner machine's. None: it is not, and nothing was read.

    Raises:
        ConfigError: the table cannot be read.
    """
    if not reader.begins_with(_TABLE_MAGIC):
        return None
    _, pieces = _read_table(reader.head_chunks(_TABLE_MAGIC, "a SessionMachine"))
    return sum(map(len, pieces))


def _acknowledge(session: _Session, below: int) -> None:
    """Forget the results that the client has."""
    if below <= session.acknowledged_below:
        return
    results, begin = session.results, session.acknowledged_below
    session.acknowledged_below = below
    acknowledged: Iterable[int] = range(begin, below)  # mostly one or two, of hundreds
    if below - begin > len(results):
        acknowledged = [sequence for sequence in results if sequence < below]
    for sequence in acknowledged:
        outcome = results.pop(sequence, None)
        if outcome is not None:
            session.results_bytes -= _size_bytes(outcome)


def _size_bytes(outcome: _Outcome) -> int:
    return len(outcome.value) if isinstance(outcome, _Success) else FAILURE_BYTES


def _weight_bytes(session: _Session) -> int:
    """What it counts in the total."""
    return session.results_bytes + RESULT_OVERHEAD_BYTES * len(session.results)


def _encoded_table(bounds: Bounds, sessions: DictView[SessionId]) -> Iterator[bytes]:
    """A `_SessionTable` as it stands in a snapshot. It stands behind its length, so nothing can be
    handed out before everything is encoded; an empty chunk for each piece lets others have their
    turn."""
    empty = _ENCODER.encode(_SessionTable(TABLE_VERSION, bounds, []))
    pieces = [empty[:-1] + array_head(len(sessions))]
    for piece in sessions.pieces(_encoded_sessions):
        pieces.append(piece)
        yield b""
    yield head_of(_TABLE_MAGIC, sum(map(len, pieces)))
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def _encoded_sessions(ids: list[SessionId], sessions: list[Any]) -> bytes:
    encoded = _ENCODER.encode(list(zip(ids, sessions, strict=True)))
    return encoded[head_bytes(len(ids)) :]


def _as_it_is(session: _Session) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(session))


def _encoded(result: object) -> _Success:
    """A result as it is kept.

    Raises:
        ConfigError: it cannot be kept. The command is applied, with this error as its result.
    """
    try:
        value = _ENCODER.encode(result)
        check_result_nesting(value)
    except RecursionError:
        raise result_too_deep() from None  # of the result's, not of this machine's: see `nesting`
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"the command was applied, but its result, a {type(result).__name__}, cannot be kept "
            f"in a session: {error}. Return bytes, numbers, text, lists, dicts, or msgspec structs"
        ) from error
    return _Success(value)


def _read_table(chunks: Iterator[bytes]) -> tuple[Bounds, Iterator[_Listed]]:
    """The bounds, and the sessions piece by piece; all of it is to be read.

    Raises:
        ConfigError: it cannot be read; also while the sessions are.
    """
    reader = ItemReader(chunks)
    try:
        fields = reader.count(is_map=False)
        if fields is None or fields < _TABLE_FIELDS:
            raise msgspec.DecodeError("it is no table")
        version = msgspec.msgpack.decode(reader.one(), type=int)
        if version != TABLE_VERSION:
            raise ConfigError(
                f"the snapshot's session table has version {version}, this release reads "
                f"{TABLE_VERSION}: run a release that reads it"
            )
        bounds = msgspec.msgpack.decode(reader.one(), type=Bounds)
    except UNREADABLE as error:
        raise _unreadable(error) from error
    return bounds, _read_sessions(reader, fields - _TABLE_FIELDS)


def _read_sessions(reader: ItemReader, further: int) -> Iterator[_Listed]:
    try:
        count = reader.count(is_map=False)
        if count is None:
            raise msgspec.DecodeError("it has no sessions")
        for piece in reader.pieces(count, 1, array_head):
            sessions = _LISTED.decode(piece)
            for _, session in sessions:
                for outcome in session.results.values():
                    if isinstance(outcome, _Success):
                        msgspec.msgpack.decode(outcome.value)
            yield sessions
        for _ in range(further):  # of a later release
            reader.one()
        if not reader.is_at_end():
            raise msgspec.DecodeError("something follows it")
    except UNREADABLE as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> ConfigError:
    return ConfigError(f"the snapshot's session table cannot be read: {error}")
