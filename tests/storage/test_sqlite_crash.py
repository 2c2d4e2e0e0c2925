"""kill -9 at any moment: what was acknowledged is there, in order, and nothing half done is."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.processes import Process, python
from tests.thorough import tries
from trioraft import Configuration, Entry
from trioraft.core.types import HardState
from trioraft.storage.sqlite import SQLiteStorage

from .crash_workload import entry, identity

ROUNDS = tries(6)


@attrs.define
class Model:
    """What a storage should hold."""

    term: int = 0
    base: int = 0
    snapshot: int = 0
    log: list[Entry] = attrs.field(factory=list)
    identity: bytes | None = None

    def after(self, step: dict[str, int]) -> Model:
        """What it holds when this was done."""
        if "snapshot" in step:
            index = step["snapshot"]
            log = self.log[index - self.base :]
            return Model(self.term, index, index, log, self.identity)
        log = list(self.log)
        if step["first"]:
            new = [entry(step["first"] + i, step["term"]) for i in range(step["count"])]
            log[step["first"] - self.base - 1 :] = new
        stored = identity(step["term"]) or self.identity
        return Model(step["term"], self.base, self.snapshot, log, stored)

    def half_after(self, step: dict[str, int]) -> Model:
        """A snapshot was written, and the log is not compacted yet."""
        snapshot = step.get("snapshot", self.snapshot)
        return Model(self.term, self.base, snapshot, self.log, self.identity)


@contextmanager
def workload() -> Iterator[Process]:
    """The process that forks the children."""
    with Process(python("tests.storage.crash_workload")) as process:
        yield process
        process.end_input()
        assert process.wait() == 0


def run_and_kill(
    workload: Process, path: Path, seed: int, steps: int, model: Model
) -> tuple[Model, dict[str, int] | None, int]:
    """One round. Returns what was acknowledged, what was under way, and how much was done."""
    workload.say(f"{seed} {path}\n".encode())
    pid = int(workload.next_line().removeprefix("pid "))
    under_way: dict[str, int] | None = None
    done = 0
    while (text := workload.next_line()) != "over":
        if text == "done":
            assert under_way is not None
            model, under_way = model.after(under_way), None
            done += 1
            if done == steps:
                os.kill(pid, signal.SIGKILL)
        else:
            under_way = json.loads(text)
    return model, under_way, done


def held(path: Path) -> Model:
    """What the storage holds; it is closed again."""
    storage = SQLiteStorage(path)
    recovered = storage.open(cluster_id="crash", node_id="0")
    assert recovered is not None
    if recovered.snapshot is not None:
        assert recovered.configuration == Configuration(("0",))
        assert len(b"".join(storage.read_snapshot(recovered.snapshot))) > 0
    storage.close()
    vote = str(recovered.hard_state.term)
    assert recovered.hard_state in (HardState(), HardState(recovered.hard_state.term, vote))
    return Model(
        recovered.hard_state.term,
        recovered.base_index,
        0 if recovered.snapshot is None else recovered.snapshot.index,
        list(recovered.entries),
        recovered.identity,
    )


def test_kill_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(7)
    path = tmp_path / "storage"
    model = Model()
    done_in_all = 0
    with workload() as process:
        for seed in range(ROUNDS):
            steps = rng.randint(1, 60)
            acknowledged, under_way, done = run_and_kill(process, path, seed, steps, model)
            assert done >= steps
            done_in_all += done
            shutil.copytree(path, tmp_path / "copy")
            found = held(tmp_path / "copy")  # the crashed one goes on as it is
            shutil.rmtree(tmp_path / "copy")
            allowed = [acknowledged]
            if under_way is not None:
                allowed += [acknowledged.after(under_way), acknowledged.half_after(under_way)]
            assert found in allowed, (
                f"round {seed}: found {len(found.log)} entries after {found.base} in term "
                f"{found.term}; acknowledged were {len(acknowledged.log)} after "
                f"{acknowledged.base} in term {acknowledged.term}; under way was {under_way}"
            )
            model = found
    assert done_in_all > 10 * ROUNDS
    assert model.base > 0
