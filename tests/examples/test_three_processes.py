"""The example with `trioraft serve` runs as it stands, but for the ports."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.processes import free_ports, shown

EXAMPLE = Path(__file__).parents[2] / "examples" / "three_processes.py"


def test_three_processes_survive_the_death_of_their_leader(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(EXAMPLE))
    with free_ports(6) as ports:
        example["PEERS_AT"].update(zip("012", map(shown, ports[:3]), strict=True))
        example["CLIENTS_AT"].update(zip("012", ports[3:], strict=True))
    example["main"]()
    said = capsys.readouterr()
    *ready, killing, in_the_end = said.out.splitlines()
    assert [line.split(" at ")[0] for line in ready] == [
        f"trioraft serve: node {node_id} serves clients" for node_id in "012"
    ]
    dead = re.fullmatch("(.) leads; killing it", killing)
    successor = re.fullmatch("(.) leads now, and says: hello, world", in_the_end)
    assert dead is not None
    assert successor is not None
    assert dead[1] != successor[1]
