"""What processes say to each other of one group, beside what its members say (`GroupNote.kind`)."""

from __future__ import annotations

from typing import Final

ASK_SLEEP: Final = 1
"""The leader of this term, whose log ends at this index everywhere: fall asleep there."""
ASLEEP: Final = 2
"""The sender's member has ended in exactly that state."""
STAYS_AWAKE: Final = 3
"""The sender's member is not in that state, or is needed."""
WAKE: Final = 4
"""The group is needed: wake up."""
WHO: Final = 5
"""The sender does not know what the receiver's member has last said of itself: say it again."""
UNKNOWN: Final = 6
"""There is no such group at the sender."""

BULK_BYTES: Final = 256 * 1024
"""A frame of several messages is made no larger."""

FEATURE: Final = "many-groups"
"""By this in its introduction a process is known as one of many groups: to a node of one group it
has nothing to say, nor to it such a node."""
