"""A slice of fuzzing, with fixed seeds: every decoder, and what was found once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.fuzz import crashes, decoders
from tests.fuzz.targets import TARGETS, Target

INPUTS: Final = 200


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_raises_what_it_says_and_nothing_else(target: Target, tmp_path: Path) -> None:
    """What is kept in `corpus` comes first."""
    summary = decoders.fuzz(target, "slice", inputs=INPUTS, folder=tmp_path)
    assert not summary.findings, summary
    assert summary.inputs == INPUTS


def _breaks(data: bytes) -> str:
    if data[:1] == b"\x93":
        raise KeyError("a decoder that was not careful")
    return "read"


CARELESS = Target("careless", "breaks", "packed", lambda: [b"\x92\x01\xa1a"], _breaks)


def test_a_fault_is_found_saved_and_replayed(tmp_path: Path) -> None:
    said: list[str] = []
    summary = decoders.fuzz(CARELESS, "1", inputs=2000, folder=tmp_path, tell=said.append)
    assert len(summary.findings) == 1
    crash = crashes.load(Path(summary.findings[0]))
    assert crash.target == "careless"
    assert crash.data[:1] == b"\x93"
    assert "KeyError" in (decoders.replay(CARELESS, crash) or "")
    assert "seed 1" in said[0]
    assert f"--replay {summary.findings[0]}" in said[0]


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    taken: list[list[bytes]] = []
    for _ in range(2):
        inputs: list[bytes] = []
        target = Target("kept", "nothing", "packed", CARELESS.seeds, inputs.append)
        decoders.fuzz(target, "7", inputs=200, folder=tmp_path)
        taken.append(inputs)
    assert taken[0] == taken[1]


def test_an_input_that_takes_for_ever_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "INPUT_SECONDS_MAX", 0.05)

    def hangs(data: bytes) -> None:
        while data:
            pass

    target = Target("hangs", "hangs", "bytes", lambda: [b"x"], hangs)
    summary = decoders.fuzz(target, "1", inputs=1, folder=tmp_path, tell=lambda _: None)
    assert "it took more than" in crashes.load(Path(summary.findings[0])).what
