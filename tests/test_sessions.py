"""Sessions: a command that is sent again is applied once, whatever happens between (hazards S5, S6,
EXO). The machine alone first, then in a cluster that loses its leader."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trioraft import ConfigError, Limits, NotLeader, OutcomeUnknown, ProposalDropped, SessionExpired
from trioraft.core.errors import InvariantViolation
from trioraft.machines.sessions import (
    CLIENT_ID_BYTES,
    RESULT_OVERHEAD_BYTES,
    CommandFailed,
    SessionFull,
    SessionMachine,
    UnknownCommand,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.testing.cluster import Cluster, open_cluster


class Appending:
    """Appends; the result is what there is after that. "bad" is appended, and raises."""

    def __init__(self) -> None:
        self.text = b""

    def apply(self, index: int, data: bytes) -> object:
        self.text += data
        if data == b"bad":
            raise ValueError("this command is bad")
        if data == b"odd":
            raise LookupError("nobody declared this one")
        return object() if data == b"unencodable" else self.text

    def snapshot(self) -> Iterable[bytes]:
        return iter([self.text[:1], self.text[1:]])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.text = b"".join(chunks)


class Log:
    """Applies commands at rising indexes."""

    def __init__(self, **options: Any) -> None:
        self.inner = Appending()
        self.machine = SessionMachine(
            self.inner, result_type=bytes, error_types=(ValueError,), **options
        )
        self.index = 0

    def apply(self, data: bytes) -> object:
        self.index += 1
        return self.machine.apply(self.index, data)

    def open(self, number: int = 0) -> int:
        session_id = self.apply(self.machine.prepare_command(encode_open(client_id(number))))
        assert isinstance(session_id, int)
        return session_id

    def send(self, session: int, sequence: int, data: bytes, acknowledged_below: int = 0) -> object:
        return self.apply(encode_command(session, sequence, data, acknowledged_below))


def client_id(number: int) -> bytes:
    return number.to_bytes(CLIENT_ID_BYTES, "big")


# -- once ----------------------------------------------------------------------------------


def test_a_repeated_command_returns_its_first_result_and_is_not_applied() -> None:
    log = Log()
    session = log.open()
    assert log.send(session, 1, b"a") == b"a"
    assert log.send(session, 2, b"b") == b"ab"
    assert log.send(session, 1, b"a") == b"a"
    assert log.inner.text == b"ab"


def test_a_plain_command_is_applied_each_time() -> None:
    log = Log()
    assert log.apply(encode_plain(b"a")) == b"a"
    assert log.apply(encode_plain(b"a")) == b"aa"


def test_commands_on_their_way_together_may_arrive_in_any_order() -> None:
    log = Log()
    session = log.open()
    log.send(session, 2, b"b")
    log.send(session, 1, b"a")
    log.send(session, 2, b"b")
    assert log.inner.text == b"ba"


def test_s6_a_command_that_raised_counts_as_applied_and_raises_the_same_again() -> None:
    log = Log()
    session = log.open()
    for _ in range(3):
        with pytest.raises(ValueError, match="this command is bad"):
            log.send(session, 1, b"bad")
    assert log.inner.text == b"bad"


def test_an_error_of_a_type_that_was_not_declared_is_named() -> None:
    log = Log()
    session = log.open()
    with pytest.raises(LookupError):
        log.send(session, 1, b"odd")
    with pytest.raises(CommandFailed, match="nobody declared") as caught:
        log.send(session, 1, b"odd")
    assert caught.value.type_name == "LookupError"


def test_a_result_that_cannot_be_kept_is_an_error_and_counts_as_applied() -> None:
    log = Log()
    session = log.open()
    with pytest.raises(ConfigError, match=r"applied, but its result, a object, cannot be kept"):
        log.send(session, 1, b"unencodable")
    with pytest.raises(CommandFailed):
        log.send(session, 1, b"unencodable")
    assert log.inner.text == b"unencodable"


# -- acknowledgements and bounds -----------------------------------------------------------


def test_what_was_acknowledged_is_forgotten_and_refused() -> None:
    log = Log()
    session = log.open()
    log.send(session, 1, b"a")
    log.send(session, 2, b"b", acknowledged_below=2)
    with pytest.raises(ConfigError, match="acknowledged"):
        log.send(session, 1, b"a")
    assert log.send(session, 2, b"b") == b"ab"
    assert log.inner.text == b"ab"


def test_too_many_results_without_acknowledgement_are_refused_and_not_applied() -> None:
    log = Log(results_max=2)
    session = log.open()
    log.send(session, 1, b"a")
    log.send(session, 2, b"b")
    with pytest.raises(SessionFull, match="was not applied"):
        log.send(session, 3, b"c")
    assert log.send(session, 1, b"a") == b"a"  # a retry needs no room
    assert log.send(session, 3, b"c", acknowledged_below=2) == b"abc"


def test_results_are_bounded_in_bytes_too() -> None:
    log = Log(results_bytes_max=100)
    session = log.open()
    log.send(session, 1, b"x" * 99)
    with pytest.raises(SessionFull):
        log.send(session, 2, b"y")
    assert log.send(session, 2, b"y", acknowledged_below=2) == b"x" * 99 + b"y"


def test_the_least_recently_used_session_goes_first() -> None:
    log = Log(sessions_max=2)
    first, second = log.open(1), log.open(2)
    log.send(first, 1, b"a")
    third = log.open(3)
    with pytest.raises(SessionExpired, match="open a new session"):
        log.send(second, 1, b"b")
    assert log.send(first, 1, b"a") == b"a"
    log.send(third, 1, b"c")
    assert len(log.machine) == 2


def test_of_the_session_that_was_used_last_nothing_is_left_when_it_goes() -> None:
    """It is found without a look among all."""
    log = Log(sessions_max=2)
    first, second = log.open(1), log.open(2)
    for sequence in (1, 2, 3):
        log.send(second, sequence, b"a")
    log.send(first, 1, b"a")
    log.apply(encode_close(first))
    with pytest.raises(SessionExpired):
        log.send(first, 2, b"b")
    result = log.send(second, 4, b"a")
    restored = Log()
    restored.machine.restore(log.machine.snapshot())
    log.machine.restore(restored.machine.snapshot())
    assert log.send(second, 4, b"another") == result
    log.open(3)
    log.open(4)
    with pytest.raises(SessionExpired):
        log.send(second, 5, b"b")


def test_a_closed_session_is_gone_and_closing_again_is_no_error() -> None:
    log = Log()
    session = log.open()
    assert log.apply(encode_close(session)) is None
    assert log.apply(encode_close(session)) is None
    with pytest.raises(SessionExpired):
        log.send(session, 1, b"a")


def test_opening_again_opens_no_second_session() -> None:
    log = Log()
    assert log.open() == log.open()
    assert len(log.machine) == 1


def test_an_opening_that_comes_late_does_not_revive_an_evicted_session() -> None:
    """Otherwise a retry in it would be applied a second time."""
    log = Log(sessions_max=1)
    session = log.open(1)
    log.send(session, 1, b"a")
    log.open(2)
    late = log.open(1)
    assert late != session
    with pytest.raises(SessionExpired):
        log.send(session, 1, b"a")
    assert log.inner.text == b"a"


# -- a session is its opener's (hazard G7) --------------------------------------------------


def test_g7_a_session_is_not_found_by_who_counts_the_log() -> None:
    log = Log()
    session = log.open(1)
    assert session > 1000
    guesses = {*range(1, 1000), *(session ^ (1 << bit) for bit in range(62)), session + 1}
    for guess in guesses - {session, 0}:
        with pytest.raises(SessionExpired):
            log.send(guess, 1, b"x")
        log.apply(encode_close(guess))
    assert log.send(session, 1, b"a") == b"a"
    assert log.open(1) == session  # who knows the random id is its opener


def test_g7_replicas_agree_on_the_id_and_a_later_opening_has_another() -> None:
    one, other = Log(), Log()
    assert one.open(1) == other.open(1)
    first = one.open(1)
    one.apply(encode_close(first))
    again = one.open(1)
    assert again != first
    assert 0 < again < 2**62
    assert len({one.open(number) for number in range(200)}) == 200


def test_g7_no_text_of_an_error_has_the_session() -> None:
    log = Log(results_max=1)
    session = log.open(1)
    log.send(session, 2, b"a")
    with pytest.raises(SessionFull) as full:
        log.send(session, 3, b"b")
    with pytest.raises(ConfigError) as passed:
        log.send(session, 1, b"c", acknowledged_below=2)
    log.apply(encode_close(session))
    with pytest.raises(SessionExpired) as expired:
        log.send(session, 4, b"d")
    for error in (full, passed, expired):
        assert str(session) not in str(error.value)


async def test_g7_a_command_that_bypasses_the_client_gets_a_secret_too(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(1, machine=lambda: SessionMachine(Appending())) as cluster:
        session = await cluster.propose(encode_open(client_id(1)))
        assert session > 1000


def test_an_opening_of_an_older_log_is_named_by_its_index() -> None:
    """Bytes as the releases before this one wrote them: with bounds, and without."""
    log = Log()
    with_bounds = msgspec.msgpack.encode([1, client_id(1), [10, 5, 1000]])
    assert log.apply(b"\x01" + with_bounds) == 1
    assert log.apply(b"\x01" + msgspec.msgpack.encode([1, client_id(2), None])) == 2
    assert log.apply(b"\x01" + msgspec.msgpack.encode([1, client_id(3)])) == 3
    assert log.send(2, 1, b"a") == b"a"
    assert log.machine.usage()["results_bytes"][1] is None
    assert log.machine.usage()["sessions"] == (3, 10)


def test_a_table_of_an_older_snapshot_is_read() -> None:
    log = Log()
    table = [1, [10, 5, 1000], [[7, [client_id(1), 0, {1: [0, b"\xc4\x01a"]}, 3]]]]
    content = msgspec.msgpack.encode(table)
    magic = b"trioraft sessions\n"
    log.machine.restore([magic + len(content).to_bytes(8, "big") + content])
    assert log.send(7, 1, b"a") == b"a"
    assert log.machine.usage()["results_bytes"] == (3 + RESULT_OVERHEAD_BYTES, None)


# -- all results together -------------------------------------------------------------------


def total_of(results: int, size_bytes: int) -> int:
    return results * (size_bytes + 2 + RESULT_OVERHEAD_BYTES)  # 2: msgpack's own


class Answering(Appending):
    """The result is the command."""

    def apply(self, index: int, data: bytes) -> object:
        return data


def answering(results_total_bytes_max: int) -> Log:
    log = Log(results_total_bytes_max=results_total_bytes_max)
    log.machine.machine = Answering()
    return log


def test_results_of_all_sessions_are_bounded_together() -> None:
    log = answering(total_of(3, 100))
    largest, older, newer = log.open(1), log.open(2), log.open(3)
    log.send(largest, 1, b"x" * 100)
    log.send(largest, 2, b"x" * 100)
    log.send(older, 1, b"y" * 100)
    assert log.machine.usage()["results_bytes"] == (total_of(3, 100), total_of(3, 100))
    assert log.send(newer, 1, b"z" * 100) == b"z" * 100
    with pytest.raises(SessionExpired, match="one that holds most"):
        log.send(largest, 1, b"x" * 100)
    assert log.send(older, 1, b"") == b"y" * 100
    assert log.machine.usage() == {
        "sessions": (2, 10_000),
        "results_bytes": (total_of(2, 100), total_of(3, 100)),
    }


def test_of_equals_the_least_recently_used_go_until_there_is_room() -> None:
    log = answering(total_of(32, 100))
    sessions = [log.open(number) for number in range(33)]
    for session in sessions[:32]:
        log.send(session, 1, b"x" * 100)
    log.send(sessions[0], 1, b"x" * 100)  # a retry is a use
    assert log.machine.usage()["sessions"][0] == 33
    log.send(sessions[32], 1, b"x" * 100)
    gone = []
    for number, session in enumerate(sessions):
        try:
            log.send(session, 1, b"")
        except SessionExpired:
            gone.append(number)
    assert gone == [1, 2, 3]  # a sixteenth of 32, and the one too many


def test_a_result_that_is_too_large_for_all_is_given_once() -> None:
    log = answering(1000)
    session = log.open(1)
    assert log.send(session, 1, b"x" * 1001) == b"x" * 1001
    with pytest.raises(SessionExpired):
        log.send(session, 1, b"x" * 1001)
    assert log.machine.usage() == {"sessions": (0, 10_000), "results_bytes": (0, 1000)}


def test_empty_results_are_counted_and_acknowledged_ones_are_not() -> None:
    log = answering(total_of(10, 0))
    session = log.open(1)
    for sequence in range(1, 100):
        log.send(session, sequence, b"", acknowledged_below=sequence)
    other = log.open(2)
    for sequence in range(1, 10):
        log.send(other, sequence, b"")
    log.send(other, 10, b"")  # the eleventh of all: it is counted, and its session holds most
    with pytest.raises(SessionExpired):
        log.send(other, 11, b"")
    assert log.machine.usage()["sessions"][0] == 1


def test_the_bound_goes_with_the_snapshot() -> None:
    log = answering(total_of(2, 100))
    first, second, third = log.open(1), log.open(2), log.open(3)
    log.send(first, 1, b"x" * 100)
    log.send(second, 1, b"y" * 100)
    other = answering(10**9)
    other.machine.restore(log.machine.snapshot())
    other.index = log.index
    other.send(third, 1, b"z" * 100)
    with pytest.raises(SessionExpired):
        other.send(first, 1, b"x" * 100)
    log.send(third, 1, b"z" * 100)
    assert other.machine.usage() == log.machine.usage()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 70_000])
def test_a_table_in_pieces_is_read_as_one(count: int) -> None:
    log = Log(sessions_max=10**6)
    for number in range(count):
        log.open(number)
    other = Log()
    other.machine.restore(log.machine.snapshot())
    assert len(other.machine) == count
    assert b"".join(other.machine.snapshot()) == b"".join(log.machine.snapshot())


# -- snapshots -----------------------------------------------------------------------------


def test_s5_sessions_are_in_the_snapshot() -> None:
    log = Log()
    session = log.open()
    log.send(session, 1, b"a")
    with pytest.raises(ValueError, match="bad"):
        log.send(session, 2, b"bad")
    content = b"".join(log.machine.snapshot())
    other = Log()
    other.machine.restore(content[i : i + 1] for i in range(len(content)))
    assert other.send(session, 1, b"a") == b"a"
    with pytest.raises(ValueError, match="bad"):
        other.send(session, 2, b"bad")
    assert other.inner.text == b"abad"
    assert b"".join(other.machine.snapshot()) == content


def test_what_a_session_weighs_is_known_before_it_is_used() -> None:
    log = Log(results_max=100, sessions_max=3)
    for results in (0, 1, 2, 20):
        number = log.open(results)
        for sequence in range(1, results + 1):
            log.send(number, sequence, b"x")
        other = Log(results_max=100, sessions_max=3)
        other.machine.restore(log.machine.snapshot())
        assert other.machine.usage() == log.machine.usage()


def test_results_that_are_none_end_the_node_once_they_are_asked_for() -> None:
    log = Log()
    number = log.open()
    log.send(number, 1, b"x")
    content = b"".join(log.machine.snapshot())
    kept = msgspec.msgpack.encode({1: [0, msgspec.msgpack.encode(b"x")]})
    other = Log()
    other.machine.restore([content.replace(kept, kept.replace(b"\x92\x00", b"\x92\x07"))])
    with pytest.raises(InvariantViolation, match="results of a session"):
        other.send(number, 2, b"y")


def test_a_snapshot_is_a_view_that_later_commands_do_not_change() -> None:
    log = Log()
    session = log.open()
    log.send(session, 1, b"before")  # it is the one that was used last
    chunks = log.machine.snapshot()
    log.send(session, 2, b"a", 2)
    log.send(session, 3, b"a")
    other = Log()
    other.machine.restore(chunks)
    assert other.send(session, 1, b"b") == b"before"
    assert other.send(session, 2, b"b") == b"beforeb"


def test_eviction_goes_on_alike_after_a_snapshot() -> None:
    log = Log(sessions_max=2)
    first, second = log.open(1), log.open(2)
    log.send(first, 1, b"a")  # now the second is the older one
    other = Log(sessions_max=2)
    other.machine.restore(log.machine.snapshot())
    other.index = log.index
    other.open(3)
    with pytest.raises(SessionExpired):
        other.send(second, 1, b"b")
    assert other.send(first, 1, b"a") == b"a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not one of a SessionMachine"),
        (b"some other machine's", "not one of a SessionMachine"),
        (b"trioraft sessions\n" + bytes(7) + b"\x09\x93\x01\x94", "ends after 3 of 9"),
        (b"trioraft sessions\n" + bytes(7) + b"\x01\xc1", "cannot be read"),
    ],
)
def test_a_foreign_snapshot_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Log().machine.restore([content])


def test_the_bounds_of_a_snapshot_count() -> None:
    log, other = Log(sessions_max=2), Log(sessions_max=3)
    log.apply(log.machine.prepare_command(encode_open(bytes(16))))
    other.machine.restore(log.machine.snapshot())
    other.apply(encode_open(b"x" * 16))
    other.apply(encode_open(b"y" * 16))
    assert len(other.machine) == 2


class Wordy(Appending):
    """Its errors have other texts on other machines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.error = ValueError(text)

    def apply(self, index: int, data: bytes) -> object:
        raise self.error


def test_e2_an_error_counts_alike_however_long_its_text_is() -> None:
    refused = []
    for text in ("", "x" * 3000):
        machine = SessionMachine(Wordy(text), results_bytes_max=3000)
        session = machine.apply(1, machine.prepare_command(encode_open(bytes(16))))
        for sequence in range(1, 10):
            with pytest.raises((ValueError, SessionFull)) as raised:
                machine.apply(1 + sequence, encode_command(session, sequence, b"x"))
            if raised.type is SessionFull:
                refused.append(sequence)
                break
    assert refused == [4, 4]


# -- bad input -----------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_what_is_no_command_is_refused_and_changes_nothing(data: bytes) -> None:
    log = Log()
    try:
        log.apply(data)
    except UnknownCommand:
        assert (log.inner.text, len(log.machine)) == (b"", 0)


def test_a_later_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnknownCommand, match=r"version 02.*upgrade every node"):
        Log().apply(b"\x02" + msgspec.msgpack.encode([9]))


def test_bad_bounds_and_ids_are_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        SessionMachine(Appending(), sessions_max=0)
    with pytest.raises(ConfigError, match="16 random"):
        encode_open(b"short")


# -- a model -------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_mixture_of_retries_and_snapshots_applies_each_command_once(
    rng: random.Random, sessions_max: int
) -> None:
    """Beside a machine that is never restarted, one that is restored again and again says the
    same; and no (session, sequence) is applied twice."""
    steady, restored = Log(sessions_max=sessions_max), Log(sessions_max=sessions_max)
    opened: list[int] = []
    for step in range(40):
        if rng.random() < 0.2:
            content = b"".join(restored.machine.snapshot())
            restored = Log(sessions_max=sessions_max)
            restored.index = step
            restored.machine.restore([content])
        if not opened or rng.random() < 0.2:
            data = encode_open(client_id(rng.randrange(4)))
        else:
            session, sequence = rng.choice(opened), rng.randint(1, 5)
            tag = b"<%d.%d>" % (session, sequence)
            data = encode_command(session, sequence, tag, rng.choice((0, sequence)))
        outcomes = [_outcome(log, data) for log in (steady, restored)]
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], int):
            opened.append(outcomes[0])
    tags = steady.inner.text.split(b">")
    assert len(tags) == len(set(tags))


def _outcome(log: Log, data: bytes) -> object:
    try:
        return log.apply(data)
    except (SessionExpired, ConfigError) as error:
        return repr(error)


# -- in a cluster --------------------------------------------------------------------------


async def persistently(cluster: Cluster, data: bytes) -> object:
    """Send a command until it has an outcome that is known."""
    while True:
        try:
            return await cluster.propose(data)
        except (OutcomeUnknown, NotLeader, ProposalDropped):
            continue


async def test_exo_commands_are_applied_once_through_leader_changes_and_snapshots(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(snapshot_entries=10, snapshot_tail_entries=2)
    async with open_cluster(
        3, machine=lambda: SessionMachine(Appending()), limits=limits, seed=3
    ) as cluster:
        session = await persistently(cluster, encode_open(client_id(7)))
        assert isinstance(session, int)
        numbers = itertools.count(1)

        async def append(count: int) -> None:
            for number in itertools.islice(numbers, count):
                data = encode_command(session, number, b"<%d>" % number, number)
                await persistently(cluster, data)

        for _ in range(4):
            leader, _ = await cluster.check_single_leader()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append, 20)
                await cluster.nodes[leader].wait(lambda status: status.last_index % 7 == 3)
                await cluster.crash(leader)
                await cluster.restart(leader)
        expected = b"".join(b"<%d>" % number for number in range(1, 81))
        await cluster.wait(
            lambda: all(m.machine.text == expected for m in cluster.machines.values()),
            "all 80 commands, once each, on every node",
        )
        assert await persistently(cluster, encode_command(session, 80, b"<80>")) == expected
