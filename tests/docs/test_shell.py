"""Every transcript of a shell in the documentation runs, and says what it says there.

Rules of this file:

* A block of `console` is run by bash in an empty directory, one for each page; what an earlier
  block of the page has made, exported or left running is there for the next ones. Ports that
  commands name are exchanged for free ones, in the whole page.
* With prompts (`$ `), what is printed must match what stands below: `…` stands for the rest of a
  line, or, on a line of its own, for any lines. Without prompts, each line must end well.
* What a reader would do only once, `pip install …`, is not done.
* A block that begins with `# left running` is started, waited for until it has said what is shown,
  and ended with SIGINT after the page.
* A block that cannot be run says why, to readers too: `# not run by the tests: …`. Whole pages that
  another test runs are in `pages.HELD_BY`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

import attrs
import pytest

from .pages import DOCS, HELD_BY, ROOT, Fence, all_fences, fences, name_of, pages

SHELLS: Final = frozenset({"console", "bash", "sh", "shell"})
NOT_RUN: Final = "# not run by the tests: "
LEFT_RUNNING: Final = "# left running"
PATIENCE_S: Final = 120.0
NEIGHBOURS_MAX: Final = 100
_PORT: Final = re.compile(r"\b127\.0\.0\.1:(\d{4,5})\b|--(?:base-)?port (\d{4,5})")
_COMMANDS: Final = ("trioraft ", "pytest", "python -m ", "python3 ", "pip ")


@attrs.frozen
class Step:
    """One command, and what it is shown to print; None: it is not shown."""

    command: str
    printed: tuple[str, ...] | None


def steps(text: str) -> list[Step]:
    """The commands of a block, with their lines continued by a backslash."""
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    if not any(line.startswith("$ ") for line in lines):
        joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
        return [Step(line, None) for line in joined.splitlines() if line.strip()]
    found: list[tuple[str, list[str]]] = []
    is_continued = False
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif is_continued:
            command, printed = found.pop()
            found.append((f"{command.removesuffix(chr(92))}{line.strip()}", printed))
        else:
            found[-1][1].append(line)
        is_continued = line.endswith("\\")
    return [Step(command, tuple(printed)) for command, printed in found]


def pattern_of(printed: tuple[str, ...]) -> str:
    """What output must match: `…` is the rest of a line, or any lines."""
    parts = []
    for line in printed:
        if line.strip() == "…":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append(re.escape(line.rstrip()).replace("…", "[^\n]*") + r"[^\S\n]*\n")
    return "".join(parts)


def is_run(fence: Fence) -> bool:
    return fence.kind in SHELLS and not fence.text.startswith(NOT_RUN) and fence.page not in HELD_BY


RUN: Final = {
    page: [*blocks]
    for page, blocks in groupby(
        [fence for fence in all_fences() if is_run(fence)], key=lambda fence: fence.page
    )
}


@attrs.define
class Shell:
    """A page's terminal."""

    folder: Path
    environment: dict[str, str]
    running: ExitStack
    code: int = 0
    """Of the last command."""

    def do(self, fence: Fence, ports: dict[str, str]) -> None:
        """Run a block and compare."""
        text = _PORT.sub(lambda found: _exchanged(found, ports), fence.text)
        if text.startswith(LEFT_RUNNING):
            (step,) = steps(text)
            self.running.enter_context(self._left_running(step, fence))
            return
        for step in steps(text):
            command = without_installing(step.command)
            if command:
                self._run(Step(command, step.printed), fence)

    def _run(self, step: Step, fence: Fence) -> None:
        saved = self.folder.parent / "environment"
        keep = f"code=$?\nenv -0 > {shlex.quote(str(saved))}\nexit $code\n"
        script = f"(exit {self.code})\n{step.command}\n{keep}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        self.code = done.returncode
        said = f"{fence}: {step.command}\n{done.stdout}"
        if step.printed is None:
            assert done.returncode == 0, said
        else:
            output = (
                done.stdout if done.stdout.endswith("\n") or not done.stdout else f"{done.stdout}\n"
            )
            assert re.fullmatch(pattern_of(step.printed), output), said
        if saved.exists():
            entries = saved.read_text(encoding="utf-8").split("\0")
            self.environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)

    @contextmanager
    def _left_running(self, step: Step, fence: Fence) -> Iterator[None]:
        pattern = re.compile(pattern_of(step.printed or ()))
        with subprocess.Popen(
            ["bash", "-c", f"exec {step.command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            patience = threading.Timer(PATIENCE_S, process.kill)
            patience.start()
            try:
                assert process.stdout is not None
                said = ""
                while not pattern.match(said):
                    line = process.stdout.readline()
                    assert line, f"{fence}: it ended with {process.wait()}, and said\n{said}"
                    said += line
                patience.cancel()
                yield
            finally:
                patience.cancel()
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE_S)


def without_installing(command: str) -> str:
    """A command line without what installs: `pip install X && rest` is the rest."""
    while found := re.match(r"(?:pip install|python3? -m venv) [^&;|]*(?:&& *(.*))?$", command):
        command = found[1] or ""
    return command


def _exchanged(found: re.Match[str], ports: dict[str, str]) -> str:
    port = found[1] or found[2]
    return found[0].replace(port, ports.get(port, port))


def free_ports(wanted: list[str]) -> dict[str, str]:
    """Ports that are free; those beside each other stay so, and have as many again behind them:
    `trioraft cluster` takes these for its members."""
    found: dict[str, str] = {}
    numbers = sorted(map(int, wanted))
    while numbers:
        low = numbers[0]
        group = [number for number in numbers if number - low < NEIGHBOURS_MAX]
        numbers = numbers[len(group) :]
        base = _first_of_free(2 * (group[-1] - low + 1))
        found |= {str(number): str(base + number - low) for number in group}
    return found


def _first_of_free(count: int) -> int:
    """So many free ports, one after the other."""
    for _ in range(100):
        with ExitStack() as stack:
            try:
                first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                base: int = first.getsockname()[1]
                for port in range(base + 1, base + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
            return base
    raise AssertionError(f"no {count} free ports beside each other")


def environment(folder: Path) -> dict[str, str]:
    """With this Python's own commands first, and nothing of whoever runs the tests."""
    kept = {
        name: os.environ[name]
        for name in ("LANG", "LC_ALL", "PYTEST_ADDOPTS")
        if name in os.environ
    }
    binaries = str(Path(sys.executable).parent)
    return kept | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@pytest.mark.parametrize("page", RUN)
def test_a_page_s_transcripts_are_what_happens(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "terminal"
    folder.mkdir()
    text = "\n".join(step.command for fence in RUN[page] for step in steps(fence.text))
    ports = free_ports(sorted({found[1] or found[2] for found in _PORT.finditer(text)}))
    with ExitStack() as running:
        shell = Shell(folder, environment(folder), running)
        for fence in RUN[page]:
            shell.do(fence, ports)


def test_there_are_transcripts_of_every_kind() -> None:
    texts = [fence.text for blocks in RUN.values() for fence in blocks]
    assert len(texts) >= 8
    assert any(text.startswith(LEFT_RUNNING) for text in texts)
    assert any(any(step.printed for step in steps(text)) for text in texts)


def test_a_block_that_is_not_run_says_why() -> None:
    """Also one that forgot to say that it is a shell's."""
    for fence in all_fences():
        if fence.kind in SHELLS and NOT_RUN.strip() in fence.text:
            reason = fence.text.removeprefix(NOT_RUN).partition("\n")[0]
            assert len(reason.split()) >= 3, f"{fence}: say why, behind {NOT_RUN!r}"
        if fence.kind in {"", "text"} and fence.page not in HELD_BY:
            commands = [line for line in fence.text.splitlines() if line.startswith(_COMMANDS)]
            assert commands == [], f"{fence} holds commands: make it ```console"


def test_pages_that_others_run_are_named_there() -> None:
    for page, test in HELD_BY.items():
        assert page in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not name {page}"


def test_blocks_of_settings_can_be_read() -> None:
    read = 0
    for fence in all_fences():
        if fence.kind == "toml":
            tomllib.loads(fence.text)
            read += 1
    assert read >= 3


def test_extras_that_pages_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*project["optional-dependencies"]}
    for page in pages():
        for found in re.finditer(
            r"(?:trioraft|\.)\[([a-z,]+)\]'?", page.read_text(encoding="utf-8")
        ):
            extras = {*found[1].split(",")}
            assert extras <= known, f"{name_of(page)} installs {found[0]}"


# -- the rule bites --------------------------------------------------------------------------


def told(text: str, folder: Path) -> None:
    (fence,) = fences("page", f"```console\n{text}```\n")
    with ExitStack() as running:
        Shell(folder, environment(folder), running).do(fence, {})


def test_what_is_printed_as_shown_is_right(tmp_path: Path) -> None:
    told("$ echo one; echo 2 two; echo three\none\n… two\n…\n", tmp_path)
    told("$ true\n$ (exit 3)\n$ echo $?\n3\n", tmp_path)
    told("$ echo a \\\n      b\na b\n", tmp_path)
    told("# left running\n$ sh -c 'echo up; exec sleep 60'\nup\n", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "$ echo one\ntwo\n",
        "$ echo one\n",
        "$ true\none\n",
        "$ printf 'one\\ntwo\\n'\none\n",
        "false\n",
        "nosuchcommand\n",
        "# left running\n$ echo down\nup\n",
    ],
)
def test_what_is_not_as_shown_is_found(text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        told(text, tmp_path)


def test_an_exported_variable_is_there_for_the_next(tmp_path: Path) -> None:
    told('$ export WORD=hello\n$ echo "$WORD"\nhello\n', tmp_path)


def test_the_documentation_is_there() -> None:
    assert {"index.md", "elections.md"} <= {path.name for path in DOCS.iterdir()}
