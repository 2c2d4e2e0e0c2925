"""Every class of bounds refuses what is none, and says what to give."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import attrs
import pytest

from trioraft import ConfigError, Limits
from trioraft.http import HttpLimits
from trioraft.service.context import ServiceLimits


@pytest.mark.parametrize("bounds", [Limits, ServiceLimits, HttpLimits])
def test_half_a_connection_no_end_of_seconds_a_yes_for_a_number(bounds: type[Any]) -> None:
    for field in attrs.fields(bounds):
        in_kind = 2.5 if isinstance(field.default, int) else inf
        for value in (0, -1, "2", True, nan, in_kind):
            with pytest.raises(ConfigError, match=rf"{bounds.__name__}\.{field.name} is .*: give"):
                bounds(**{field.name: value})
