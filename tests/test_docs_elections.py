"""docs/elections.md is true: its commands work, its pictures exist, its lines are what a run says.

Rules of this file:

* The document is the only source: what it quotes is looked for in what its own two commands for
  everything write, told once for all tests here. Only where they write is changed.
* Its blocks say what they are: `raftlog STORY` (lines of a log, each explained by an item of the
  list behind), `report STORY` (what `trioraft viz` says), `leak`, `error`, `python`, `console`.
* `python -m tests.test_docs_elections` runs every command, also the slow ones.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs
import pytest

from benchmarks.processes import Process
from tests import gone_wrong, test_elections
from tests.many_seeds import GROUPS, MODES, seed_range
from tests.scenarios.elections import SCENARIOS
from trioraft import ConfigError, Timing
from trioraft.logs.raftlog import ENTRY_RE, RUN_PREFIX, run_name
from trioraft.viz.analysis import analyse_log
from trioraft.viz.report import report

ROOT: Final = Path(__file__).parent.parent
DOC: Final = ROOT / "docs" / "elections.md"
IMAGES: Final = ROOT / "docs" / "images"
IMAGES_BYTES_MAX: Final = 1_750_000
"""A clone should stay small."""
STAMP_SLACK: Final = timedelta(microseconds=2)
"""Stamps are rounded; where, depends on when the run began."""
MUST_FAIL: Final = (
    "gone_wrong.raftlog",
    "--raftlog leak.raftlog",
    "Timing(heartbeat_interval_s=3.0)",
)
"""What stands in the commands that end with 1, as the document says."""
NOT_RUN: Final = ("pip", "docs.make_pictures")
"""Installing is another matter; pictures need a browser and change the tree."""


@attrs.frozen
class Block:
    """A fenced block."""

    kind: str
    story: str
    lines: tuple[str, ...]
    items: int
    """Items of the numbered list right behind it."""

    def __str__(self) -> str:
        return f"{self.kind} {self.story}"


def read_blocks(text: str) -> list[Block]:
    """All fenced blocks of a document."""
    blocks = []
    pattern = r"^```(\w+)(?: (\S+))?\n(.*?)^```\n(\n(?:\d+\. [^\n]*\n)+)?"
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        items = (match[4] or "").strip().splitlines()
        blocks.append(Block(match[1], match[2] or "", tuple(match[3].splitlines()), len(items)))
    return blocks


TEXT: Final = DOC.read_text(encoding="utf-8")
BLOCKS: Final = read_blocks(TEXT)


def of_kind(kind: str) -> list[Block]:
    """The blocks of one kind."""
    return [block for block in BLOCKS if block.kind == kind]


COMMANDS: Final = [line for block in of_kind("console") for line in block.lines]
FOR_ALL: Final = ("elections.raftlog", "gone_wrong.raftlog")
"""What the two commands write that tell all stories."""


# -- what the commands write -----------------------------------------------------------------


@attrs.frozen
class Told:
    """All stories, told."""

    entries: dict[str, list[str]]
    """By story: every entry, with the clock at zero when the story begins."""
    reports: dict[str, str]
    """By story: what `trioraft viz` says, with single spaces."""
    output: str
    """What the commands printed, with single spaces."""


def runnable(command: str, folder: Path) -> list[str]:
    """The command, writing into the folder instead of the project's directory."""
    words = [
        str(folder / word) if word.endswith(".raftlog") or word == "build/pages" else word
        for word in shlex.split(command)
    ]
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    return [sys.executable, "-m", *words]


def start(command: Sequence[str]) -> Process:
    return Process(command, directory=ROOT, joins_errors=True)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("elections")
    commands = [line for log in FOR_ALL for line in COMMANDS if f"--raftlog {log} " in line]
    started = [start(runnable(command, folder)) for command in commands]
    outputs = [process.rest() for process in started]
    assert [process.wait() for process in started] == [0, 1], "\n".join(outputs)
    entries: dict[str, list[str]] = {}
    for log in FOR_ALL:
        entries |= read_entries((folder / log).read_text(encoding="utf-8"))
    runs = [run for log in FOR_ALL for run in analyse_log(folder / log)]
    return Told(
        entries=entries,
        reports={short(run.name): single_spaced(report([run])) for run in runs},
        output=single_spaced("\n".join(outputs)),
    )


def read_entries(log: str) -> dict[str, list[str]]:
    """By story: its entries, with the clock at zero when the story begins."""
    entries: dict[str, list[str]] = {}
    begun = None
    for line in log.splitlines():
        if line.startswith(RUN_PREFIX):
            name = line.removeprefix(RUN_PREFIX).strip()
            current = entries[short(name)] = []
            begun = None
        elif match := ENTRY_RE.match(line):
            at = datetime.strptime(match[1], "%H:%M:%S.%f")
            begun = begun or at
            stamp = (datetime.min + (at - begun) % timedelta(days=1)).strftime("%H:%M:%S.%f")
            current.append(f"{stamp} [{match[2]}] {match[3]}")
    return entries


def short(name: str) -> str:
    """A run's name without what pytest and the telling add to it."""
    return re.sub(r"_calm_0$", "", re.sub(r"^test_(in_virtual_time_)?", "", name))


def single_spaced(text: str) -> str:
    return " ".join(text.split())


def is_same(quoted: str, entry: str) -> bool:
    """Equal, but for the last digits of the time."""
    ours, theirs = ENTRY_RE.match(quoted), ENTRY_RE.match(entry)
    if ours is None or theirs is None or ours.groups()[1:] != theirs.groups()[1:]:
        return False
    apart = datetime.strptime(ours[1], "%H:%M:%S.%f") - datetime.strptime(theirs[1], "%H:%M:%S.%f")
    return abs(apart) <= STAMP_SLACK


# -- what is quoted --------------------------------------------------------------------------


@pytest.mark.parametrize("block", of_kind("raftlog"), ids=str)
def test_quoted_lines_are_written_by_the_run_in_this_order(block: Block, told: Told) -> None:
    rest = iter(told.entries[block.story])
    for line in block.lines:
        assert any(is_same(line, entry) for entry in rest), f"not in the log, or not here: {line}"


@pytest.mark.parametrize("block", [*of_kind("raftlog"), *of_kind("leak")], ids=str)
def test_every_quoted_line_is_explained(block: Block) -> None:
    assert block.items == len(block.lines)


@pytest.mark.parametrize("block", of_kind("report"), ids=str)
def test_quoted_findings_are_reported(block: Block, told: Told) -> None:
    assert single_spaced("\n".join(block.lines)) in told.reports[block.story]


def test_the_quoted_leak_is_reported_by_the_leak_check(told: Told) -> None:
    (block,) = of_kind("leak")
    assert single_spaced("\n".join(block.lines)) in told.output


def test_the_quoted_error_is_raised() -> None:
    (block,) = of_kind("error")
    with pytest.raises(ConfigError) as caught:
        Timing(heartbeat_interval_s=3.0)
    assert block.lines == (f"{ConfigError.__module__}.ConfigError: {caught.value}",)


def test_quoted_code_stands_in_the_tests() -> None:
    """Every function of it, word for word; that it runs is tests/test_docs_run.py."""
    source = (ROOT / "tests" / "gone_wrong.py").read_text(encoding="utf-8")
    quoted = ["\n".join(block.lines) for block in of_kind("python")]
    functions = [
        ast.get_source_segment(code, node)
        for code in quoted
        for node in ast.parse(code).body
        if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert len(functions) == 3
    assert [function for function in functions if str(function) not in source] == []


def test_every_scenario_is_told() -> None:
    quoted = {block.story for block in of_kind("raftlog")}
    assert quoted >= set(SCENARIOS)


# -- pictures --------------------------------------------------------------------------------


_PICTURE: Final = r"!\[[^\]]+\]\((?:\.\./)?images/([^)]+)\)"


def test_every_picture_exists_and_is_used() -> None:
    named = re.findall(_PICTURE, TEXT)
    pages = [page.read_text(encoding="utf-8") for page in DOC.parent.rglob("*.md")]
    used = {name for text in pages for name in re.findall(_PICTURE, text)}
    assert len(named) > 10
    assert used == {path.name for path in IMAGES.iterdir()}
    for name in named:
        header = (IMAGES / name).read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        assert int.from_bytes(header[16:20], "big") <= 1440, f"{name} is wider than a laptop"


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) <= IMAGES_BYTES_MAX


# -- commands --------------------------------------------------------------------------------


def names_in(path: str) -> list[str]:
    """The names of a file's tests, as pytest gives them; collecting them would take a second."""
    if path == "tests/gone_wrong.py":
        return [name for name in vars(gone_wrong) if name.startswith("test_")]
    assert path == "tests/test_elections.py"
    told_by = test_elections
    virtual, tcp = told_by.test_in_virtual_time.__name__, told_by.test_over_tcp.__name__
    return [
        f"{virtual}[{name}-{mode.name}-{seed}]"
        for name in SCENARIOS
        for mode in MODES
        for seed in told_by.SEEDS
    ] + [f"{tcp}[{name}]" for name in SCENARIOS]


def selected(expression: str, tests: Sequence[str]) -> list[str]:
    """What `-k` selects, for words joined by `and` and `not`."""

    def matches(test: str) -> bool:
        return all(
            word.removeprefix("not ") not in test if word.startswith("not ") else word in test
            for word in expression.split(" and ")
        )

    return [test for test in tests if matches(test)]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("pytest")])
def test_a_pytest_command_tells_one_story(command: str) -> None:
    _, path, *options = shlex.split(command)
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert set(given) - {"-k"} == {"--raftlog", "--raftviz"}
    chosen = selected(given.get("-k", ""), names_in(path))
    assert len(chosen) == 1 or (chosen and given["--raftlog"] in FOR_ALL), chosen


def test_the_commands_for_all_tell_what_they_select(told: Told) -> None:
    chosen = selected("calm-0", names_in("tests/test_elections.py"))
    names = [run_name(test) for test in (*chosen, *names_in("tests/gone_wrong.py"))]
    assert sorted(told.entries) == sorted(short(name) for name in names)


def test_no_two_commands_write_the_same_log() -> None:
    logs = re.findall(r"--raftlog (\S+)", "\n".join(COMMANDS))
    assert len(logs) == len(set(logs))


@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith("pytest")])
def test_the_other_commands_are_understood(command: str) -> None:
    match shlex.split(command):
        case ["pip", "install", "-e", extras]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            names = re.fullmatch(r"\.\[(.+)\]", extras)
            assert names is not None
            assert set(names[1].split(",")) <= set(project["project"]["optional-dependencies"])
        case ["python", "-m", "tests.many_seeds", "--group", group, "--seeds", seeds]:
            assert group in GROUPS
            assert seed_range(seeds)
        case ["python", "-m", module]:
            assert find_spec(module) is not None
        case ["python", "-c", program]:
            with pytest.raises(ConfigError):
                exec(program, {})  # noqa: S102 - the document's own line
        case ["trioraft", "viz", log, "--out", "build/pages"]:
            assert log in FOR_ALL
        case _:
            pytest.fail(f"nobody checks this command: {command}")


def main() -> int:
    """Run every command; 1 if one did not end as the document says."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            if any(word in command.split() for word in NOT_RUN):
                continue
            process = start(runnable(command, Path(folder)))
            output, code = process.rest(), process.wait()
            expected = int(any(word in command for word in MUST_FAIL))
            print(f"{'ok ' if code == expected else 'NOT'} {command}")
            if code != expected:
                wrong += 1
                print(output)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
