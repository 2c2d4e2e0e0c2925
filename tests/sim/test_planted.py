"""Planted bugs: a few are hunted here; all of them, and where each was found, stand in the docs.

Rules of this file: these take milliseconds. `python -m tests.sim.planted` hunts all.
"""

from __future__ import annotations

import re

import pytest

from tests.sim.planted.__main__ import main
from tests.sim.planted.catalogue import BUGS, BY_NAME, RARE
from tests.sim.planted.hunt import hunt
from tests.sim.planted.table import PAGE

QUICK = (
    "StepsDownWithoutItsVote",
    "ASnapshotLowersItsTerm",
    "commits_earlier_terms",
    "believes_any_refusal",
    "counts_itself_at_once",
    "goes_on_after_a_failed_sync",
    "LeavesJointAtOnce",
    "ReadsTooEarly",
    "leaves_results_out",
    "answers_when_proposed",
    "SleepsWithItsLease",
    "IsAsImpatientAsItIsSet",
)
VOTES, APPENDS = ("V1", "V2", "V3", "V4", "V6"), ("A1", "A3", "A4", "A5", "A6", "A7", "A8")
REST = ("D1", "D3", "D5", "M1", "M3", "M4", "M5", "R1", "R2", "S1", "S5", "T1", "L9", "X1")
LEASES, LINES = ("Q1", "Q2"), ("P1", "P2", "P3", "P4", "P5")
WANTED = (*VOTES, *APPENDS, *REST, *LEASES, *LINES)


def test_every_planted_bug_has_a_name_a_sentence_and_a_place_in_the_docs() -> None:
    assert len(BY_NAME) == len(BUGS)
    assert set(WANTED) <= {bug.hazard for bug in BUGS}
    rows = {m[2]: m[1] for m in re.finditer(r"^\|.*?\| (.*?) \| `(\w+)` \|", _page(), re.M)}
    assert rows == {bug.name: bug.what for bug in BUGS}
    assert "not found" not in _page()


def _page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_where_the_docs_say(name: str) -> None:
    """And that seed is clean without it."""
    row = re.search(rf"`{name}` \| [^|]* \| (\d+) \|", _page())
    assert row is not None
    seed = int(row[1])
    found = hunt(name, seeds=range(seed, seed + 1), rated=0)
    assert found.first_seed == seed, found
    assert found.is_sound


def test_a_bug_that_is_not_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "both_parts_must_do", "--seeds", "0:1", "--rated", "0"]) == 1
    assert "not found" in capsys.readouterr().out


def test_some_are_chosen_by_the_first_seed(capsys: pytest.CaptureFixture[str]) -> None:
    soon = [bug.name for bug in BUGS if bug.name not in RARE]
    place = soon.index("LeavesJointAtOnce")
    main(["--some", "1", "--seeds", f"{place}:{place + 1}", "--rated", "0"])
    assert soon[place] in capsys.readouterr().out
