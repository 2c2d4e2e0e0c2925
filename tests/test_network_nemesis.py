"""What `python -m tests.network_nemesis` stands on: the switch, what it says of a row, and where it
is skipped. Of the rows themselves one runs here, for a second, where namespaces are allowed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks.processes import Process, python
from tests.network_nemesis import __main__ as nemesis
from tests.network_nemesis import lab
from tests.network_nemesis.measuring import Big, Result
from tests.network_nemesis.rows import ROWS, TIMINGS, Row, nothing
from tests.network_nemesis.switch import (
    FLOWS_MAX,
    HEADER_BYTES,
    MAC_PREFIX,
    QUEUE_BYTES,
    Forget,
    Heal,
    Line,
    SetLine,
    SetRate,
    Switch,
)

SYN, ACK = 0x02, 0x10
EVERYONE = b"\xff" * 6


def frame(
    source: int, target: int, size_bytes: int = 100, *, port: int = 1, flags: int = ACK
) -> bytes:
    """A TCP segment from one port of the switch to another."""
    macs = MAC_PREFIX + bytes((target,)) + MAC_PREFIX + bytes((source,))
    ip = bytearray(20)
    ip[9] = 6
    ip[12:20] = bytes((10, 77, 0, source, 10, 77, 0, target))
    tcp = struct.pack("!HHIIBB", port, 7000, 0, 0, 0, flags)
    head = macs + b"\x08\x00" + bytes(ip) + tcp
    return head + bytes(size_bytes - len(head))


def back(source: int, target: int, *, port: int = 1) -> bytes:
    """The other direction of the same connection."""
    there = bytearray(frame(source, target))
    there[34:38] = struct.pack("!HH", 7000, port)
    return bytes(there)


class Played:
    """A switch, and the time."""

    def __init__(self, size: int = 3) -> None:
        self.switch = Switch(size, random.Random(0))
        self.now_s = 100.0

    def out(self, source: int, *frames: bytes) -> list[tuple[int, bytes]]:
        """What leaves at once."""
        for each in frames:
            self.switch.take(source, each, self.now_s)
        return list(self.switch.due(self.now_s))

    def after(self, seconds: float) -> list[tuple[int, bytes]]:
        """What leaves until then."""
        self.now_s += seconds
        return list(self.switch.due(self.now_s))


# -- the switch ----------------------------------------------------------------------------


def test_a_frame_leaves_where_its_address_is_or_everywhere() -> None:
    played = Played()
    assert played.out(0, frame(0, 2)) == [(2, frame(0, 2))]
    to_all = EVERYONE + frame(0, 2)[6:]
    assert played.out(1, to_all) == [(0, to_all), (2, to_all)]
    assert played.out(0, frame(0, 7)) == [], "nobody is there"


def test_a_cut_is_of_one_direction() -> None:
    played = Played()
    played.switch.obey(SetLine((0,), (1,), Line(is_cut=True)))
    assert played.out(0, frame(0, 1)) == []
    assert played.out(1, frame(1, 0)) == [(0, frame(1, 0))]
    assert played.out(0, frame(0, 2)) == [(2, frame(0, 2))]
    played.switch.obey(Heal())
    assert played.out(0, frame(0, 1)) == [(1, frame(0, 1))]


def test_so_much_is_lost() -> None:
    played = Played()
    played.switch.obey(SetLine((0,), (1,), Line(loss=0.1)))
    assert 850 < len(played.out(0, *[frame(0, 1)] * 1000)) < 950


def test_a_delay_keeps_the_order_even_if_it_varies() -> None:
    played = Played()
    played.switch.obey(SetLine((0,), (1,), Line(delay_s=0.05, jitter_s=0.05)))
    frames = [frame(0, 1, 100 + number) for number in range(50)]
    came = played.out(0, *frames)
    assert len(came) < len(frames)
    assert [each for _, each in came + played.after(0.1)] == frames


def test_frames_overtake_each_other_where_order_is_not_kept() -> None:
    played = Played()
    line = Line(delay_s=0.05, jitter_s=0.05, keeps_order=False)
    played.switch.obey(SetLine((0,), (1,), line))
    frames = [frame(0, 1, 100 + number) for number in range(50)]
    came = [each for _, each in played.out(0, *frames) + played.after(0.1)]
    assert came != frames
    assert sorted(came) == sorted(frames)


def test_what_leaves_a_port_shares_its_rate() -> None:
    played = Played()
    played.switch.obey(SetRate((0,), 1e6))
    played.out(0, *[frame(0, 1 + number % 2, 1250) for number in range(50)])
    assert len(played.after(0.1001)) == 10, "12,500 bytes in a tenth of a second"
    assert len(played.after(0.2)) == 20
    assert played.out(1, frame(1, 0)), "the others have a rate of their own"


def test_what_waits_for_a_rate_is_bounded_and_the_last_is_dropped() -> None:
    played = Played()
    played.switch.obey(SetRate((0,), 1e6))
    played.out(0, *[frame(0, 1, 1024) for _ in range(1000)])
    assert len(played.after(60)) == pytest.approx(QUEUE_BYTES / 1024, abs=2)


def test_a_black_hole_takes_what_is_large() -> None:
    played = Played()
    played.switch.obey(SetLine((0,), (1,), Line(packet_bytes_max=1000)))
    small, large = frame(0, 1, 1000 + HEADER_BYTES), frame(0, 1, 1001 + HEADER_BYTES)
    assert played.out(0, small, large) == [(1, small)]


def test_a_firewall_that_forgot_passes_new_connections_only() -> None:
    played = Played()
    played.out(0, frame(0, 1, flags=SYN))
    played.out(1, back(1, 0))
    played.switch.obey(Forget((0, 1)))
    assert played.out(0, frame(0, 1)) == []
    assert played.out(1, back(1, 0)) == []
    assert len(played.out(0, frame(0, 1, port=2, flags=SYN), frame(0, 1, port=2))) == 2
    assert len(played.out(0, frame(0, 2))) == 1, "the firewall is not between these"
    played.switch.obey(Heal())
    assert played.out(0, frame(0, 1)) == [], "it does not remember"


def test_a_connection_that_begins_anew_at_the_same_ports_is_new() -> None:
    played = Played()
    played.out(0, frame(0, 1))
    played.out(1, back(1, 0))
    played.switch.obey(Forget((0, 1)))
    assert len(played.out(0, frame(0, 1, flags=SYN), frame(0, 1))) == 2
    assert len(played.out(1, back(1, 0))) == 1


def test_a_firewall_knows_so_many_connections() -> None:
    played = Played()
    played.out(0, *[frame(0, 1, port=port) for port in range(FLOWS_MAX + 1)])
    played.switch.obey(Forget((0, 1)))
    assert len(played.out(0, *[frame(0, 1, port=port) for port in range(FLOWS_MAX + 1)])) == 1


# -- rows and results ----------------------------------------------------------------------

WELL = Result(
    row=Row("cuts", "nothing", nothing),
    cluster="trioraft",
    seconds=10.0,
    writes_s=100.0,
    gap_s=0.1,
    gap_at_s=3.0,
    elections=0,
    terms=0,
    healed_s=0.01,
    caught_up_s=0.2,
    big=(),
    load=1.0,
)


def result(row: dict[str, Any] | None = None, **changes: Any) -> Result:
    return attrs.evolve(WELL, row=attrs.evolve(WELL.row, **(row or {})), **changes)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (result({"gap_s_max": 1.5}, gap_s=2.0), "no write for 2.0 s, at most 1.5 s are wanted"),
        (result({"healed_s_max": 1.5}, healed_s=2.0), "the first write 2.0 s after healing"),
        (result({"elections_max": 2}, elections=3), "3 elections, at most 2 are wanted"),
        (result(healed_s=None), "not as before 30 s after healing"),
        (result(caught_up_s=None), "not as before 30 s after healing"),
        (result({"writes_all": True}), "no large value was written"),
        (
            result({"writes_all": True}, big=(Big(1.0, True), Big(20.0, False))),
            "1 of 2 large values were not written",
        ),
    ],
)
def test_a_row_says_what_is_not_as_it_should_be(found: Result, problem: str) -> None:
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_a_row_that_went_well_says_nothing() -> None:
    bounds = {"gap_s_max": 1.5, "healed_s_max": 1.5, "elections_max": 2, "writes_all": True}
    assert result(bounds, big=(Big(1.0, True),)).problems == []


def test_rows_have_a_name_of_their_own_and_a_timing_that_there_is() -> None:
    names = [(row.name, row.timing) for row in ROWS]
    assert len(set(names)) == len(names)
    assert {row.timing for row in ROWS} == set(TIMINGS)


def test_the_table_has_a_line_a_fault_and_a_part_a_cluster() -> None:
    other = Row("cuts", "something", nothing)
    etcd = attrs.evolve(WELL, cluster="etcd", gap_s=0.7)
    lines = nemesis.markdown([WELL, attrs.evolve(WELL, row=other), etcd]).splitlines()
    assert len(lines) == 2 + 2
    assert {line.count("|") for line in lines} == {2 * len(nemesis.COLUMNS) + 2}
    assert lines[2].startswith("| nothing | 100 | 0.1 s | 0 |")
    assert "| 0.7 s |" in lines[2]
    assert lines[3].endswith("|  |  |  |  |  |"), "etcd was not tried"
    assert "gap  0.10 s" in nemesis.plain(WELL)


def test_rows_are_chosen_by_group_or_by_a_part_of_their_name() -> None:
    assert {row.group for row in nemesis.chosen_rows(["narrow"])} == {"narrow"}
    assert [row.name for row in nemesis.chosen_rows(["leader frozen"])] == ["leader frozen"]
    assert nemesis.chosen_rows([]) == list(ROWS)


@pytest.mark.parametrize("words", [["--only", "nothing of the kind"], ["--seconds", "0"]])
def test_what_makes_no_sense_is_a_mistake(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        nemesis.main(words)
    assert exit_info.value.code == 2


# -- where it is skipped, and how it ends --------------------------------------------------


def no_program(_: str) -> None:
    return None


def test_it_is_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", no_program)
    assert nemesis.main(["--only", "nothing"]) == 0
    said = capsys.readouterr().out
    assert said == "network nemesis skipped: there is no `ip` here: install iproute2\n"


def test_a_refusal_of_the_kernel_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ["sh", "-c", "echo Operation not permitted >&2; exit 1"]
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(lab, "command", lambda _: refused)
    assert lab.why_not() == "namespaces are not allowed here (Operation not permitted)"


def test_there_are_no_namespaces_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lab.why_not() == "network namespaces are Linux's, and this is darwin"


@pytest.fixture(scope="module")
def namespaces() -> None:
    if (reason := lab.why_not()) is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("namespaces")
def test_a_row_from_its_beginning_to_its_end() -> None:
    words = (
        "--only",
        "nothing",
        "--who",
        "trioraft",
        "--seconds",
        "1",
        "--markdown",
        "--seed",
        "7",
    )
    with Process(python("tests.network_nemesis", *words), joins_errors=True) as process:
        said = process.rest()
        assert "linearizable" in said, said
        assert "| nothing |" in said
        assert process.wait() in (0, 1), said  # a busy machine may be slower than is wanted


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    words = ("--only", "nothing", "--who", "trioraft", "--keep", str(tmp_path))
    with Process(python("tests.network_nemesis", *words), joins_errors=True) as process:
        while "==" not in process.next_line():
            pass
        assert processes_of(tmp_path)
        process.signal(number)
        process.rest()  # ends when the last of them has closed its output
        assert process.wait() == (-number if number is signal.SIGKILL else nemesis.EXIT_INTERRUPTED)
        assert processes_of(tmp_path) == []


def processes_of(directory: Path) -> list[int]:
    """Whoever has this directory on its command line, but for the first of them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        is_inside = b"unshare" not in words[0] and nemesis.INSIDE.encode() in words
        if is_inside and os.fsencode(directory) in words:
            found.append(int(entry.name))
    return found
