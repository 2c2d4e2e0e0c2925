"""Each kind has its page, and its page is right: the first example leaks that kind, the second not.

Rules of this file:

* An example is a whole file of tests: a reader can paste it.
* All examples are run by one pytest, in a process of its own: one leaves a run without its host.
* They are run in the order of the pages' names, but for that one, which comes last.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trioleaks import KINDS

PAGES = Path(__file__).parent.parent / "docs" / "kinds"
README = PAGES.parent.parent / "README.md"
INI = """
[pytest]
trio_mode = true
leaks = error
leaks_stuck_s = 0.3
leaks_grace_s = 0.2
"""
HANGS_IF_LONGER_S = 120


def file_name(kind: str) -> str:
    return f"{kind.replace(' ', '-')}.md"


def examples(kind: str) -> list[str]:
    text = (PAGES / file_name(kind)).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_each_kind_has_a_page_that_the_readme_names() -> None:
    kinds = {file_name(kind.value) for kind in KINDS}
    assert {path.name for path in PAGES.glob("*.md")} == kinds
    readme = README.read_text(encoding="utf-8")
    assert kinds == set(re.findall(r"\(docs/kinds/([a-z-]+\.md)\)", readme))


@pytest.mark.parametrize("kind", [kind.value for kind in KINDS])
def test_a_page_shows_a_report_of_its_kind_and_says_how_to_allow_it(kind: str) -> None:
    text = (PAGES / file_name(kind)).read_text(encoding="utf-8")
    assert f"\n  1. {kind}: " in text
    assert f"`leaks_allow = kind={kind} at=" in text
    assert f"`leaks_kinds = -{kind}`" in text


def test_each_page_has_an_example_that_leaks_and_one_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(INI, encoding="utf-8")
    names = sorted((kind.value for kind in KINDS), key=lambda kind: (kind == "run", kind))
    for number, kind in enumerate(names):
        pair = examples(kind)
        assert [text.split()[1] for text in pair] == ["incorrect!", "correct!"], kind
        for word, text in zip(("leaks", "is_clean"), pair, strict=True):
            name = f"test_{number:02}_{kind.replace(' ', '_')}_{word}.py"
            (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [*command, "--leaks-json=told.json"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=HANGS_IF_LONGER_S, check=False,
    )  # fmt: skip
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    found = {
        each["test"].partition("::")[0]: [leak["kind"] for leak in each["leaks"]]
        for each in told["tests"]
    }
    for number, kind in enumerate(names):
        name = f"test_{number:02}_{kind.replace(' ', '_')}_leaks.py"
        assert kind in found.pop(name, []), f"{name}\n{done.stdout}"
    assert found == {}, done.stdout
