"""A member's process: `trioraft`, until whoever started it is gone, however that came about.

Rules of this file: standard input is a pipe whose other end only the starter has. Its end is told
by every system, also when the starter was killed and could tell nobody.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

from ..application import main

PATIENCE_S: Final = 10.0
"""How long it may take to leave, before it is ended."""


def _follow() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    gone = threading.Event()
    gone.wait(PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_follow, name="cluster.follow", daemon=True).start()
    main()
