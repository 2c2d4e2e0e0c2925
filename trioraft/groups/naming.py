"""What a group may be called: its name stands in task names, log lines and every frame."""

from __future__ import annotations

import re
from typing import Final

from ..core.errors import ConfigError

NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


def checked_name(name: object) -> str:
    """The name of a group.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        shown = repr(name) if len(repr(name)) < 80 else f"{repr(name)[:80]}…"
        raise ConfigError(
            f"the name of a group is {shown}: give 1 to 64 letters, digits, or any of _.:/-"
        )
    return name
