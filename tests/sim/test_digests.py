"""A handful of simulated runs, compared with what they were; `tests.sim.digests` compares all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim import digests
from trioraft.sim.tiers import TIERS

SOME = {1: (0, 4, 37, 999), 2: (0, 5, 998)}
"""By tier."""


@pytest.mark.parametrize(("tier", "seed"), [(t, seed) for t in SOME for seed in SOME[t]])
def test_a_run_is_what_it_was(tier: int, seed: int) -> None:
    present = digests.runs(tier, range(seed, seed + 1), jobs=1)
    assert list(digests.differing(tier, digests.read()[tier], present)) == []


def test_a_thousand_seeds_of_each_tier_are_in_the_file() -> None:
    for by_seed in digests.read().values():
        assert list(by_seed) == list(digests.SEEDS)
        assert {len(digest) for digest in by_seed.values()} == {digests.DIGITS}
    assert digests.read().keys() == TIERS.keys()


def test_what_is_written_is_read() -> None:
    golden = {tier: {seed: f"{tier}{seed:031x}" for seed in range(25)} for tier in (1, 2)}
    text = digests.text_of(golden)
    read = digests.digests_of(text)
    assert digests.text_of(read) == text
    assert list(digests.differing(1, read[1], golden[1].items())) == []


def test_the_first_seed_that_differs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = digests.read()
    for seed in (2, 3):
        golden[1][seed] = "0" * digests.DIGITS
    wrong = tmp_path / "digests"
    wrong.write_text(digests.text_of(golden), encoding="utf-8")
    monkeypatch.setattr(digests, "PATH", wrong)
    assert digests.main(["--tier", "1", "--seeds", "0:4", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert "the first that differs: tier 1, seed 2:" in said
    assert "trioraft sim --tier 1 --seeds 2:3 --trace ." in said
    assert "4 seeds, 2 differ" in said
    assert digests.main(["--tier", "1", "--seeds", "0:2", "--jobs", "1"]) == 0


def test_a_seed_that_is_not_there_is_not_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert digests.main(["--tier", "1", "--seeds", "998:1001", "--jobs", "1"]) == 1
    assert "has digests of seeds 0:1000, not of 998:1001" in capsys.readouterr().out
