"""The habits of this code, as far as a machine can hold them.

Rules of this file:

* Every file of the package is read as text and as a syntax tree; nothing is imported.
* Each rule is also shown to bite, on source that breaks it.
* An `__init__.py` only exports: it needs no rules of its own.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "trioraft").rglob("*.py"))

FUNCTION_LINES_MAX = 60
SHORT_FILE_LINES = 60
"""Up to here a file's docstring may do without its rules."""

FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, ast.Module], Iterator[str]]


def has_docstring(source: str, tree: ast.Module) -> Iterator[str]:
    """A file says what it is, and, unless it is short, which rules it keeps."""
    docstring = ast.get_docstring(tree)
    if docstring is None:
        yield "no module docstring"
    elif len(source.splitlines()) > SHORT_FILE_LINES and "Rules of this file" not in docstring:
        yield "the docstring does not give the 'Rules of this file'"


def is_not_long(source: str, tree: ast.Module) -> Iterator[str]:
    """A function is one thought. A file is one concept, whatever its length."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {length} lines"


def does_not_assert(source: str, tree: ast.Module) -> Iterator[str]:
    """`python -O` removes assert; what must hold raises InvariantViolation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"


def does_not_pickle(source: str, tree: ast.Module) -> Iterator[str]:
    """Reading a pickle runs whatever it says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("pickle", "cPickle", "dill", "marshal", "shelve"):
                yield f"line {node.lineno}: {name}"


def does_not_block(source: str, tree: ast.Module) -> Iterator[str]:
    """`time.sleep` stops every task of the process; in a worker thread a comment says so."""
    comments = comments_by_line(source)
    for node in ast.walk(tree):
        if has_reason(comments.get(getattr(node, "lineno", 0), "")):
            continue
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                yield f"line {node.lineno}: time.sleep"
            case ast.ImportFrom(module="time", names=names):
                if any(alias.name == "sleep" for alias in names):
                    yield f"line {node.lineno}: time.sleep imported"


def catches_with_reason(source: str, tree: ast.Module) -> Iterator[str]:
    """Who catches everything raises it again, or says on the same line why not."""
    comments = comments_by_line(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"line {node.lineno}: bare except"
        elif not catches_all(node.type) or raises_again(node):
            continue
        elif not has_reason(comments.get(node.lineno, "")):
            yield f"line {node.lineno}: catches everything and does not say why"


def silences_with_reason(source: str, tree: ast.Module) -> Iterator[str]:
    """A check that is silenced has its reason beside it: `# noqa: X - reason`."""
    for line, comment in comments_by_line(source).items():
        silences = "noqa" in comment or "type: ignore" in comment or "pragma: no cover" in comment
        if silences and not has_reason(comment):
            yield f"line {line}: {comment} has no reason"


def leaves_nothing_open(source: str, tree: ast.Module) -> Iterator[str]:
    """What is not done is not hinted at."""
    for line, comment in comments_by_line(source).items():
        if any(word in comment for word in ("TODO", "FIXME", "XXX", "HACK")):
            yield f"line {line}: {comment}"


def has_no_module_state(source: str, tree: ast.Module) -> Iterator[str]:
    """`global` is how a module keeps state."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"


RULES: tuple[Rule, ...] = (
    has_docstring,
    is_not_long,
    does_not_assert,
    does_not_pickle,
    does_not_block,
    catches_with_reason,
    silences_with_reason,
    leaves_nothing_open,
    has_no_module_state,
)


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


def catches_all(node: ast.expr) -> bool:
    """Whether this is `Exception` or `BaseException`, alone or among others."""
    caught = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only cleans up: it ends with a plain `raise`, and never returns."""
    last = handler.body[-1]
    leaves = any(isinstance(n, ast.Return) for part in handler.body for n in ast.walk(part))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def has_reason(comment: str) -> bool:
    """Whether a comment goes on with words after the check that it silences: ` - ` and words, or,
    where mypy wants that, a second `#` and words."""
    text = comment.removeprefix("#").strip()
    if not any(mark in text for mark in ("noqa", "type: ignore", "pragma")):
        return len(text.split()) >= 2
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


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX
LONG_FILE = '"""A file."""\n' + "x = 1\n" * SHORT_FILE_LINES


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (has_docstring, "x = 1"),
        (has_docstring, LONG_FILE),
        (is_not_long, LONG_FUNCTION),
        (is_not_long, "class A:\n    async " + LONG_FUNCTION.replace("\n", "\n    ")),
        (does_not_assert, "def f(x):\n    assert x"),
        (does_not_pickle, "import pickle"),
        (does_not_pickle, "from pickle import loads"),
        (does_not_block, "import time\ntime.sleep(1)"),
        (does_not_block, "from time import sleep"),
        (catches_with_reason, "try:\n    f()\nexcept:\n    pass"),
        (catches_with_reason, "try:\n    f()\nexcept Exception:\n    pass"),
        (catches_with_reason, "try:\n    f()\nexcept Exception:  # noqa: BLE001\n    pass"),
        (catches_with_reason, "try:\n    f()\nexcept (OSError, BaseException):\n    g()"),
        (catches_with_reason, "try:\n    f()\nexcept Exception as e:\n    raise OSError from e"),
        (
            catches_with_reason,
            "def f():\n    try:\n        g()\n    except Exception:\n        if x:\n"
            "            return\n        raise",
        ),
        (silences_with_reason, "x = 1  # noqa"),
        (silences_with_reason, "x = 1  # noqa: E501"),
        (silences_with_reason, "x = 1  # type: ignore[assignment]"),
        (leaves_nothing_open, "x = 1  # TODO: do it"),
        (has_no_module_state, "def f():\n    global x\n    x = 1"),
    ],
)
def test_each_rule_bites(rule: Rule, source: str) -> None:
    assert complaints(rule, source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (has_docstring, '"""A short file."""\nx = 1'),
        (has_docstring, LONG_FILE.replace("A file.", "A file.\n\nRules of this file: none.")),
        (does_not_block, "import time\ntime.sleep(1)  # in a worker thread"),
        (silences_with_reason, "x = f()  # type: ignore[misc] # binds now"),
        (does_not_block, "import trio\nasync def f():\n    await trio.sleep(1)"),
        (catches_with_reason, "try:\n    f()\nexcept ValueError:\n    pass"),
        (
            catches_with_reason,
            "try:\n    f()\nexcept Exception:  # noqa: BLE001 - a user's code may raise anything\n"
            "    pass",
        ),
        (catches_with_reason, "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        (silences_with_reason, "x = 1  # noqa: E501 - a long address"),
        (silences_with_reason, 'x = "# noqa"'),
    ],
)
def test_no_rule_bites_at_random(rule: Rule, source: str) -> None:
    assert complaints(rule, source) == []
