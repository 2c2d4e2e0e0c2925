"""What a command needs besides `trioraft[cli]`, and what is said where it is not there."""

from __future__ import annotations

from importlib.util import find_spec

from .exits import EXIT_FAILURE
from .saying import complain
from .signature import Exit

HTTP = ("starlette", "hypercorn")


def require_http() -> None:
    """End the command, with a sentence, unless there is what serves pages."""
    missing = [name for name in HTTP if find_spec(name) is None]
    if missing:
        complain(
            f"trioraft: pages need {' and '.join(missing)}; install it with: "
            "pip install 'trioraft[http]'"
        )
        raise Exit(EXIT_FAILURE)
