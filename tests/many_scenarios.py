"""Play every shipped scenario wherever it can be played, and compare the verdicts.

    python -m tests.many_scenarios                 # in virtual time, in both tiers, over TCP
    python -m tests.many_scenarios --only why-odd
    trioraft cluster 3 --lab --data DIR            # in another terminal, and then:
    python -m tests.many_scenarios --lab DIR       # on its servers too; for other sizes, again

A table: `ok`, what a backend cannot do, or FAILED with the reason below. Exit code 1 if any failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import trio
from trio.testing import MockClock

from trioraft import ConfigError
from trioraft.cli.demo.lab import check, play_in_lab, read_lab
from trioraft.scenario import Scenario, ScenarioError, load, shipped_names
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.tiers import run_seed_of
from trioraft.testing import open_cluster, play

Player = Callable[[Scenario], None]
"""Raises what is wrong."""


def in_virtual_time(scenario: Scenario) -> None:
    trio.run(play, scenario, clock=MockClock(autojump_threshold=0))


def over_tcp(scenario: Scenario) -> None:
    trio.run(partial(play, scenario, opening=partial(open_cluster, network="tcp")))


def in_tier(tier: int, scenario: Scenario) -> None:
    options = RunOptions(scenario=scenario)
    failure = run_seed_of(tier, options)(0, options).failure
    if failure is not None:
        raise AssertionError(failure)


def in_lab(directories: list[Path], scenario: Scenario) -> None:
    sizes = {len(read_lab(directory)[1]): directory for directory in directories}
    directory = sizes.get(scenario.settings.nodes, directories[0])
    check(scenario, directory)
    trio.run(play_in_lab, scenario, directory, lambda _step, _at_s: None)


def verdict(player: Player, scenario: Scenario, reasons: list[str]) -> str:
    try:
        player(scenario)
    except ScenarioError as error:
        return str(error).partition(" needs ")[2].partition(", which")[0]
    except ConfigError:
        return "another size"
    except Exception as error:  # noqa: BLE001 - it is what is looked for, and told
        reasons.append(f"{scenario.name}: {error}")
        return "FAILED"
    return "ok"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.many_scenarios",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=shipped_names(), metavar="NAME")
    parser.add_argument("--lab", action="append", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    players: Mapping[str, Player] = {
        "virtual time": in_virtual_time,
        "sim, tier 1": partial(in_tier, 1),
        "sim, tier 2": partial(in_tier, 2),
        "over TCP": over_tcp,
        **({"laboratory": partial(in_lab, options.lab)} if options.lab else {}),
    }
    reasons: list[str] = []
    print(f"| scenario | {' | '.join(players)} |\n|{'---|' * (len(players) + 1)}")
    for name in options.only or shipped_names():
        scenario = load(name)
        row = [verdict(player, scenario, reasons) for player in players.values()]
        print(f"| `{name}` | {' | '.join(row)} |", flush=True)
    print(*reasons, sep="\n")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
