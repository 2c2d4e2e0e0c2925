"""The habits of this code, as far as a machine can hold them.

Rules of this file:

* Here stands only what ruff does not know. What it knows is switched on in `pyproject.toml`, and
  the test at the end sees that it is.
* Every file of the package is read as text and as a syntax tree; nothing is imported.
* Each rule is also shown to bite, on source that breaks it.
* An `__init__.py` only exports: it needs no rules of its own.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "trioraft").rglob("*.py"))
OURS = ("tests", "benchmarks", "docs", "examples")

FUNCTION_LINES_MAX = 60

FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, ast.Module], Iterator[str]]


def has_docstring(source: str, tree: ast.Module) -> Iterator[str]:
    """A file says what it is; rules it gives only if it has some that concern all of it."""
    if not ast.get_docstring(tree):
        yield "no module docstring"


def is_not_long(source: str, tree: ast.Module) -> Iterator[str]:
    """A function is one thought. A file is one concept, whatever its length."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {length} lines"


def silences_with_reason(source: str, tree: ast.Module) -> Iterator[str]:
    """A check that is silenced has its reason beside it: `# noqa: X - reason`."""
    for line, comment in comments_by_line(source).items():
        silences = "noqa" in comment or "type: ignore" in comment or "pragma: no cover" in comment
        if silences and not has_reason(comment):
            yield f"line {line}: {comment} has no reason"


def names_its_encoding(source: str, tree: ast.Module) -> Iterator[str]:
    """What a file's text is must not depend on the locale of whoever reads it."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="read_text" | "write_text" as name)):
                positional = len(node.args) > (name == "write_text")
                if not positional and all(word.arg != "encoding" for word in node.keywords):
                    yield f"line {node.lineno}: {name} without an encoding"


PRINTERS = ("saying.py",)
"""Of the commands' files: who may write to standard output and standard error, and escapes."""


def prints(source: str, tree: ast.Module) -> Iterator[str]:
    """Where a file writes to a terminal past the place that escapes what others chose."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield f"line {node.lineno}: print: use cli/saying.py"
            case ast.Attribute(value=ast.Attribute(attr="stdout" | "stderr"), attr=used) if (
                used in ("write", "buffer")
            ):
                yield f"line {node.lineno}: a stream of its own: use cli/saying.py"


def test_all_that_commands_say_is_escaped_in_one_place() -> None:
    found = []
    for path in FILES:
        if "cli" in path.relative_to(ROOT).parts and path.name not in PRINTERS:
            found += [f"{path.relative_to(ROOT)}: {what}" for what in prints(*parsed(path))]
    assert found == []
    assert complaints(prints, "print('x')")
    assert complaints(prints, "import sys\nsys.stdout.buffer.write(b'x')")


RULES: tuple[Rule, ...] = (has_docstring, is_not_long, silences_with_reason, names_its_encoding)


@cache
def parsed(path: Path) -> tuple[str, ast.Module]:
    """A file as text and as a tree, for all rules."""
    source = path.read_text(encoding="utf-8")
    return source, ast.parse(source)


@cache
def comments_by_line(source: str) -> dict[int, str]:
    """Every comment, by its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def has_reason(comment: str) -> bool:
    """Whether a comment goes on with words after the check that it silences: ` - ` and words, or,
    where mypy wants that, a second `#` and words."""
    text = comment.removeprefix("#").strip()
    reason = text.partition(" - ")[2] or text.partition("] # ")[2].removeprefix("#")
    return len(reason.split()) >= 2


def complaints(rule: Rule, source: str) -> list[str]:
    """What this rule has against this source."""
    return list(rule(source, ast.parse(source)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_its_habits(rule: Rule) -> None:
    found = []
    for path in FILES:
        if rule is has_docstring and path.name == "__init__.py":
            continue
        found += [f"{path.relative_to(ROOT)}: {what}" for what in rule(*parsed(path))]
    assert found == []


def test_nothing_else_of_ours_depends_on_the_locale() -> None:
    found = []
    for path in (p for name in OURS for p in sorted((ROOT / name).rglob("*.py"))):
        source = path.read_text(encoding="utf-8")
        found += [f"{path}: {what}" for what in complaints(names_its_encoding, source)]
    assert found == []


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (has_docstring, "x = 1"),
        (has_docstring, '""" """\nx = 1'),
        (is_not_long, LONG_FUNCTION),
        (is_not_long, "class A:\n    async " + LONG_FUNCTION.replace("\n", "\n    ")),
        (silences_with_reason, "x = 1  # noqa"),
        (names_its_encoding, "path.read_text()"),
        (names_its_encoding, "path.write_text(text)"),
        (silences_with_reason, "x = 1  # noqa: E501"),
        (silences_with_reason, "x = 1  # type: ignore[assignment]"),
    ],
)
def test_each_rule_bites(rule: Rule, source: str) -> None:
    assert complaints(rule, source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (has_docstring, '"""A file."""\n' + "x = 1\n" * 1000),
        (silences_with_reason, "x = f()  # type: ignore[misc] # binds now"),
        (silences_with_reason, "x = 1  # noqa: E501 - a long address"),
        (names_its_encoding, "path.read_text('utf-8')"),
        (names_its_encoding, "path.write_text(text, encoding='utf-8')"),
        (silences_with_reason, 'x = "# noqa"'),
    ],
)
def test_no_rule_bites_at_random(rule: Rule, source: str) -> None:
    assert complaints(rule, source) == []


HELD_BY_RUFF = (
    ("S101", "assert x"),
    ("TID251", "import pickle"),
    ("TID251", "from marshal import loads"),
    ("TID251", "time.sleep(1)"),
    ("TID251", "from time import sleep"),
    ("E722", "except:"),
    ("BLE001", "except Exception:"),
    ("BLE001", "except (OSError, BaseException):"),
    ("FIX001", "# FIXME: do it"),
    ("FIX002", "# TODO: do it"),
    ("PLW0603", "global state"),
)
"""An assertion goes with `python -O`, reading a pickle runs what it says, `time.sleep` stops every
task, …"""
BAD_FILE = """
import time
state = 0
def f(x):
    global state
    assert x
    state = x
    time.sleep(1)
    import pickle
    from marshal import loads
    from time import sleep
    try:
        f(1)
    except:
        pass
def g():
    try:
        f(1)
    except Exception:
        f(2)
    try:
        f(1)
    except (OSError, BaseException):
        f(2)
    # FIXME: do it
    # TODO: do it
"""


def test_ruff_holds_the_rest_in_the_package() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise", "--no-cache"]
    done = subprocess.run(
        [*command, "--stdin-filename", "trioraft/any.py", "-"],
        input=BAD_FILE,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.strip() for line in BAD_FILE.splitlines()]
    found = set()
    for complaint in done.stdout.splitlines():
        place = complaint.split(":")
        if len(place) > 3:
            found.add((place[3].split()[0], lines[int(place[1]) - 1]))
    assert set(HELD_BY_RUFF) - found == set(), done.stderr
