"""The public names of the package: the same ones for type checkers, for programs and for `dir`.

Rules of this file: what the package imports is looked at in a fresh interpreter; this one has all.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import trioraft

SOURCE = Path(trioraft.__file__).read_text(encoding="utf-8")


def imported_for_type_checkers() -> dict[str, str]:
    """The module of each name, as type checkers read it."""
    return {
        alias.asname: node.module
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
        if alias.asname == alias.name
    }


def in_a_fresh_interpreter(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    return ended.stdout


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert imported_for_type_checkers() == trioraft._HOMES


def test_every_public_name_is_there_and_says_so() -> None:
    names = {*imported_for_type_checkers()}
    assert names <= {*dir(trioraft)}
    assert [name for name in dir(trioraft) if not name.startswith("__")] == sorted(names)
    for name in names:
        assert getattr(trioraft, name) is getattr(trioraft, name)


def test_the_version_is_the_distribution_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trioraft.__version__ == metadata.version("trioraft")
    assert "__version__" in dir(trioraft)
    shown = in_a_fresh_interpreter(
        "import sys; sys.argv[1:] = ['--version']; import trioraft.cli as c; c.main()"
    )
    assert shown == f"trioraft {trioraft.__version__}\n"

    def is_not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", is_not_installed)
    assert trioraft.__version__ == "0+unknown"


def test_a_star_gives_the_public_names_and_no_other() -> None:
    code = "from trioraft import *; print(*sorted(n for n in dir() if not n.startswith('__')))"
    assert in_a_fresh_interpreter(code).split() == sorted(imported_for_type_checkers())


def test_a_name_that_is_none_is_said_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="module 'trioraft' has no attribute 'Nod'"):
        trioraft.Nod  # type: ignore[attr-defined] # noqa: B018 - asking for it is the test
    with pytest.raises(ImportError, match="cannot import name 'Nod' from 'trioraft'"):
        from trioraft import Nod  # type: ignore[attr-defined] # noqa: F401


def test_importing_the_package_imports_nothing_of_it() -> None:
    """What it costs is what an interpreter costs."""
    code = "import sys; before = {*sys.modules}; import trioraft; print(*{*sys.modules} - before)"
    loaded = {name.partition(".")[0] for name in in_a_fresh_interpreter(code).split()}
    assert "trioraft" in loaded
    assert loaded - {*sys.stdlib_module_names} == {"trioraft"}
    assert not loaded & {"asyncio", "ssl", "socket", "subprocess", "logging"}
