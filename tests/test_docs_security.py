"""`docs/security.md` names tests that exist, and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
_TESTS = re.compile(r"`(tests/[\w/]+(?:\.py)?)`")


def test_every_test_that_is_named_exists() -> None:
    named = _TESTS.findall(PAGE)
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []
