"""What the fuzzers found, by name. (That each decoder keeps its word, `test_decoders` sees: what it
broke at is in `corpus`.)"""

from __future__ import annotations

import msgspec
import pytest

from tests.fuzz.mutation import nested
from trioraft.core.errors import BadMessage
from trioraft.core.reconfiguration import configuration_of
from trioraft.core.types import Configuration, Entry, EntryKind

DEEP = msgspec.Raw(nested(3000))


def test_a_configuration_nested_without_end_costs_its_sender_its_connection() -> None:
    """A frame of 3 KB; it came out of the core as a RecursionError, which is no fault of a peer."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(Configuration(("0", "1"), index=1)))
    data = msgspec.msgpack.encode([*fields, DEEP])
    with pytest.raises(BadMessage, match="holds no configuration"):
        configuration_of(Entry(1, 1, data, EntryKind.CONFIGURATION))
