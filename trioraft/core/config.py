"""Timing and Limits: what can be set, validated when it is set.

Rules of this file: every bound in trioraft has its name here, with its unit last; a value that
cannot work is refused with both values and the rule it breaks.
"""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from .errors import ConfigError

HEARTBEATS_PER_TIMEOUT_MIN = 2
"""A follower must be able to lose one heartbeat and still hear the next before it times out."""


ROUND_TRIPS_PER_TIMEOUT: Final = 4
"""So many answers, durable writes included, fit into the lower election timeout that is chosen for
a line: a pre-vote, a vote, the first heartbeat of whoever won, and one to spare."""
HEARTBEATS_PER_TIMEOUT: Final = 3
"""As in the defaults."""
RETRANSMIT_S: Final = 0.2
"""How long a kernel waits for an acknowledgement, beyond a round trip, before it sends again; and
then twice as long, each time (RFC 6298; Linux has at least this)."""
STALL_CHANCE_MAX: Final = 0.002
"""How likely it may be that one segment is lost so often in a row that an election timeout is over:
one impatient follower disturbs nobody, and a majority seldom is impatient at the same moment."""
LOSS_MAX: Final = 0.5
"""From here on no connection carries anything worth waiting for."""


@attrs.frozen
class Timing:
    """When nodes lose patience.

    Raises:
        ConfigError: a range is empty, a time is not positive and finite, or the heartbeat is
            not well below the lower election timeout.

    The rule is the paper's (section 5.6): broadcast time ≪ election timeout ≪ time between
    failures. A heartbeat above half of the lower timeout deposes healthy leaders for ever.
    """

    election_timeout_s: tuple[float, float] = (0.150, 0.300)
    """Range, in seconds, from which each election timeout is drawn at random."""
    heartbeat_interval_s: float = 0.050
    """How often a leader is heard, in seconds."""
    fast_failover: bool = True
    """Whether a closed connection to the leader brings the election forward (a hint only)."""
    fast_failover_spread_s: float = 0.010
    """Range 0..spread, in seconds, over which followers draw their start after such a hint."""
    pre_vote: bool = True
    """Ask whether an election could be won before disturbing anyone (dissertation 9.6)."""
    check_quorum: bool = True
    """A leader that hears no majority for an election timeout steps down, and a follower that
    hears its leader refuses votes (dissertation 6.2, 4.2.3)."""
    widening_max: int = 8
    """How often the election timeout may be stretched after elections that nobody won; it
    doubles each time up to this factor. 1 turns it off."""

    lease_clock_drift_max: float | None = None
    """Allow lease reads: how far this node's clock may be from the time, as a fraction (0.01: 1 %
    faster or slower). As a leader it then answers `read_barrier(lease=True)` by its clock alone,
    without asking anyone, for as long as a quorum has promised to let nobody else lead; as a
    follower it promises that. *If a clock breaks this bound, such a read may be stale.* Needs
    fast_failover=False, since a follower that lost a connection stops protecting its leader. None:
    no leases, and no promise."""

    @classmethod
    def for_round_trip(
        cls, round_trip_s: float, *, loss: float = 0.0, write_s: float = 0.0
    ) -> Timing:
        """What to choose for a line, or a disk, that the defaults do not suit.

        The lower election timeout holds four round trips, each with a durable write, and what a
        kernel waits before it has sent a lost segment again often enough; the upper one is twice
        that. Heartbeats leave about once a round trip. Nothing becomes shorter than its default:
        with a round trip below 37 ms, no loss and a fast disk, these are the defaults.

        Example::

            Timing.for_round_trip(0.400)                    # (1.6, 3.2), heartbeats each 0.4 s
            Timing.for_round_trip(0.001, loss=0.1)          # (0.753, 1.506), each 0.05 s
            attrs.evolve(Timing.for_round_trip(0.1), fast_failover=False)

        Args:
            round_trip_s: between the two members that are farthest from each other, in seconds.
            loss: of how many packets, as a fraction (0.1: every tenth) of those of one direction.
            write_s: how long a durable write of the slowest disk takes, in seconds.

        Raises:
            ConfigError: a time is negative or not finite, or so much is lost that no connection
                holds.
        """
        for name, value in (("round_trip_s", round_trip_s), ("write_s", write_s)):
            if value != 0 and not _is_positive(value):
                raise ConfigError(f"{name} is {value!r}: give a finite time in seconds, from 0")
        if not (loss == 0 or _is_positive(loss)) or loss >= LOSS_MAX:
            raise ConfigError(
                f"loss is {loss!r}: give the fraction of packets that are lost, from 0 to below "
                f"{LOSS_MAX:g}; no timing suits a line that loses more"
            )
        usual = cls()
        answer_s = round_trip_s + write_s
        stall_s = _longest_stall_s(round_trip_s, loss)
        low_s = _to_ms(
            max(usual.election_timeout_s[0], ROUND_TRIPS_PER_TIMEOUT * answer_s) + stall_s
        )
        heartbeat_s = max(usual.heartbeat_interval_s, round_trip_s)
        return cls(
            election_timeout_s=(low_s, 2 * low_s),
            heartbeat_interval_s=_to_ms(min(heartbeat_s, low_s / HEARTBEATS_PER_TIMEOUT)),
            fast_failover_spread_s=max(usual.fast_failover_spread_s, _to_ms(round_trip_s)),
        )

    @property
    def round_trip_s_max(self) -> float:
        """The longest round trip, with a durable write, that this suits, in seconds, if nothing is
        lost. See `for_round_trip`."""
        return self.election_timeout_s[0] / ROUND_TRIPS_PER_TIMEOUT

    @property
    def promise_s(self) -> float:
        """For how long after hearing a leader a node protects it by promise, in seconds of its own
        clock (dissertation 6.4.1); 0: it promises nothing."""
        return 0.0 if self.lease_clock_drift_max is None else self.leader_protection_s

    @property
    def leader_protection_s(self) -> float:
        """How long after hearing its leader a follower refuses (pre-)votes, in seconds.

        A little less than the lower election timeout (dissertation 4.2.3): otherwise a tie of one
        follower's timer with another's protection costs a whole further timeout (hazard L5).
        """
        return self.election_timeout_s[0] - self.heartbeat_interval_s / 2

    def __attrs_post_init__(self) -> None:
        timeouts = self.election_timeout_s
        if not (isinstance(timeouts, tuple) and len(timeouts) == 2):
            raise ConfigError(
                f"election_timeout_s is {timeouts!r}: give (lower, upper) in seconds, as "
                "(0.150, 0.300)"
            )
        low, high = timeouts
        for name, value in (
            ("election_timeout_s lower bound", low),
            ("election_timeout_s upper bound", high),
            ("heartbeat_interval_s", self.heartbeat_interval_s),
        ):
            if not _is_positive(value):
                raise ConfigError(f"{name} is {value!r}: give a positive, finite time in seconds")
        if low > high:
            raise ConfigError(
                f"election_timeout_s is ({low!r}, {high!r}): the lower bound is above the upper; "
                "give (lower, upper)"
            )
        if self.heartbeat_interval_s * HEARTBEATS_PER_TIMEOUT_MIN > low:
            raise ConfigError(
                f"heartbeat_interval_s is {self.heartbeat_interval_s:g} s, but election_timeout_s "
                f"is ({low:g} s, {high:g} s): followers would depose every healthy leader. "
                f"Rule: heartbeat_interval_s × {HEARTBEATS_PER_TIMEOUT_MIN} ≤ lower election "
                f"timeout; use {low / 3:g} s, or raise election_timeout_s"
            )
        spread_s = self.fast_failover_spread_s
        if self.fast_failover and not _is_positive(spread_s):
            raise ConfigError(
                f"fast_failover_spread_s is {self.fast_failover_spread_s!r}: give a positive time "
                "in seconds, or fast_failover=False"
            )
        self._check_leases()
        if not _is_count(self.widening_max):
            raise ConfigError(
                f"widening_max is {self.widening_max!r}: give a whole factor of at least 1 "
                "(1 = never)"
            )

    def _check_leases(self) -> None:
        drift = self.lease_clock_drift_max
        if drift is None:
            return
        if not isinstance(drift, int | float) or not 0 <= drift < 1:
            raise ConfigError(
                f"lease_clock_drift_max is {drift!r}: give a fraction from 0 to below 1, as 0.01, "
                "or None for no leases"
            )
        if self.fast_failover or not (self.check_quorum and self.pre_vote):
            raise ConfigError(
                "lease_clock_drift_max needs fast_failover=False, check_quorum=True and "
                "pre_vote=True: a lease holds only as long as followers refuse votes to others"
            )


ENTRY_OVERHEAD_BYTES: Final = 256
"""What an entry of the log, or a command on its way, costs in memory beside its bytes."""

LOG_BYTES_LEAST: Final = 512 * 1024 * 1024

FRAME_BYTES_LIMIT = 2**30 - 1
"""What the four bytes of a frame's length can say, beside two marks."""


@attrs.frozen
class Limits:
    """Every bound of a node. Reaching one slows or refuses; it never grows memory.

    Raises:
        ConfigError: a bound is not positive.
    """

    frame_bytes_max: int = 64 * 1024 * 1024
    """Largest frame accepted from a peer; checked before anything is allocated."""
    handshake_timeout_s: float = 5.0
    """How long a new connection may take to say who it is."""
    frame_timeout_s: float = 10.0
    """How long a half-read frame, or a blocked send, may take before the connection goes."""
    connect_timeout_s: float = 5.0
    """How long one attempt to reach a peer may take."""
    reconnect_backoff_s: tuple[float, float] = (0.010, 1.0)
    """First and longest pause between attempts to reach a peer; doubled each time, with jitter."""
    inbound_connections_max: int = 64
    """Connections that have not said yet who they are; for one more, the one that kept silent
    longest goes. Peers that did say it count apart: four connections each."""
    inbound_half_frames_bytes_max: int = 32 * 1024 * 1024
    """Bytes of half-read frames of all peers together; beyond it the oldest goes."""
    link_queue_messages_max: int = 4096
    """Messages that may wait for one peer; beyond it new ones are dropped (Raft retries)."""
    link_queue_bytes_max: int = 64 * 1024 * 1024
    """Bytes that may wait for one peer."""
    append_entries_max: int = 4096
    """Entries in one AppendEntries."""
    append_bytes_max: int = 1024 * 1024
    """Bytes of commands in one AppendEntries (one entry may exceed it alone)."""
    inflight_messages_max: int = 64
    """AppendEntries on the way to one follower before the leader waits for an answer."""
    inflight_bytes_max: int = 16 * 1024 * 1024
    """Bytes of commands on the way to one follower."""
    write_bytes_max: int = 2 * 1024 * 1024
    """Bytes of commands in one durable write (one entry may exceed it alone). A leader whose disk
    does not finish one within an election timeout gives way: what the disk can write in a fraction
    of that is a good bound."""
    snapshot_entries: int = 100_000
    """Entries applied since the last snapshot that make a node take another. Its first one, and
    the first after a start, comes sooner than that by a part that depends on which of the members
    it is: so they do not all take theirs at once."""
    snapshot_bytes: int = 64 * 1024 * 1024
    """Bytes of commands applied since the last snapshot that make a node take another."""
    snapshot_tail_entries: int = 10_000
    """Entries kept before a snapshot, so that a slow follower need not be sent the snapshot. The
    log keeps what came after the previous snapshot in any case."""
    snapshot_tail_bytes: int = 16 * 1024 * 1024
    """Bytes of commands in those entries: where they are more, fewer entries are kept. As all of
    the log is in memory, it is this and `snapshot_bytes` that bound it there."""
    snapshot_chunk_bytes: int = 1024 * 1024
    """Bytes of a snapshot in one message."""
    command_bytes_max: int = 8 * 1024 * 1024
    """Largest single command."""
    proposals_bytes_max: int = 64 * 1024 * 1024
    """Bytes of commands proposed and not yet applied, with 256 more for each; then `propose` waits,
    and `submit` refuses."""
    log_memory_bytes_max: int | None = None
    """Bytes of commands in the log, all of which is in memory, with 256 more for each: beyond it,
    as where no snapshot can be written for long, a leader takes no further command (`Overloaded`)
    until one is. None: four times what snapshots are to keep it at, and at least 512 MiB
    (`log_memory_bytes_bound`). A follower takes what its leader has taken."""
    outcome_wait_s: float | None = None
    """How long a leader that was deposed waits for what becomes of commands that it took, in
    seconds; then their outcome is unknown. None: ten upper election timeouts."""
    event_stream_max: int = 4096
    """Events that may wait in one `node.events()` stream; beyond it they are dropped, counted."""

    @property
    def log_memory_bytes_bound(self) -> int:
        """`log_memory_bytes_max`, or what stands for it."""
        if self.log_memory_bytes_max is not None:
            return self.log_memory_bytes_max
        return max(LOG_BYTES_LEAST, 4 * self._log_bytes_wanted)

    @property
    def _log_bytes_wanted(self) -> int:
        """What the log holds where snapshots are taken when they are due."""
        entries = self.snapshot_entries + self.snapshot_tail_entries
        by_entries = entries * ENTRY_OVERHEAD_BYTES
        return self.snapshot_bytes + self.snapshot_tail_bytes + by_entries

    def __attrs_post_init__(self) -> None:
        check_bounds(self)
        first, longest = self.reconnect_backoff_s
        if first > longest:
            raise ConfigError(
                f"Limits.reconnect_backoff_s is ({first!r}, {longest!r}): the first pause is "
                "longer than the longest; give (first, longest)"
            )
        if self.frame_bytes_max > FRAME_BYTES_LIMIT:
            raise ConfigError(
                f"Limits.frame_bytes_max is {self.frame_bytes_max}: the length of a frame has 30 "
                f"bits; give at most {FRAME_BYTES_LIMIT}"
            )
        given, least = self.log_memory_bytes_max, 2 * self.snapshot_bytes
        if given is not None and not (_is_count(given) and given >= least):
            raise ConfigError(
                f"Limits.log_memory_bytes_max is {given!r}: a snapshot is due after snapshot_bytes "
                f"({self.snapshot_bytes}), and the log grows until it is written; give a whole "
                f"number, at least {least}"
            )
        if 2 * self.snapshot_chunk_bytes > self.frame_bytes_max:
            raise ConfigError(
                f"Limits: snapshot_chunk_bytes ({self.snapshot_chunk_bytes}) is more than half of "
                f"frame_bytes_max ({self.frame_bytes_max}): a chunk would be refused by every peer"
            )
        if self.append_bytes_max + self.command_bytes_max > self.frame_bytes_max:
            raise ConfigError(
                f"Limits: append_bytes_max ({self.append_bytes_max}) plus command_bytes_max "
                f"({self.command_bytes_max}) exceed frame_bytes_max ({self.frame_bytes_max}): a "
                "full AppendEntries would be refused by every peer"
            )


def check_bounds(bounds: Any) -> None:
    """Check each field of a class of bounds by what its default is: a time or a range of times is
    positive; whatever counts something is a whole number.

    Args:
        bounds: an instance of an attrs class whose fields have defaults.

    Raises:
        ConfigError: what one of them is, and what to give.
    """
    of = type(bounds).__name__
    for field in attrs.fields(type(bounds)):
        _check_bound(f"{of}.{field.name}", getattr(bounds, field.name), field.default)


def _check_bound(name: str, value: object, default: object) -> None:
    if isinstance(default, int):
        if not _is_count(value):
            raise ConfigError(f"{name} is {value!r}: give a positive whole number")
    elif isinstance(default, tuple):
        is_range = isinstance(value, tuple) and len(value) == len(default)
        if not (is_range and isinstance(value, tuple) and all(map(_is_positive, value))):
            raise ConfigError(f"{name} is {value!r}: give two positive numbers")
    elif not (_is_positive(value) or (default is None and value is None)):
        raise ConfigError(f"{name} is {value!r}: give a positive number")


def _longest_stall_s(round_trip_s: float, loss: float) -> float:
    """How long a connection says nothing while what was lost is sent again: so often in a row that
    more is unlikely enough."""
    waits_s, stall_s, chance = round_trip_s + RETRANSMIT_S, 0.0, loss
    while chance > STALL_CHANCE_MAX:
        stall_s += waits_s
        waits_s *= 2
        chance *= loss
    return stall_s


def _to_ms(seconds: float) -> float:
    """In whole milliseconds, not less."""
    return math.ceil(round(seconds * 1000, 6)) / 1000


def _is_positive(value: object) -> bool:
    """A finite number above 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and isinstance(value, int | float) and math.isfinite(value) and value > 0


def _is_count(value: object) -> bool:
    """A whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
