"""Timing and Limits refuse what cannot work, and say why, with the values and the rule.

Rules of this file: every refusal has its line; the message must hold the given values.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import ConfigError

NAN, INF = float("nan"), float("inf")


def test_the_defaults_work() -> None:
    assert Timing().election_timeout_s == (0.150, 0.300)
    assert Timing().heartbeat_interval_s == 0.050
    assert Limits().append_entries_max > 0


def test_the_seeds_slow_heartbeat_is_refused_with_the_rule() -> None:
    """A heartbeat of 3 s under timeouts of 150 to 300 ms deposed every leader, for ever."""
    with pytest.raises(ConfigError) as refused:
        Timing(election_timeout_s=(0.150, 0.300), heartbeat_interval_s=3.0)
    assert str(refused.value) == (
        "heartbeat_interval_s is 3 s, but election_timeout_s is (0.15 s, 0.3 s): followers would "
        "depose every healthy leader. Rule: heartbeat_interval_s × 2 ≤ lower election timeout; "
        "use 0.05 s, or raise election_timeout_s"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"election_timeout_s": (0.3, 0.15)}, r"\(0\.3, 0\.15\): the lower bound is above"),
        ({"election_timeout_s": (0.0, 0.3)}, r"lower bound is 0\.0: give a positive, finite"),
        ({"election_timeout_s": (-1.0, 0.3)}, r"lower bound is -1\.0: give a positive, finite"),
        ({"election_timeout_s": (NAN, 0.3)}, r"lower bound is nan: give a positive, finite"),
        ({"election_timeout_s": (0.15, INF)}, r"upper bound is inf: give a positive, finite"),
        ({"election_timeout_s": (0.15, NAN)}, r"upper bound is nan: give a positive, finite"),
        ({"heartbeat_interval_s": 0.0}, r"heartbeat_interval_s is 0\.0: give a positive"),
        ({"heartbeat_interval_s": INF}, r"heartbeat_interval_s is inf: give a positive"),
        ({"heartbeat_interval_s": 0.076}, r"is 0\.076 s, but .*\(0\.15 s, 0\.3 s\).*Rule: "),
        ({"fast_failover_spread_s": 0.0}, r"fast_failover_spread_s is 0\.0: give a positive"),
        ({"fast_failover_spread_s": NAN}, r"fast_failover_spread_s is nan: give a positive"),
        ({"widening_max": 0}, r"widening_max is 0: give a whole factor of at least 1"),
    ],
)
def test_timing_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Timing(**values)


def test_a_heartbeat_of_half_the_lower_timeout_is_the_slowest() -> None:
    assert Timing(heartbeat_interval_s=0.075).heartbeat_interval_s == 0.075


def test_one_fixed_timeout_is_a_range_too() -> None:
    assert Timing(election_timeout_s=(0.2, 0.2)).election_timeout_s == (0.2, 0.2)


def test_a_follower_protects_its_leader_a_little_less_than_the_lowest_timeout() -> None:
    for timing in (Timing(), Timing(heartbeat_interval_s=0.075)):
        assert 0 < timing.leader_protection_s < timing.election_timeout_s[0]
        assert timing.leader_protection_s > timing.heartbeat_interval_s


BAD_LIMITS = [
    (name, bad)
    for name in (field.name for field in attrs.fields(Limits))
    for bad in (0, -1, NAN, INF, "1", None, True)
    # None is the default of these: what it stands for follows from others.
    if (name, bad) not in {("outcome_wait_s", None), ("log_memory_bytes_max", None)}
]


def test_the_log_has_room_for_what_comes_until_a_snapshot_is_written() -> None:
    for bad in (1999, 2000.5):
        with pytest.raises(ConfigError, match=r"Limits\.log_memory_bytes_max is .* at least 2000"):
            Limits(snapshot_bytes=1000, log_memory_bytes_max=bad)  # type: ignore[arg-type] # a float
    assert Limits(snapshot_bytes=1000, log_memory_bytes_max=2000).log_memory_bytes_bound == 2000
    assert Limits().log_memory_bytes_bound == 512 * 1024 * 1024
    large = Limits(snapshot_bytes=2**30)
    assert large.log_memory_bytes_bound > 4 * large.snapshot_bytes


@pytest.mark.parametrize(("name", "bad"), BAD_LIMITS)
def test_every_limit_refuses_what_is_no_positive_number(name: str, bad: float | None) -> None:
    is_range = isinstance(getattr(Limits(), name), tuple)
    given: Any = (bad, 1.0) if is_range else bad
    with pytest.raises(ConfigError, match=rf"Limits\.{name} is .*: give (a|two) positive "):
        Limits(**{name: given})


@pytest.mark.parametrize(
    "given",
    [
        {"election_timeout_s": 0.15},
        {"election_timeout_s": ("a", "b")},
        {"election_timeout_s": (0.1, 0.2, 0.3)},
        {"heartbeat_interval_s": "x"},
        {"widening_max": 2.5},
        {"widening_max": NAN},
        {"fast_failover_spread_s": "soon"},
    ],
    ids=repr,
)
def test_timing_refuses_other_types(given: Any) -> None:
    (name,) = given
    with pytest.raises(ConfigError, match=rf"{name}.* is .*: give "):
        Timing(**given)


@pytest.mark.parametrize(
    "given",
    [{"link_queue_messages_max": 1.5}, {"reconnect_backoff_s": 1}, {"frame_bytes_max": 2**40}],
    ids=repr,
)
def test_limits_refuse_what_cannot_be_counted(given: Any) -> None:
    (name,) = given
    with pytest.raises(ConfigError, match=rf"Limits\.{name} is .*: .*give "):
        Limits(**given)


def test_limits_refuse_a_backoff_that_shrinks() -> None:
    with pytest.raises(ConfigError, match=r"\(2\.0, 1\.0\): the first pause is longer"):
        Limits(reconnect_backoff_s=(2.0, 1.0))


def test_limits_refuse_batches_that_no_peer_would_accept() -> None:
    with pytest.raises(ConfigError, match=r"\(700\).*\(400\) exceed frame_bytes_max \(1000\)"):
        Limits(
            append_bytes_max=700,
            command_bytes_max=400,
            snapshot_chunk_bytes=10,
            frame_bytes_max=1000,
        )


def test_limits_refuse_chunks_that_no_peer_would_accept() -> None:
    with pytest.raises(ConfigError, match=r"snapshot_chunk_bytes \(600\) is more than half"):
        Limits(snapshot_chunk_bytes=600, frame_bytes_max=1000)


def test_a_config_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="widening_max"):
        Timing(widening_max=-3)


# -- which timing for which line -----------------------------------------------------------------


def test_a_short_good_line_has_the_defaults() -> None:
    assert Timing.for_round_trip(0) == Timing()
    assert Timing.for_round_trip(0.010, loss=0.001, write_s=0.020) == Timing()


@pytest.mark.parametrize("round_trip_s", [0.05, 0.1, 0.4, 0.6, 3.0])
def test_four_round_trips_fit_into_the_timeout_for_a_long_line(round_trip_s: float) -> None:
    timing = Timing.for_round_trip(round_trip_s)
    low_s, high_s = timing.election_timeout_s
    assert low_s == pytest.approx(4 * round_trip_s)
    assert high_s - low_s >= round_trip_s, "or candidates that start together split the votes"
    assert timing.heartbeat_interval_s == pytest.approx(round_trip_s)
    assert timing.fast_failover_spread_s >= round_trip_s
    assert timing.round_trip_s_max == pytest.approx(round_trip_s)


def test_a_slow_disk_counts_as_a_long_line_does() -> None:
    slow_disk, long_line = Timing.for_round_trip(0, write_s=0.35), Timing.for_round_trip(0.35)
    assert slow_disk.election_timeout_s == long_line.election_timeout_s
    assert slow_disk.heartbeat_interval_s == Timing().heartbeat_interval_s


@pytest.mark.parametrize(
    ("loss", "retransmissions"), [(0.001, 0), (0.01, 1), (0.05, 2), (0.1, 2), (0.3, 5)]
)
def test_a_timeout_outlives_what_a_kernel_waits_to_send_again(
    loss: float, retransmissions: int
) -> None:
    """It waits for 200 ms at least, and then twice as long each time."""
    low_s, _ = Timing.for_round_trip(0, loss=loss).election_timeout_s
    assert low_s == pytest.approx(0.150 + 0.2 * (2**retransmissions - 1))


def test_on_a_long_line_a_kernel_waits_longer_to_send_again() -> None:
    long, short = (Timing.for_round_trip(line_s, loss=0.01) for line_s in (0.1, 0.0))
    assert long.election_timeout_s[0] == pytest.approx(0.4 + 0.3)
    assert short.election_timeout_s[0] == pytest.approx(0.150 + 0.2)


def test_everything_about_a_line_may_be_bad_at_once() -> None:
    timing = Timing.for_round_trip(0.6, loss=0.3, write_s=0.5)
    assert timing.heartbeat_interval_s * 3 <= timing.election_timeout_s[0]
    assert attrs.evolve(timing, fast_failover=False).election_timeout_s == timing.election_timeout_s


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"round_trip_s": -0.1}, r"round_trip_s is -0\.1: give a finite time in seconds, from 0"),
        ({"round_trip_s": NAN}, "round_trip_s is nan: give"),
        ({"round_trip_s": "0.1"}, "round_trip_s is '0.1': give"),
        ({"round_trip_s": 0.1, "write_s": INF}, "write_s is inf: give"),
        ({"round_trip_s": 0.1, "loss": -0.1}, r"loss is -0\.1: give the fraction"),
        ({"round_trip_s": 0.1, "loss": 10}, r"loss is 10: .*from 0 to below 0\.5"),
        ({"round_trip_s": 0.1, "loss": 0.5}, r"no timing suits a line that loses more"),
        ({"round_trip_s": 0.1, "loss": NAN}, "loss is nan: give"),
    ],
    ids=repr,
)
def test_a_line_that_cannot_be_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Timing.for_round_trip(**given)
