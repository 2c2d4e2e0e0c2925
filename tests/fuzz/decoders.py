"""Decoders are given what they could read, a little wrong, again and again.

Rules of this file:

* The same target and seed give the same inputs, whatever ran before: a crash names both, and is
  kept with its input besides.
* An input that ends in a way that no input has ended in before is kept for the rest of the run, and
  changed further. (By what was raised, in which words; `coverage` goes by lines where it can.)
* What takes too long is a finding as well: a decoder reads somebody else's bytes.
"""

from __future__ import annotations

import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from . import crashes
from .crashes import Crash, Summary
from .mutation import Mutator
from .targets import Target

CORPUS: Final = Path(__file__).parent / "corpus"
"""Inputs that found something once, or led where no other did; a folder for each target."""
INPUT_SECONDS_MAX: Final = 5
"""One input takes far less than a tenth of that, on a busy machine too."""
KEPT_MAX: Final = 400
FINDINGS_MAX: Final = 5
"""Of one target and one run: more of them are mostly the same again."""
MEMORY_MB_MAX: Final = 1024
"""Of this process: a decoder that allocates what a length says would take more at once."""


class TooSlowError(BaseException):
    """An input took longer than `INPUT_SECONDS_MAX`. Not an `Exception`: no target may catch it."""


def inputs_of(target: Target) -> list[bytes]:
    """What it is begun with: right ones, and those that were kept."""
    kept = sorted((CORPUS / target.name).glob("*"))
    return [*target.seeds(), *(path.read_bytes() for path in kept)]


@contextmanager
def _alarm() -> Iterator[None]:
    """Within this, `signal.setitimer` ends an input that goes on for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(target: Target, data: bytes) -> tuple[str, str | None]:
    """How an input ends.

    Returns:
        In short, and without what differs from input to input; and what is wrong with that, None if
        nothing is.
    """
    try:
        signal.setitimer(signal.ITIMER_REAL, INPUT_SECONDS_MAX)
        found = target.run(data)
    except target.allowed as error:
        return _in_short(error), None
    except TooSlowError:
        return "slow", f"it took more than {INPUT_SECONDS_MAX} s\n{traceback.format_exc(limit=-8)}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return _in_short(error), traceback.format_exc(limit=-12)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return _without_values(found) if isinstance(found, str) else "", None


def _in_short(error: BaseException) -> str:
    words = f"{error} {error.__cause__ or ''}"
    return f"{type(error).__name__} {_without_values(words)}"


def _without_values(text: str) -> str:
    return re.sub(r"['\"].*?['\"]|\d+|[^ -~]+", "_", text[:300])


def next_input(target: Target, mutator: Mutator, corpus: list[bytes]) -> bytes:
    """One more input, out of those that are there."""
    change: Callable[[bytes, list[bytes]], bytes]
    change = {"packed": mutator.packed, "text": mutator.text, "bytes": mutator.bytes_of}[
        target.kind
    ]
    data = mutator.rng.choice(corpus)
    for _ in range(mutator.rng.choice((1, 1, 1, 2, 4))):
        data = change(data, corpus)
    return data


def fuzz(
    target: Target,
    seed: str,
    *,
    inputs: int | None = None,
    seconds: float | None = None,
    folder: Path = crashes.CRASHES,
    tell: Callable[[str], None] = print,
) -> Summary:
    """Fuzz one target.

    Args:
        target: which one.
        seed: of everything that is drawn.
        inputs: end after so many.
        seconds: end after so long.
        folder: where crashes are written.
        tell: is told of each crash, at once.
    """
    summary = Summary(target.name)
    mutator = Mutator(Random(f"{target.name} {seed}"), target.words)
    begun = time.monotonic()
    corpus = inputs_of(target)
    seen: set[str] = set()

    def look_at(data: bytes) -> None:
        how, wrong = outcome_of(target, data)
        summary.inputs += 1
        if how in seen:
            return
        seen.add(how)
        if wrong is not None:
            path = crashes.save(Crash(target.name, seed, wrong, data), folder)
            summary.findings.append(str(path))
            tell(f"{target.name}, seed {seed}: {wrong.strip()}\n{replay_line(path)}")
        elif len(corpus) < KEPT_MAX:
            corpus.append(data)

    with _alarm():
        for data in tuple(corpus):
            look_at(data)
        while len(summary.findings) < FINDINGS_MAX:
            if inputs is not None and summary.inputs >= inputs:
                break
            if seconds is not None and time.monotonic() - begun >= seconds:
                break
            look_at(next_input(target, mutator, corpus))
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if memory_mb > MEMORY_MB_MAX:
        summary.findings.append(f"this process took {memory_mb} MB")
    summary.seconds = time.monotonic() - begun
    summary.notes.append(f"{len(seen)} ways to end, {memory_mb} MB")
    return summary


def replay_line(path: Path) -> str:
    """The command that shows a crash again."""
    return f"replay: python -m tests.fuzz --replay {path}"


def replay(target: Target, crash: Crash) -> str | None:
    """What is wrong with this input now; None if nothing is any more."""
    with _alarm():
        return outcome_of(target, crash.data)[1]
