"""The examples that embed a node in a Trio program run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class Examples:
    """Runs examples as `python` does, but for a process of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def run(self, name: str, *args: str) -> list[str]:
        """The lines that an example prints."""
        self._monkeypatch.setattr("sys.argv", [name, *args])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = self._capsys.readouterr()
        assert printed.err == ""
        return printed.out.splitlines()


@pytest.fixture
def examples(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Examples:
    return Examples(capsys, monkeypatch)


def test_replicated_object(examples: Examples) -> None:
    assert examples.run("replicated_object.py") == [
        "delivered, there are 3",
        "sold, left are 1",
        "not sold: 2 × lamp wanted, 1 there",
        "sold on another node, left are 0",
        "another node sees {'lamp': 0}",
    ]


def test_leader_only_job(examples: Examples) -> None:
    lines = examples.run("leader_only_job.py")
    first, second = lines[0].split()[0], lines[-1].split()[0]
    assert first != second
    assert lines == [
        f"{first} begins",
        *(f"{first} sends report {number}" for number in (1, 2, 3)),
        f"{first} ends",
        f"{first} is Dead",
        f"{second} begins",
        *(f"{second} sends report {number}" for number in (4, 5, 6)),
        f"{second} ends",
    ]


def test_embed_and_again(examples: Examples, tmp_path: Path) -> None:
    for already in (0, 3):
        lines = examples.run("embed.py", str(tmp_path))
        assert lines[0] == f"found {already} lines"
        numbers, texts = zip(*(line.split(": ") for line in lines[1:4]), strict=True)
        assert set(numbers) == {f"line {already + number}" for number in (1, 2, 3)}
        assert set(texts) == {"it embeds", "it is durable", "it leaves nothing behind"}
        assert lines[4].startswith("snapshot at index ")
        assert lines[5] == "the node is Dead"
