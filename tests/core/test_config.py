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
    if (name, bad) != ("outcome_wait_s", None)  # None is its default: ten election timeouts
]


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
