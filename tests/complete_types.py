"""What pyright knows of our types, as of any installed library: `python -m tests.complete_types`.

Rules of this file: at least 99 % of all names must have types that are written down, and whatever
has none is listed. Where there is no pyright, or no Node.js to run it, nothing is fetched: it says
so, and is no failure.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

PACKAGES = ("trioraft", "trioleaks", "trioraft_pytest")
KNOWN_MIN = 0.99
"""Of a package's public names: how many have a type that is known, at least."""


def verified(package: str) -> dict[str, Any]:
    """What `pyright --verifytypes` says of a package."""
    command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"]
    done = subprocess.run(
        [*command, "--outputjson"], capture_output=True, text=True, timeout=600, check=False
    )
    if not done.stdout.startswith("{"):
        raise SystemExit(f"pyright does not run here: {done.stderr or done.stdout}")
    said: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    return said


def unknown(said: dict[str, Any]) -> list[str]:
    """Every name without a known type, and why."""
    return [
        f"{symbol['name']}: {diagnostic['message']}"
        for symbol in said["symbols"]
        if not symbol["isTypeKnown"]
        for diagnostic in symbol["diagnostics"]
    ]


def main() -> int:
    if find_spec("pyright") is None or shutil.which("node") is None:
        print("skipped: it takes pyright (pip install pyright) and Node.js on the PATH")
        return 0
    is_wrong = False
    for package in PACKAGES:
        said = verified(package)
        score = said["completenessScore"]
        print(f"{package}: {score:.2%} of its public names have types")
        for line in unknown(said):
            print(f"    {line}")
        is_wrong |= score < KNOWN_MIN
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
