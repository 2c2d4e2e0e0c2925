"""kill -9 while several groups write at once: each has what it was promised, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import attrs

from benchmarks.processes import Process, python
from tests.thorough import tries
from trioraft import Configuration, Entry, SharedLog
from trioraft.core.types import HardState

from .shared_crash_workload import GROUPS, entry, identity

ROUNDS = tries(6)


@attrs.frozen
class Model:
    """What a group should hold."""

    group: str
    term: int = 0
    base: int = 0
    snapshot: int = 0
    log: tuple[Entry, ...] = ()
    identity: bytes | None = None

    def after(self, step: Mapping[str, int]) -> Model:
        """What it holds when this was done."""
        if "snapshot" in step:
            index = step["snapshot"]
            log = self.log[index - self.base :]
            return attrs.evolve(self, base=index, snapshot=index, log=log)
        log, term, first = self.log, step["term"], step["first"]
        if first:
            new = tuple(entry(self.group, first + i, term) for i in range(step["count"]))
            log = (*log[: first - self.base - 1], *new)
        stored = identity(self.group, term) or self.identity
        return attrs.evolve(self, term=term, log=log, identity=stored)

    def half_after(self, step: Mapping[str, int]) -> Model:
        """A snapshot was written, and the log is not compacted yet."""
        return attrs.evolve(self, snapshot=step.get("snapshot", self.snapshot))


def run_and_kill(
    workload: Process, path: Path, seed: int, steps: int, models: dict[str, Model]
) -> tuple[dict[str, Model], dict[str, Mapping[str, int]], int]:
    """One round. Returns what was acknowledged, what was under way, and how much was done."""
    workload.say(f"{seed} {path}\n".encode())
    pid = int(workload.next_line().removeprefix("pid "))
    acknowledged = dict(models)
    under_way: dict[str, Mapping[str, int]] = {}
    done = 0
    while (line := workload.next_line()) != "over":
        if line == "open":
            continue
        group, text = line.split(maxsplit=1)
        if text == "done":
            acknowledged[group] = acknowledged[group].after(under_way.pop(group))
            done += 1
            if done == steps:
                os.kill(pid, signal.SIGKILL)
        else:
            under_way[group] = json.loads(text)
    return acknowledged, under_way, done


def held(path: Path) -> dict[str, Model]:
    """What the groups hold; all is closed again."""
    shared = SharedLog(path)
    shared.open(cluster_id="crash", node_id="0")
    assert shared.notices == ()
    found: dict[str, Model] = {}
    for group in GROUPS:
        storage = shared.storage_of(group)
        recovered = storage.open(cluster_id="crash", node_id="0")
        assert recovered is not None
        term = recovered.hard_state.term
        assert recovered.hard_state in (HardState(), HardState(term, f"{group}{term}"))
        snapshot = recovered.snapshot
        if snapshot is not None:
            assert recovered.configuration == Configuration(("0",))
            content = b"".join(storage.read_snapshot(snapshot))
            assert content == f"{group} {snapshot.index} ".encode() * 10_000
        found[group] = Model(
            group,
            term,
            recovered.base_index,
            0 if snapshot is None else snapshot.index,
            recovered.entries,
            recovered.identity,
        )
    shared.close()
    return found


def test_kill_while_all_groups_write(tmp_path: Path) -> None:
    rng = random.Random(11)
    path = tmp_path / "shared"
    models = {group: Model(group) for group in GROUPS}
    done_in_all = 0
    with Process(python("tests.storage.shared_crash_workload")) as process:
        for seed in range(ROUNDS):
            steps = rng.randint(4, 150)
            acknowledged, under_way, done = run_and_kill(process, path, seed, steps, models)
            assert done >= steps
            done_in_all += done
            shutil.copytree(path, tmp_path / "copy")
            found = held(tmp_path / "copy")  # the crashed one goes on as it is
            shutil.rmtree(tmp_path / "copy")
            for group in GROUPS:
                allowed = [acknowledged[group]]
                if group in under_way:
                    step = under_way[group]
                    allowed += [allowed[0].after(step), allowed[0].half_after(step)]
                here = found[group]
                assert here in allowed, (
                    f"round {seed}, group {group}: found {len(here.log)} entries after "
                    f"{here.base} in term {here.term}; acknowledged were "
                    f"{len(allowed[0].log)} after {allowed[0].base} in term {allowed[0].term}; "
                    f"under way was {under_way.get(group)}"
                )
            models = found
        process.end_input()
        assert process.wait() == 0
    assert done_in_all > 10 * ROUNDS
    assert any(model.base > 0 for model in models.values())
