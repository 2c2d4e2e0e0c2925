"""What msgspec may raise when it decodes what somebody else wrote: on the wire, or to a disk."""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""Its own errors; broken UTF-8; and lists within lists without end, also in fields beyond the known
ones, which are skipped and not read. (How deep is too deep depends on the stack. So a *command*, on
which every node must come to the same result, is looked at before it is proposed: see
`machines.nesting`.)"""
