"""docs/scenarios.md is true: it has every phrase of the grammar with its meaning, every example
plays, and what it quotes is what is said.

Rules of this file: the document is the only source; a phrase that it lacks, or has too much, fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from trio.testing import MockClock

from trioraft.scenario import (
    PHRASES,
    Needs,
    Scenario,
    ScenarioError,
    ScenarioFailed,
    load,
    parse,
    shipped_names,
)
from trioraft.scenario.grammar import SLOTS, WHO
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.scenes import run_seed
from trioraft.testing import play

ROOT: Final = Path(__file__).parent.parent
TEXT: Final = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
CELLS: Final = [
    [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("| `")
]
ROWS: Final = [row for row in CELLS if len(row) == 3]
"""A phrase, what it means, and an example."""
BLOCKS: Final = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def example_of(row: list[str]) -> Scenario:
    return parse(row[2].strip("`"), "example.scenario")


def told_of(kind: str) -> str:
    (found,) = (text for each, _, text in BLOCKS if each == kind)
    return str(found)


def test_every_phrase_stands_there_with_its_meaning() -> None:
    shown = {row[0].strip("`"): row[1] for row in ROWS}
    expected = {phrase.pattern: phrase.meaning for phrase in PHRASES}
    expected |= {who: f"{meaning[0].upper()}{meaning[1:]}." for who, meaning in WHO.items()}
    assert shown == expected


def test_every_slot_is_explained() -> None:
    shape = TEXT.partition("## The shape")[2].partition("\n## ")[0]
    assert [slot for slot in SLOTS if f"`{slot}`" not in shape] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
async def test_every_example_says_what_it_is_for_and_plays(
    row: list[str], autojump_clock: MockClock
) -> None:
    example = example_of(row)
    if row[0].strip("`") in WHO:
        named = [step.values.get(key, ()) for step in example.phrases for key in ("who", "who2")]
        said = {who.kind for whos in named for who in whos}
        kind = {"node 0": "node", "NAME": "name"}.get(row[0].strip("`"), row[0].strip("`"))
        assert kind in said
    else:
        assert row[0].strip("`") in {step.phrase.pattern for step in example.phrases}
    if any(need is Needs.PAUSE for need, _ in example.needs()):
        assert run_seed(0, RunOptions(scenario=example)).failure is None
    else:
        await play(example)


def test_the_first_example_is_a_shipped_one() -> None:
    ((_, name, text),) = (block for block in BLOCKS if block[0] == "scenario")
    assert load(name).text == text


def test_the_quoted_mistake_is_said_so() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(told_of("mistake"), "mine.scenario")
    assert str(caught.value) in TEXT


async def test_the_quoted_failure_is_said_so(autojump_clock: MockClock) -> None:
    with pytest.raises(ScenarioFailed) as caught:
        await play(parse(told_of("failing"), "mine.scenario"))
    assert str(caught.value) in TEXT


def test_the_commands_name_what_there_is() -> None:
    commands = [line for kind, _, text in BLOCKS if kind == "console" for line in text.splitlines()]
    named = re.findall(
        r"(?:demo|--scenario) ([a-z][\w-]+)(?= |$)", "\n".join(commands), re.MULTILINE
    )
    assert set(named) <= {*shipped_names()}
    assert named
