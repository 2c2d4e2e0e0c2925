"""The check that pyright knows our types can fail, and can do without pyright.

The check itself takes longer than the rest of the suite allows: `.ci/run` has it.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from typing import Any

import pytest

from tests import complete_types


def said(score: float) -> dict[str, Any]:
    unclear = {"name": "a.B.c", "isTypeKnown": False, "diagnostics": [{"message": "no type"}]}
    return {"completenessScore": score, "symbols": [unclear]}


@pytest.mark.parametrize(("score", "code"), [(1.0, 0), (0.99, 0), (0.98, 1)])
def test_too_few_types_are_a_failure(
    score: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(complete_types, "verified", lambda package: said(score))
    monkeypatch.setattr(complete_types, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert complete_types.main() == code
    assert "a.B.c: no type" in capsys.readouterr().out


def test_without_pyright_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(complete_types, "find_spec", lambda name: None)
    assert complete_types.main() == 0
    assert "skipped" in capsys.readouterr().out


@pytest.mark.parametrize("package", complete_types.PACKAGES)
def test_each_package_says_that_it_has_types(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()
