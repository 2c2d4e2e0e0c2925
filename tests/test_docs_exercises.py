"""docs/exercises.md is true: what the answers claim is played, and the pictures are there.

Rules of this file: the page is the only source. `python -m tests.test_docs_exercises LOG` writes
the log of which `python -m docs.make_pictures LOG --out docs/exercises` makes the pictures.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft.logs.loggers import open_raftlog, use_sink
from trioraft.scenario import Kind, Scenario, parse
from trioraft.testing import open_cluster, play

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs" / "exercises"
TEXT: Final = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
SEEDS: Final = range(5)
IMAGES_BYTES_MAX: Final = 1_000_000
"""A clone should stay small."""
AFTER_S: Final = 1.0
"""How long a picture goes on behind the last line of its exercise."""


@attrs.frozen
class Exercise:
    """One of the sheet."""

    number: int
    question: Scenario
    answer: Scenario
    picture: str

    def __str__(self) -> str:
        return f"exercise {self.number}"


def exercises() -> list[Exercise]:
    found = []
    for part in re.split(r"^## (?=\d+\. )", TEXT, flags=re.MULTILINE)[1:]:
        number = int(part.partition(".")[0])
        (question,) = re.findall(r"^```scenario\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
        (answer,) = re.findall(r"^```answer\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
        (picture,) = re.findall(r"!\[[^\]]+\]\(exercises/([^)]+)\)", part)
        found.append(
            Exercise(
                number,
                parse(question, f"exercise_{number}.scenario"),
                parse(answer, f"answer_{number}.scenario"),
                picture,
            )
        )
    return found


SHEET: Final = exercises()


def test_there_are_ten() -> None:
    assert [each.number for each in SHEET] == [*range(1, 11)]


@pytest.mark.parametrize("exercise", SHEET, ids=str)
async def test_what_the_answer_claims_is_so(exercise: Exercise, autojump_clock: MockClock) -> None:
    await play(exercise.question, seed=0)
    for seed in SEEDS:
        await play(exercise.answer, seed=seed)


@pytest.mark.parametrize("exercise", SHEET, ids=str)
def test_the_answer_is_the_exercise_with_expectations(exercise: Exercise) -> None:
    asked = [step.text for step in exercise.question.phrases]
    rest = iter([step.text for step in exercise.answer.phrases])
    assert [text for text in asked if text not in rest] == []
    claims = [step for step in exercise.answer.steps if step.phrase.kind is Kind.EXPECTATION]
    before = [step for step in exercise.question.steps if step.phrase.kind is Kind.EXPECTATION]
    assert len(claims) > len(before)


def test_each_has_its_picture_and_they_are_small() -> None:
    assert sorted(each.picture for each in SHEET) == sorted(path.name for path in FOLDER.iterdir())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= IMAGES_BYTES_MAX


def main() -> int:
    """Play each exercise with seed 0, into one raftlog."""
    (path,) = sys.argv[1:]
    with open_raftlog(path) as raftlog:
        for exercise in SHEET:
            text = exercise.question.text + f"after {AFTER_S:g}s\n"
            longer = parse(text, exercise.question.source)
            with raftlog.run(exercise.question.name), use_sink(raftlog):
                tell = partial(play, longer, opening=partial(open_cluster, seed=0))
                trio.run(tell, clock=MockClock(autojump_threshold=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
