"""python -m benchmarks.figure16"""

from __future__ import annotations

from .command import app

if __name__ == "__main__":
    app(prog_name="python -m benchmarks.figure16")
