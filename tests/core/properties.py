"""How property tests run here: the same examples every time, without a deadline.

Rules of this file: a failing example must fail again on another machine, and a slow machine
must not fail one.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.thorough import tries

quietly = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=tries(100),
    suppress_health_check=[HealthCheck.too_slow],
)
