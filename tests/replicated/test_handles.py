"""Handles: what is written of them is what would be written now, and they have what they should."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.handles import FILES, MARK, ROOT, handles_of, methods_of
from trioraft import structures
from trioraft.machines.replicated import BlockingHandle, Handle, ReplicatedObject

SHIPPED = [
    value
    for value in vars(structures).values()
    if isinstance(value, type) and issubclass(value, ReplicatedObject)
]
DONE_FOR_YOU = ("line_up", "keep_alive", "leave_line", "taken_item", "done")
"""What `hold` and `take` call, and nobody else."""


def formatted(text: str) -> str:
    """As the formatter would have it."""
    given = ["ruff", "format", "--stdin-filename", "x.py", "-"]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(given, input=text, capture_output=True, text=True, check=True, cwd=root)
    return done.stdout


@pytest.mark.parametrize("name", FILES)
def test_the_handles_are_those_of_the_class(name: str) -> None:
    """After a change: `python -m tests.handles --update`."""
    source = (ROOT / name).read_text(encoding="utf-8")
    written = source.partition(MARK)[2].partition("\n")[2]
    assert written.strip()
    assert formatted(written) == formatted(handles_of(source))


@pytest.mark.parametrize("cls", SHIPPED, ids=lambda cls: cls.__name__)
def test_every_structure_has_handles_with_all_its_methods(cls: type[ReplicatedObject]) -> None:
    handle, blocking = cls._handle_type, cls._blocking_handle_type
    assert handle is not Handle
    assert blocking is not BlockingHandle
    for name in cls._definition.methods:
        if name not in DONE_FOR_YOU:
            assert name in dir(handle), name
            assert name in dir(blocking), name


def test_a_class_without_marks_has_no_methods() -> None:
    cls = ast.parse("class A:\n    def f(self): ...\n    @other\n    def g(self): ...").body[0]
    assert isinstance(cls, ast.ClassDef)
    assert list(methods_of(cls)) == []
