"""Decoders, guided by coverage: atheris keeps what leads to lines that nothing led to before.

Rules of this file:

* atheris has wheels for some Pythons on Linux only, and is no dependency: whoever has it, uses it.
* It ends its process and instruments what is imported: each target runs in a process of its own.
* Our mutations are used, not its own: it cannot take msgpack apart.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from . import crashes
from .crashes import Crash, Summary

IS_HERE: Final = importlib.util.find_spec("atheris") is not None
INPUT_BYTES_MAX: Final = 1 << 16


def fuzz(
    target: Any, seed: str, *, seconds: float, folder: Path, tell: Callable[[str], None]
) -> Summary:
    """Fuzz one target in a process of its own; see `decoders.fuzz`."""
    from . import decoders

    summary = Summary(target.name)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trioraft-fuzz-") as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(decoders.inputs_of(target)):
            (corpus / f"seed-{number}").write_bytes(data)
        words = [
            *(sys.executable, "-m", "tests.fuzz.coverage", target.name),
            *(f"-max_total_time={max(1, round(seconds))}", f"-max_len={INPUT_BYTES_MAX}"),
            *(
                f"-seed={random.Random(seed).getrandbits(31) or 1}",
                "-timeout=10",
                "-print_final_stats=1",
            ),
            *(f"-artifact_prefix={scratch}/", "-rss_limit_mb=1024", str(corpus)),
        ]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        for line in done.stderr.splitlines():
            if line.startswith("stat::number_of_executed_units:"):
                summary.inputs = int(line.split()[-1])
        summary.notes.append(f"{len(list(corpus.iterdir()))} inputs kept, by coverage")
        broken = [path for path in Path(scratch).iterdir() if path.is_file()]
        for path in broken:
            crash = Crash(target.name, seed, done.stderr[-4000:], path.read_bytes())
            kept = crashes.save(crash, folder)
            summary.findings.append(str(kept))
            tell(f"{target.name}, seed {seed}: {crash.what}\n{decoders.replay_line(kept)}")
        if done.returncode and not broken:
            summary.findings.append(f"atheris ended with {done.returncode}: {done.stderr[-2000:]}")
    summary.seconds = time.monotonic() - begun
    return summary


def main(words: Sequence[str]) -> None:
    """The process of one target; never returns."""
    atheris: Any = importlib.import_module("atheris")  # it has no types, and is seldom here

    with atheris.instrument_imports(include=["trioraft", "tests.fuzz.targets"]):
        from .targets import BY_NAME
    from .mutation import Mutator

    target = BY_NAME[words[1]]

    def look_at(data: bytes) -> None:
        try:
            target.run(data)
        except target.allowed:
            return

    def change(data: bytes, size_bytes_max: int, seed: int) -> bytes:
        mutator = Mutator(random.Random(seed), target.words)
        kinds = {"packed": mutator.packed, "text": mutator.text, "bytes": mutator.bytes_of}
        return kinds[target.kind](bytes(data), ())[:size_bytes_max]

    atheris.Setup([words[0], *words[2:]], look_at, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
