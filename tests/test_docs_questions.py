"""docs/questions.md is true: each question's scenario is played, and its log shows what the table
says.

Rules of this file: the table is the only source. What is quoted there is the name of a finding of
`trioraft viz`, or part of a line of the log.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

import attrs
import pytest

from trioraft.scenario import load, shipped_names
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.report import raftlog_lines
from trioraft.sim.tiers import run_seed_of
from trioraft.viz.analysis import analyse_lines
from trioraft.viz.model import FINDING_KINDS, Run

ROOT: Final = Path(__file__).parent.parent
TEXT: Final = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
TIER: Final = 2


@attrs.frozen
class Question:
    """A row of the table."""

    number: int
    anchor: str
    threads: tuple[str, ...]
    scenario: str
    shows: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number}-{self.scenario}"


def questions() -> list[Question]:
    found = []
    for line in TEXT.splitlines():
        if re.match(r"\| \d+ \|", line):
            number, question, asked, scenario, shows = line.strip("| ").split(" | ")
            anchor = re.search(r"\(#([^)]+)\)$", question)
            assert anchor is not None, line
            threads = tuple(re.findall(r"\((https://[^)]+)\)", asked))
            found.append(
                Question(
                    int(number),
                    anchor[1],
                    threads,
                    scenario.strip("`"),
                    tuple(re.findall(r"`([^`]+)`", shows)),
                )
            )
    return found


QUESTIONS: Final = questions()


@cache
def log_of(scenario: str) -> tuple[str, ...]:
    options = RunOptions(scenario=load(scenario), traced=True)
    outcome = run_seed_of(TIER, options)(0, options)
    assert outcome.failure is None
    return tuple(raftlog_lines(outcome))


def run_of(scenario: str) -> Run:
    (run,) = analyse_lines(log_of(scenario), scenario)
    return run


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_its_log_shows_it(question: Question) -> None:
    kinds = {finding.kind for finding in run_of(question.scenario).findings}
    log = "\n".join(log_of(question.scenario))
    missing = [
        shown
        for shown in question.shows
        if (shown not in kinds if shown in FINDING_KINDS else shown not in log)
    ]
    assert missing == []
    assert question.shows


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_it_is_answered_and_was_asked(question: Question) -> None:
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert question.anchor in anchors
    assert question.anchor.startswith(f"{question.number}-")
    assert question.threads
    assert question.scenario in shipped_names()


def test_there_are_ten_and_more_in_order_and_every_why_is_asked() -> None:
    assert [question.number for question in QUESTIONS] == [*range(1, len(QUESTIONS) + 1)]
    assert len(QUESTIONS) >= 10
    asked = {question.scenario for question in QUESTIONS}
    assert {name for name in shipped_names() if name.startswith("why-")} <= asked


def test_an_entry_of_an_older_term_is_never_committed_alone() -> None:
    """Question 5: what must *not* stand in the log."""
    log = "\n".join(log_of("why-not-committed"))
    assert "commit index advances to 1" not in log
    assert re.search(r"\[2\] commit index advances to 2", log)


def test_no_term_of_the_lonely_candidate_had_a_leader() -> None:
    """Question 3: terms 2 to 9 are attempts."""
    terms = {term.number: term.leader for term in run_of("why-term-jumps").terms}
    assert [terms[number] for number in range(2, 10)] == [None] * 8
