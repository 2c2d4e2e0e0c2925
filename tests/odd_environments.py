"""Run the suite, or a part of it, where something around it is odd.

    python -m tests.odd_environments              # the parts that look around them, once each
    python -m tests.odd_environments --list
    python -m tests.odd_environments --only narrow --only c-locale -- tests/test_cli.py -x
    python -m tests.odd_environments -- tests             # everything, everywhere: an hour or two

A test says something about the code; what the terminal is like, where temporary files are and who
runs it has no part in that. Each line of the table makes one of these odd and leaves the rest.

Rules of this file: what an environment needs and this machine lacks (root, a user `nobody`,
namespaces) is said and passed over; exit code 1 if a test fails anywhere.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent
PARTS: Final = (
    *("tests/test_cli.py", "tests/test_demo.py", "tests/test_logs.py", "tests/test_readme.py"),
    *("tests/test_golden.py", "tests/recover", "tests/serve", "tests/viz", "tests/watch"),
    *("tests/storage", "tests/testing", "tests/sim/test_command.py", "tests/transport"),
    *("tests/benchmarks/test_figure16.py", "tests/benchmarks/test_election.py", "tests/client"),
)
"""What looks around itself: commands, files, sockets, processes."""
PORTS: Final = (*range(7000, 7010), *range(8000, 8010), *range(9000, 9010))
"""Those that documents and examples name."""
DEEP: Final = "a-directory-with-a-name-that-is-longer-than-most/" * 3
OPEN_FILES: Final = 256
"""What macOS allows by default."""


@attrs.frozen
class Odd:
    """One thing that is not as usual."""

    name: str
    what: str
    environment: Mapping[str, str | None] = attrs.field(factory=dict)
    """Variables that are set, or (None) not set."""
    temporary: str = "t"
    """Below a new directory: where the tests' own files go."""
    umask: int = -1
    open_files: int | None = None
    as_nobody: bool = False
    read_only: bool = False
    busy_ports: bool = False
    directory: Path = ROOT
    """Where pytest is started."""


C_LOCALE: Final = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
OURS: Final = {
    "TRIORAFT_ID": "odd",
    "TRIORAFT_DATA": "/nonexistent",
    "TRIORAFT_CLUSTER_ID": "odd",
    "TRIORAFT_ADDRESSES": "192.0.2.1:1",
    "TRIORAFT_INSECURE": "true",
    "TRIORAFT_LOG_FORMAT": "json",
}
ODD: Final = (
    Odd("deep", "temporary files lie deep", temporary=DEEP),
    Odd("late", "pytest ran a million times before", temporary="pytest-of-odd/pytest-1000000"),
    Odd("unicode", "the path has spaces and letters of other alphabets", temporary="ö ж 'y'"),
    Odd("narrow", "a terminal of 40 columns", {"COLUMNS": "40", "LINES": "10"}),
    Odd("wide", "a terminal of 300 columns", {"COLUMNS": "300", "LINES": "100"}),
    Odd("no-size", "a terminal without a size", {"COLUMNS": "0", "LINES": "0"}),
    Odd("no-color", "no colours", {"NO_COLOR": "1"}),
    Odd(
        "force-color",
        "colours, whatever reads them",
        {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "PY_COLORS": "1"},
    ),
    Odd("dumb", "a terminal that can do nothing", {"TERM": "dumb"}),
    Odd("no-term", "no terminal at all", {"TERM": None}),
    Odd("forge", "a forge's CI", {"CI": "true", "GITHUB_ACTIONS": "true"}),
    Odd("c-locale", "no locale, ASCII only", C_LOCALE),
    Odd("utf-8-mode", "Python's UTF-8 mode", {"PYTHONUTF8": "1", "LC_ALL": "C"}),
    Odd("chatham", "12 h 45 min ahead, with summer time", {"TZ": "Pacific/Chatham"}),
    Odd("marquesas", "9 h 30 min behind", {"TZ": "Pacific/Marquesas"}),
    Odd("umask-077", "files are for their owner only", umask=0o077),
    Odd("umask-000", "files are for everybody", umask=0),
    Odd("no-home", "a home that is not there", {"HOME": "/nonexistent", "XDG_CONFIG_HOME": None}),
    Odd(
        "odd-user",
        "a user with an odd name",
        dict.fromkeys(("USER", "LOGNAME", "USERNAME", "LNAME"), "o'dd ñame"),
    ),
    Odd("hash-0", "sets and dicts in their plain order", {"PYTHONHASHSEED": "0"}),
    Odd("hash-4242", "and in another one", {"PYTHONHASHSEED": "4242"}),
    Odd("dev-mode", "Python's development mode", {"PYTHONDEVMODE": "1"}),
    Odd("no-bytecode", "nothing is compiled beforehand", {"PYTHONDONTWRITEBYTECODE": "1"}),
    Odd("our-variables", "TRIORAFT_… is set", OURS),
    Odd("busy-ports", "ports that documents name are taken", busy_ports=True),
    Odd("few-files", f"{OPEN_FILES} open files", open_files=OPEN_FILES),
    Odd("nobody", "a user who may write nowhere but to temporary files", as_nobody=True),
    Odd("read-only", "a checkout on a read-only file system", read_only=True),
    Odd("elsewhere", "started in another directory", directory=Path("/")),
)


def why_not(odd: Odd) -> str | None:
    """What this machine lacks for it; None if nothing."""
    if (odd.as_nobody or odd.read_only) and os.geteuid() != 0:
        return "only root can arrange it"
    if odd.as_nobody:
        for path in {Path(sys.prefix), Path(sys.executable).resolve(), ROOT}:
            if not _is_readable_for_all(path):
                return f"{path} is not for everybody to read"
    if odd.read_only and subprocess.run([*MOUNTED, "true"], capture_output=True).returncode:
        return "mounting is not allowed here"
    return None


MOUNTED: Final = ("unshare", "--mount", "--")
READ_ONLY: Final = (
    *MOUNTED,
    *(
        "sh",
        "-c",
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"',
    ),
)


def _is_readable_for_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


@contextmanager
def taken(ports: Sequence[int]) -> Iterator[None]:
    """Somebody else listens there; where somebody does already, that is as good."""
    with ExitStack() as stack:
        for port in ports:
            with suppress(OSError):
                stack.enter_context(socket.create_server(("", port)))
        yield


@contextmanager
def temporary_directory(odd: Odd) -> Iterator[Path]:
    """A new one, as deep and as strange as it should be."""
    base = Path(tempfile.mkdtemp())
    try:
        base.chmod(0o755)
        path = base / odd.temporary
        path.mkdir(parents=True)
        if odd.as_nobody:
            for folder in (base, *base.rglob("*")):
                shutil.chown(folder, "nobody")
        yield path
    finally:
        shutil.rmtree(base, ignore_errors=True)


def limited(odd: Odd) -> Callable[[], None] | None:
    """What the new process does first."""
    files = odd.open_files
    if files is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def run(odd: Odd, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """pytest in this environment."""
    environment = {k: v for k, v in os.environ.items() if k not in odd.environment}
    environment |= {k: v for k, v in odd.environment.items() if v is not None}
    with temporary_directory(odd) as temporary, ExitStack() as stack:
        if odd.busy_ports:
            stack.enter_context(taken(PORTS))
        environment["TMPDIR"] = str(temporary)
        if odd.as_nobody:
            environment["HOME"] = str(temporary)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rfE",
            "--color=no",
            "--tb=short",
            "-p",
            "no:cacheprovider",
        ]
        command += [f"--basetemp={temporary / 'b'}", *(_absolute(word) for word in words)]
        if odd.read_only:
            command = [*READ_ONLY, str(ROOT), *command]
        if odd.directory != ROOT:
            command += [f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")]
        return subprocess.run(
            command,
            cwd=odd.directory,
            env=environment,
            umask=odd.umask,
            user="nobody" if odd.as_nobody else None,
            group="nogroup" if odd.as_nobody else None,
            extra_groups=[] if odd.as_nobody else None,
            preexec_fn=limited(odd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


def _absolute(word: str) -> str:
    path, mark, node = word.partition("::")
    return f"{ROOT / path}{mark}{node}" if (ROOT / path).exists() else word


def main(words: list[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.odd_environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--only", action="append", choices=[odd.name for odd in ODD])
    parser.add_argument("--verbose", action="store_true", help="show what pytest says of failures")
    parser.add_argument("tests", nargs="*", default=list(PARTS), metavar="-- PYTEST ARGUMENTS")
    options = parser.parse_args(words)
    chosen = [odd for odd in ODD if not options.only or odd.name in options.only]
    failed = 0
    for odd in chosen:
        missing = why_not(odd)
        if options.list or missing:
            print(f"{odd.name:14} {odd.what}" + (f" (not here: {missing})" if missing else ""))
            continue
        print(f"{odd.name:14} {odd.what}", end=": ", flush=True)
        begun = time.monotonic()
        done = run(odd, options.tests)
        failed += done.returncode != 0
        lines = done.stdout.strip().splitlines()
        print(f"{lines[-1] if lines else 'nothing'} ({time.monotonic() - begun:.0f} s)", flush=True)
        if done.returncode:
            wanted = lines if options.verbose else [x for x in lines if x[:5] in ("FAILE", "ERROR")]
            print("\n".join(f"    {line}" for line in wanted or lines[-20:]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
