"""Fuzz trioraft: its decoders, and the ports of real servers.

    python -m tests.fuzz --list                       # what there is
    python -m tests.fuzz                              # everything, one after the other: 10 minutes
    python -m tests.fuzz ports --minutes 60 --seed 7  # an hour, shared by all kinds of servers
    python -m tests.fuzz settings identity --minutes 1
    python -m tests.fuzz decoders --atheris           # guided by coverage: pip install atheris
    python -m tests.fuzz --replay fuzz-crashes/log-record-0123456789ab.json

Groups are `ports` and `decoders`. Exit code: 0 nothing was found, 1 something was (each with a file
to replay), 2 a wrong argument, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from . import coverage, crashes, decoders, ports
from .arenas import ARENAS
from .crashes import Crash, CrashError, Summary
from .ports import PortTarget
from .targets import TARGETS, Target

AnyTarget: TypeAlias = Target | PortTarget
ALL: Final[dict[str, AnyTarget]] = {target.name: target for target in (*ARENAS, *TARGETS)}
GROUPS: Final[dict[str, tuple[AnyTarget, ...]]] = {"ports": ARENAS, "decoders": TARGETS}
MINUTES: Final = 10.0
EXIT_FOUND: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def table() -> str:
    """What there is, for a person."""
    lines = []
    for group, targets in GROUPS.items():
        lines.append(f"{group}:")
        lines += [f"  {target.name:18} {target.what}" for target in targets]
    return "\n".join(lines)


def chosen(names: Sequence[str]) -> list[AnyTarget]:
    """The targets of these names and groups, each once; of no names, all.

    Raises:
        KeyError: there is no such target or group.
    """
    found: dict[str, AnyTarget] = {}
    for name in names or list(GROUPS):
        targets = GROUPS[name] if name in GROUPS else (ALL[name],)
        found |= {target.name: target for target in targets}
    return list(found.values())


def say(text: str) -> None:
    """Print at once: an hour is long, and somebody may look."""
    print(text, flush=True)


def one(target: AnyTarget, seed: str, seconds: float, folder: Path, *, guided: bool) -> Summary:
    """Fuzz one target."""
    if isinstance(target, PortTarget):
        return ports.fuzz(target, seed, seconds=seconds, folder=folder, tell=say, progress=say)
    if guided:
        return coverage.fuzz(target, seed, seconds=seconds, folder=folder, tell=say)
    return decoders.fuzz(target, seed, seconds=seconds, folder=folder, tell=say)


def replayed(path: Path) -> int:
    """Do again what a crash file says; the exit code."""
    try:
        crash: Crash = crashes.load(path)
        target = ALL[crash.target]
    except (CrashError, KeyError) as error:
        print(f"python -m tests.fuzz: {error}", file=sys.stderr)
        return EXIT_USAGE
    if isinstance(target, PortTarget):
        wrong = ports.replay(target, crash)
    else:
        wrong = decoders.replay(target, crash)
    say(f"{crash.target}: {wrong or 'nothing is wrong with it now'}")
    return EXIT_FOUND if wrong else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="some of --list; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of them together")
    parser.add_argument("--seed", default="1", help="of all that is drawn (default: 1)")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the decoders")
    parser.add_argument("--crashes", type=Path, default=crashes.CRASHES, metavar="DIR")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="do again what a file says")
    options = parser.parse_args(words)
    if options.list:
        print(table())
        return 0
    if options.replay is not None:
        return replayed(options.replay)
    try:
        targets = chosen(options.targets)
    except KeyError as error:
        parser.error(f"there is no {error}: see --list")
    if options.atheris and not coverage.IS_HERE:
        parser.error("atheris is not installed: pip install atheris, where there is a wheel of it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are ended then, too
    seconds = options.minutes * 60 / len(targets)
    summaries: list[Summary] = []
    is_interrupted = False
    try:
        for place, target in enumerate(targets, 1):
            say(f"== {place} of {len(targets)}: {target.name}, {seconds / 60:.1f} min")
            summaries.append(
                one(target, options.seed, seconds, options.crashes, guided=options.atheris)
            )
            say(str(summaries[-1]))
    except KeyboardInterrupt:
        is_interrupted = True
    found = [finding for summary in summaries for finding in summary.findings]
    inputs = sum(summary.inputs for summary in summaries)
    say(f"\n{inputs:,} inputs, {len(found)} findings (seed {options.seed})")
    for summary in summaries:
        say(str(summary))
    for finding in found:
        say(f"found: {finding}")
    if is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FOUND if found else 0


if __name__ == "__main__":
    sys.exit(main())
