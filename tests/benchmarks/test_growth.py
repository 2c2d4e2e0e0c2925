"""benchmarks.growth: what a proposal costs while something grows, and what is told of it.

Rules of this file: what is told is tested with figures of our own. Each thing is made to grow once,
by a little, for real; nothing here asserts a speed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.commands import EXIT_INTERRUPTED, EXIT_USAGE
from benchmarks.growth import command, rigs
from benchmarks.growth.cases import CURVES, Point
from benchmarks.growth.report import (
    BEGIN,
    END,
    markdown,
    ratio,
    save_plot,
    steep,
    updated,
    weight_bytes,
)
from benchmarks.processes import Process, python
from trioraft import Status
from trioraft.kv.machine import KvMachine
from trioraft.structures import Lock

BY_KEY = {curve.key: curve for curve in CURVES}
PAGE = Path(__file__).parents[2] / "docs/benchmarks.md"


def point_of(key: str, number: int, count: int, cpu_us: float, p50_ms: float = 1.0) -> Point:
    return Point(key, number, count, cpu_us, p50_ms, grown=count, grown_bytes=200 * count)


POINTS = [
    *(point_of("sessions", n, 0, cpu_us) for n, cpu_us in enumerate((100.0, 200.0, 400.0))),
    *(point_of("sessions", n, 1000, cpu_us) for n, cpu_us in enumerate((110.0, 300.0, 800.0))),
    point_of("status", 0, 0, 100.0, p50_ms=2.0),
    point_of("status", 0, 200, 900.0, p50_ms=2.1),
    point_of("members", 0, 3, 100.0),
    point_of("members", 0, 9, 300.0),
]


# -- what is told ------------------------------------------------------------------------------


def test_a_ratio_is_to_none_of_the_same_round() -> None:
    assert ratio(POINTS, BY_KEY["sessions"], 1000) == pytest.approx(1.5)
    assert ratio(POINTS, BY_KEY["sessions"], 0) == 1
    assert ratio([point_of("sessions", 0, 10, 1.0)], BY_KEY["sessions"], 10) is None


def test_what_should_be_flat_and_is_not_is_told() -> None:
    assert steep(POINTS) == ["1,000 sessions: 1.50 times the CPU of none"]
    slow = [*POINTS, point_of("status", 1, 0, 1.0, 2.0), point_of("status", 1, 200, 1.0, 3.0)]
    assert "1.27 times the p50 of none" in steep(slow)[1]


def test_a_weight_is_that_of_the_largest_step() -> None:
    small = [Point("sessions", n, 10, 1.0, 1.0, grown=10, grown_bytes=10**6) for n in range(9)]
    points = [*POINTS, *small]
    assert weight_bytes(points, BY_KEY["sessions"]) == 200
    assert weight_bytes(points, BY_KEY["members"]) is None
    few = [Point("sessions", 0, 10, 1.0, 1.0, grown=10, grown_bytes=10**6)]
    assert weight_bytes(few, BY_KEY["sessions"]) is None, "a page more or less is too much to tell"


def test_one_table_and_one_picture_have_all_curves(tmp_path: Path) -> None:
    text = markdown(POINTS, 0.4)
    assert "Load average of the machine meanwhile: up to 0.4." in text
    assert "| sessions | 0 | 200 |  | 1.00 |" in text
    assert "|  | 1,000 | 300 | 1.50 | 1.00 |" in text
    assert "| members of the cluster | 3 | 100 |  | 1.00 |" in text
    assert "| session | 200 |" in text
    save_plot(POINTS, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_a_page_is_changed_between_its_marks_only() -> None:
    assert updated(f"a\n{BEGIN}\nold\n{END}\nz\n", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nz\n"
    with pytest.raises(ValueError, match="give a file"):
        updated("no marks", "new")
    updated(PAGE.read_text(encoding="utf-8"), "new")


# -- what grows --------------------------------------------------------------------------------


async def test_as_many_wait_as_are_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def never(_status: Status) -> bool:
        nonlocal asked
        asked += 1
        return False

    monkeypatch.setattr(rigs, "never", never)
    async with rigs.waiters() as rig:
        for count in (7, 11):
            await rig.grow(count)
            asked = 0
            await rig.propose()
            assert asked >= count
            assert asked % count == 0, "so few are all asked whenever one is"
        assert (await rigs.cost(rig.propose, 0.01)).cpu_us > 0


async def test_watches_and_keys_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machines, watched = list[KvMachine](), set[bytes]()
    watch = KvMachine.watch

    def made() -> KvMachine:
        machines.append(KvMachine())
        return machines[-1]

    def noted(machine: KvMachine, data: bytes) -> object:
        watched.add(data)
        return watch(machine, data)

    monkeypatch.setattr(rigs, "KvMachine", made)
    monkeypatch.setattr(KvMachine, "watch", noted)
    async with rigs.watches("prefix") as rig:
        await rig.grow(5)
        await rig.propose()
        assert len(watched) == 5
        assert machines[-1].keys_count == 1
    async with rigs.keys() as rig:
        await rig.grow(2500)
        await rig.propose()
        assert machines[-1].keys_count == 2501


async def test_everybody_but_the_holder_waits_in_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locks = list[Lock]()

    def made() -> Lock:
        locks.append(Lock())
        return locks[-1]

    monkeypatch.setattr(rigs, "Lock", made)
    async with rigs.queue() as rig:
        await rig.grow(6)
        assert len(locks[-1].waiting) == 5
        await rig.propose()


def test_every_curve_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plot = tmp_path / "growth.json", tmp_path / "growth.png"
    arguments = ["--rounds", "1", "--seconds", "0.03", "--most", "1"]
    arguments += ["--json", str(file), "--plot", str(plot)]
    assert command.main(arguments) == 0, capsys.readouterr().err
    points = json.loads(file.read_text(encoding="utf-8"))["points"]
    for curve in CURVES:
        counts = [point["count"] for point in points if point["curve"] == curve.key]
        assert counts == [count for count in curve.counts if count <= 1]
    assert all(point["p50_ms"] > 0 for point in points)
    assert "what grows" in capsys.readouterr().out


def test_ctrl_c_delivers_what_there_is_and_leaves_nothing(tmp_path: Path) -> None:
    file, folder = tmp_path / "growth.json", tmp_path / "temporary"
    folder.mkdir()
    options = ["--only", "waiters", "status", "--rounds", "1000", "--seconds", "0.02"]
    with Process(
        python("benchmarks.growth", *options, "--json", str(file)),
        joins_errors=True,
        environment=os.environ | {"TMPDIR": str(folder)},
    ) as process:
        process.next_line()
        while not any(path.is_dir() for path in folder.glob("growth-*/0")):
            time.sleep(0.01)  # the server of the next curve has a directory
        process.signal(signal.SIGINT)
        process.rest()
        assert process.wait() == EXIT_INTERRUPTED
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["interrupted"]
    assert len(written["points"]) >= 5
    assert not list(folder.glob("growth-*"))


def test_a_page_is_brought_up_to_date_from_a_file(tmp_path: Path) -> None:
    file, page = tmp_path / "g.json", tmp_path / "g.md"
    content = command.document(POINTS, 1.0, 0.4, interrupted=False)
    file.write_text(json.dumps(content), encoding="utf-8")
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    assert command.main(["--from", str(file), "--update", str(page)]) == 0
    assert "| sessions | 0 |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "nothing"],
        ["--from", "/nowhere/at/all.json"],
        ["--rounds", "0"],
        ["--json", "/nowhere/at/all.json"],
    ],
)
def test_what_cannot_work_is_said_before_anything_is_measured(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == EXIT_USAGE
