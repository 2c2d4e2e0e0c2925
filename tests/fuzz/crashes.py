"""What was found: a file that says what it was, and holds every byte that shows it again.

Rules of this file: JSON with base64, so that a report can be pasted, mailed and looked at; a file's
name is made of what is in it, so that the same crash is kept once.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

import attrs
import msgspec

from .lines import Step

FORMAT: Final = "trioraft-fuzz"
VERSION: Final = 1
CRASHES: Final = Path("fuzz-crashes")
"""Where they are written unless said otherwise, below the working directory."""


class Crash(msgspec.Struct, frozen=True):
    """One finding."""

    target: str
    seed: str
    what: str
    """What went wrong, for people."""
    data: bytes = b""
    """A decoder's input."""
    steps: tuple[Step, ...] = ()
    """What was done to servers; in this order."""
    format: str = FORMAT
    version: int = VERSION


class CrashError(Exception):
    """A file is no crash of ours."""


def save(crash: Crash, folder: Path) -> Path:
    """Write it down; returns where. Bytes become base64."""
    content = msgspec.json.encode(crash)
    named = base64.b64encode(crash.data) + msgspec.json.encode(crash.steps)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{crash.target}-{hashlib.blake2b(named, digest_size=6).hexdigest()}.json"
    path.write_bytes(content)
    return path


def load(path: Path) -> Crash:
    """Read one.

    Raises:
        CrashError: it cannot be read, or is none.
    """
    try:
        crash = msgspec.json.decode(path.read_bytes(), type=Crash)
    except (OSError, msgspec.MsgspecError) as error:
        raise CrashError(f"{path} cannot be read: {error}") from error
    if (crash.format, crash.version) != (FORMAT, VERSION):
        raise CrashError(f"{path} is no crash that this release can replay")
    return crash


@attrs.define
class Summary:
    """What a target came to."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    findings: list[str] = attrs.Factory(list)
    notes: list[str] = attrs.Factory(list)
    """Further figures, such as the memory of each server."""

    def __str__(self) -> str:
        per_second = self.inputs / self.seconds if self.seconds else 0.0
        found = f"{len(self.findings)} FINDINGS" if self.findings else "nothing found"
        said = f"{self.target:16} {self.inputs:>9,} inputs {per_second:>9,.0f}/s  {found}"
        return "; ".join([said, *self.notes])
