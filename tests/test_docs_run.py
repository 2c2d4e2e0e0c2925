"""Every block of Python in the documentation runs as it stands.

Rules of this file:

* A block is a program, or a file of tests; it runs in a fresh interpreter, in an empty directory,
  and must end well and say nothing on standard error. Every warning is an error, and tests are
  under the leak check.
* A block that begins with `# continues the program above` goes on from the ones before it.
* What a block needs beside it, it says in its first line: `# with: trioraft serve …`. That very
  command is started; its ports are exchanged for free ones, there and in the block.
* A test whose description says "This test fails." must fail.
* Transcripts of a shell are the matter of tests/docs/test_shell.py.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.docs.pages import name_of, pages

CONTINUES = "# continues the program above"
WITH = "# with: trioraft "
FAILS = "This test fails."
PATIENCE_S = 120.0


@attrs.frozen
class Block:
    """One block, after those that it goes on from."""

    page: str
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_tests(self) -> bool:
        return re.search(r"^(async )?def test_", self.source, re.MULTILINE) is not None

    @property
    def server(self) -> str | None:
        """The arguments of `trioraft` that start what it needs."""
        first = self.source.partition("\n")[0]
        return first.removeprefix(WITH) if first.startswith(WITH) else None


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Every block of a page, in order."""
    before = ""
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        source = found[1]
        if source.startswith(CONTINUES):
            if not before:
                raise AssertionError(f"{page}: there is no program above: {source}")
            source = f"{before}\n{source}"
        before = source
        yield Block(page, text.count("\n", 0, found.start()) + 1, source)


BLOCKS = [
    block
    for path in pages()
    if "trioleaks/docs" not in path.as_posix()  # trioleaks/tests/test_pages.py runs those
    for block in blocks_of(name_of(path), path.read_text(encoding="utf-8"))
]


def run(block: Block, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The block in an interpreter of its own."""
    path = folder / ("test_block.py" if block.is_tests else "block.py")
    path.write_text(source, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(path)]
    if block.is_tests:
        options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-o", "trio_mode=true"]
        options += ["-o", "raft_leak_check=true"]
        command = [sys.executable, "-m", "pytest", *options, str(path)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def complaint(block: Block, source: str, folder: Path) -> str | None:
    """What is wrong with it; None: it does what it should."""
    done = run(block, source, folder)
    said = f"{done.stdout}\n{done.stderr}"
    if not block.is_tests:
        return said if done.returncode or done.stderr else None
    tests = re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)
    must_fail = source.count(FAILS)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", summary)}
    expected = {"passed": len(tests) - must_fail, "failed": must_fail}
    return None if counts == {word: n for word, n in expected.items() if n} else said


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def beside_what_it_needs(block: Block, folder: Path) -> Iterator[str]:
    """The block's source, while the server that it names is there."""
    if block.server is None:
        yield block.source
        return
    source = block.source
    for port in set(re.findall(r"127\.0\.0\.1:(\d+)", block.server)):
        source = re.sub(rf"\b{port}\b", str(free_port()), source)
    arguments = source.partition("\n")[0].removeprefix(WITH)
    command = [sys.executable, "-m", "trioraft", *shlex.split(arguments)]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert "serves clients" in server.stdout.readline()
            yield source
        finally:
            server.terminate()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_as_it_stands(block: Block, tmp_path: Path) -> None:
    with beside_what_it_needs(block, tmp_path) as source:
        assert complaint(block, source, tmp_path) is None


def test_there_are_blocks_of_every_kind() -> None:
    assert len(BLOCKS) >= 20
    assert any(block.is_tests for block in BLOCKS)
    assert any(block.server for block in BLOCKS)
    assert any(CONTINUES in block.source for block in BLOCKS)
    assert sum(FAILS in block.source for block in BLOCKS)


# -- the rule bites --------------------------------------------------------------------------

LEAKS = """
import trio

async def test_it(nursery):
    nursery.start_soon(trio.sleep_forever)
"""


@pytest.mark.parametrize(
    "source",
    [
        "print(undefined)",
        "import warnings; warnings.warn('old')",
        "import sys; print('odd', file=sys.stderr)",
        "async with open_node(…) as node: ...",
        "def test_it():\n    assert 1 == 2\n",
        f'def test_it():\n    """{FAILS}"""\n',
        LEAKS,
    ],
)
def test_what_does_not_run_is_found(source: str, tmp_path: Path) -> None:
    assert complaint(Block("page", 1, source), source, tmp_path) is not None


def test_a_program_that_continues_has_what_came_before() -> None:
    text = f"```python\nn = 1\n```\nand\n```python\n{CONTINUES}\nprint(n)\n```\n"
    first, second = blocks_of("page", text)
    assert (first.line, second.line) == (1, 5)
    assert second.source == f"n = 1\n\n{CONTINUES}\nprint(n)\n"
    with pytest.raises(AssertionError, match="no program above"):
        list(blocks_of("page", text[text.index("and") :]))
