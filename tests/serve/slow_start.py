"""`trioraft` with a start that never ends: `python -m tests.serve.slow_start WHERE serve …`.

It says where it is on standard output, and stays there: "importing"; "recovering", in a thread that
nobody can cancel; or "restoring", which holds up the event loop.
"""

from __future__ import annotations

import builtins
import sys
import threading
import time
from typing import Any, NoReturn


def _stay(where: str) -> NoReturn:
    print(where, flush=True)
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
    while True:
        time.sleep(0.01)  # in Python code, where handlers of signals come in


def main() -> None:
    where = sys.argv.pop(1)
    if where == "importing":
        import_module = builtins.__import__

        def slow_import(name: str, *rest: Any) -> Any:
            if name == "trio":
                _stay(where)
            return import_module(name, *rest)

        builtins.__import__ = slow_import  # type: ignore[assignment] # it passes on what it is given
    else:
        from trioraft.storage.sqlite import SQLiteStorage

        opens = SQLiteStorage.open

        def slow_open(self: SQLiteStorage, **names: str) -> Any:
            if where in ("recovering", "restoring"):
                _stay(where)
            return opens(self, **names)

        SQLiteStorage.open = slow_open  # type: ignore[method-assign] # that is what this is for
        if where == "restoring":
            SQLiteStorage.blocking = False
    from trioraft.cli.application import main as trioraft

    trioraft()


if __name__ == "__main__":
    main()
