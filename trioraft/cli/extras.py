"""What a command needs besides `trioraft[cli]`, and what is said where it is not there."""

from __future__ import annotations

from ..http.port import missing_packages
from .exits import EXIT_FAILURE
from .saying import complain
from .signature import Exit


def require_http() -> None:
    """End the command, with a sentence, unless there is what serves pages."""
    missing = missing_packages()
    if missing:
        complain(
            f"trioraft: pages need {', '.join(missing)}; install it with: "
            "pip install 'trioraft[http]'"
        )
        raise Exit(EXIT_FAILURE)
