"""`python -m benchmarks.watches`: it measures, and a watch of other keys costs a put nothing."""

from __future__ import annotations

import json

import pytest

from benchmarks.watches import KINDS, main


def test_watches_of_other_keys_cost_a_put_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With all watches looked at, a thousand would cost a put a hundred times what it costs."""
    assert main(["--watches", "1", "--watches", "1000", "--puts", "500", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    took_us = {(line["kind"], line["watches"]): line["put_us"] for line in lines}
    for kind in KINDS:
        assert took_us[kind, 1000] < 3 * took_us[kind, 1]


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--watches", "-1"])
    assert "negative" in capsys.readouterr().err
