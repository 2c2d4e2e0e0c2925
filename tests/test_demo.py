"""`trioraft demo`: the real command on pipes and terminals, and its picture on its own.

Rules of this file: real sockets and real time, since they are what is shown; nothing is asserted
about how long a step took, only that it was measured. Where neither a signal nor a stream nor a
change to the code is the subject, the command runs in this process.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import Result
from rich.cells import cell_len
from rich.console import Console

from benchmarks.processes import Process
from tests.serve import commands
from trioraft import Configuration, Role, Status
from trioraft.cli.demo.board import Board, Note, Step
from trioraft.cli.demo.report import verdict
from trioraft.cli.demo.story import step_names
from trioraft.cli.demo.views import LiveView, milliseconds
from trioraft.core import reasons
from trioraft.core.events import LogSummary, MessageReceived, MessageSent, RoleChanged
from trioraft.core.messages import AppendEntries, RequestVoteReply
from trioraft.core.reasons import Reason
from trioraft.logs.raftlog import ENTRY_RE, RUN_PREFIX, STATUS_RE
from trioraft.testing import Leak, LeakKind
from trioraft.viz.analysis import analyse_log

VERDICT = "leak check passed: 0 tasks, 0 threads, 0 descriptors left"
TIMEOUT_S = 60
DURATION = r"\d+(\.\d)? ms"


def environment(**more: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("LINES", "COLUMNS")}
    ours = {"NO_COLOR": "1", "PYTHONUTF8": "1", "PYTHONWARNINGS": "error::ResourceWarning"}
    return inherited | ours | more


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trioraft", "demo", *arguments]


def run_demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )


Here = Callable[..., Result]


@pytest.fixture
def demo_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """The same in this process, and in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LINES", raising=False)
    return partial(commands.run, "demo", env={"NO_COLOR": "1", "COLUMNS": "80"})


def run_code(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, with something changed before."""
    call = f"{code}\nimport sys\nfrom trioraft.cli import main\n"
    call += f"sys.argv = ['trioraft', 'demo', *{list(arguments)!r}]\nmain()\n"
    return subprocess.run(
        [sys.executable, "-c", call],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )


# --- on a pipe ------------------------------------------------------------------------------


@attrs.frozen
class Finished:
    """One run of the demo with its defaults, for all who ask something of it."""

    result: subprocess.CompletedProcess[str]
    directory: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    directory = tmp_path_factory.mktemp("demo")
    return Finished(run_demo("--seed", "1", cwd=directory), directory)


def test_three_nodes_elect_lose_their_leader_and_elect_again(finished: Finished) -> None:
    output = finished.result.stdout
    assert finished.result.returncode == 0
    assert finished.result.stderr == ""
    first = re.search(r"node (\d) leads term \d+: election won with \d votes", output)
    assert first is not None
    leader = first[1]
    assert f"== Disconnect {leader} ==" in output
    again = re.search(rf"node (?!{leader})(\d) leads term (\d+)", output)
    assert again is not None
    assert f"node {leader} steps down: quorum lost" in output
    assert f"== Reconnect {leader} ==" in output
    assert f"node {leader} follows node" in output
    assert len(re.findall(r"node \d is Dead: killed", output)) == 3


def test_the_table_says_how_long_each_step_took(finished: Finished) -> None:
    output = finished.result.stdout
    for step in step_names(3):
        assert re.search(rf"^{step} +{DURATION} +\S", output, re.MULTILINE), step
    assert re.search(r"^elect .* elected in term \d+ with \d votes", output, re.MULTILINE)


def test_the_end_has_totals_the_seed_the_log_and_the_verdict(finished: Finished) -> None:
    *_, totals, log, picture, leak_check = finished.result.stdout.splitlines()
    assert re.match(r"\d+ messages, \d+ terms, \d+\.\d s; .* --seed 1$", totals)
    assert log == "log: trioraft-demo.raftlog (raftlog)"
    assert picture == "picture: trioraft viz trioraft-demo.raftlog --open"
    assert leak_check == VERDICT


def test_the_log_of_a_healthy_cluster_has_no_findings_to_worry_about(finished: Finished) -> None:
    (run,) = analyse_log(finished.directory / "trioraft-demo.raftlog")
    assert run.status == "PASS"
    assert run.unparsed == 0
    assert [term.leader is not None for term in run.terms].count(True) >= 2
    assert len(run.statistics.failovers_ms) >= 1
    assert [finding for finding in run.findings if finding.severity == "error"] == []


def test_a_picture_is_drawn_where_it_is_wanted(demo_here: Here, tmp_path: Path) -> None:
    result = demo_here("--nodes", "1", "--seed", "1", "--viz", "pages")
    assert result.exit_code == 0, result.stderr
    assert "picture: pages/index.html" in result.stdout
    assert len(list((tmp_path / "pages").glob("*.html"))) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--viz", "file"), "not a directory"),
        (("--viz", "pages", "--log-format", "console"), "cannot be drawn"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_starts(
    arguments: tuple[str, ...], complaint: str, demo_here: Here, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = demo_here(*arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "trioraft-demo.raftlog").exists()


def test_plain_lines_are_in_order_of_time_and_without_control_codes(finished: Finished) -> None:
    output = finished.result.stdout
    times = [float(at) for at in re.findall(r"^ +(\d+\.\d{3}) s  ", output, re.MULTILINE)]
    assert times == sorted(times)
    assert len(times) > 10
    assert "\x1b" not in output


def test_the_log_is_a_raftlog(finished: Finished) -> None:
    header, *entries, status = (
        (finished.directory / "trioraft-demo.raftlog").read_text(encoding="utf-8").splitlines()
    )
    assert header == f"{RUN_PREFIX}   trioraft_demo"
    match = STATUS_RE.search(status)
    assert match is not None
    assert match.groups() == ("PASS", "trioraft_demo")
    parsed = [ENTRY_RE.fullmatch(line) for line in entries]
    assert all(parsed)
    said = [(match[2], match[3]) for match in parsed if match is not None]
    assert {who for who, _ in said} == {"0", "1", "2", "TEST"}
    assert [text.split()[0] for who, text in said if who == "TEST"] == [
        "Disconnect",
        "Reconnect",
        "Kill",
    ]
    assert any(text.startswith("becomes Leader; term=") for _, text in said)


def test_a_json_log_is_one_object_a_line(demo_here: Here, tmp_path: Path) -> None:
    result = demo_here("--log-format", "json", "--nodes", "2")
    assert result.exit_code == 0
    lines = (tmp_path / "trioraft-demo.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert "role_changed" in events
    assert [event.split()[0] for event in events if " " in event] == [
        "Disconnect",
        "Reconnect",
        "Kill",
    ]


def test_a_console_log_goes_where_it_is_told(demo_here: Here, tmp_path: Path) -> None:
    result = demo_here("--log-format", "console", "--log", "x.log", "--nodes", "1")
    assert result.exit_code == 0
    assert "log: x.log (console)" in result.stdout
    assert "becomes Leader" in (tmp_path / "x.log").read_text(encoding="utf-8")


def test_one_node_leads_itself(demo_here: Here) -> None:
    result = demo_here("--nodes", "1")
    assert result.exit_code == 0
    assert "node 0 elected in term 1 with 1 vote" in result.stdout
    assert "Disconnect" not in result.stdout
    assert VERDICT in result.stdout


def test_of_two_nodes_none_can_lead_alone_and_it_is_said(demo_here: Here, tmp_path: Path) -> None:
    result = demo_here("--nodes", "2")
    assert result.exit_code == 0
    assert "1 of 2 is no majority: nobody can be elected" in result.stdout
    assert re.search(r"^reconnect .* elected in term \d", result.stdout, re.MULTILINE)
    assert VERDICT in result.stdout


# --- when something goes wrong ----------------------------------------------------------------


def test_a_leak_is_reported_and_is_exit_code_1(tmp_path: Path) -> None:
    code = """
import trio
from trioraft.cli.demo.story import Story
tell = Story.run
async def run(self):
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
    await tell(self)
Story.run = run
"""
    result = run_code(code, "--nodes", "1", cwd=tmp_path)
    assert result.returncode == 1
    assert (
        "leak check FAILED: 0 tasks, 1 system task, 0 threads, 0 descriptors left" in result.stdout
    )
    assert "task: forgotten" in result.stdout
    log = (tmp_path / "trioraft-demo.raftlog").read_text(encoding="utf-8")
    assert "task: forgotten" in log
    assert "--- FAIL: trioraft_demo" in log


def test_nodes_that_do_not_elect_end_the_demo_with_the_reason(tmp_path: Path) -> None:
    code = "import trioraft.cli.demo.story\ntrioraft.cli.demo.story.WAIT_MAX_S = 0.01"
    result = run_code(code, cwd=tmp_path)
    assert result.returncode == 1
    assert "in vain for one leader that all connected nodes follow" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failing_log_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    code = """
from trioraft.logs.loggers import Raftlog
say = Raftlog.remark
def remark(self, node_id, text, **more):
    if "Kill" in text:
        raise OSError(28, "No space left on device")
    say(self, node_id, text, **more)
Raftlog.remark = remark
"""
    result = run_code(code, "--nodes", "1", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "trioraft demo: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=lambda x: str(x)
)
def test_a_signal_ends_the_demo_at_once_with_a_true_verdict(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    with Process(command(), directory=tmp_path, environment=environment()) as process:
        while "leads term" not in process.next_line():
            pass
        process.signal(number)
        rest = process.rest()
        assert process.wait() == exit_code
    assert f"interrupted by {number.name}" in rest
    assert VERDICT in rest
    assert "Kill all" not in rest
    log = (tmp_path / "trioraft-demo.raftlog").read_text(encoding="utf-8")
    assert "--- SKIP: trioraft_demo" in log


def test_a_reader_that_goes_away_ends_the_demo_quietly(tmp_path: Path) -> None:
    with Process(command(), directory=tmp_path, environment=environment()) as process:
        process.next_line()
        process.close_output()
        assert process.wait() == 141
    assert process.complaints() == ""


def test_a_closed_standard_output_is_no_reason_to_fail(tmp_path: Path) -> None:
    shell = 'exec "$@" >&-'
    result = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *command("--nodes", "1")],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "trioraft-demo.raftlog").exists()


# --- on a terminal ----------------------------------------------------------------------------


@contextmanager
def on_a_terminal(
    *arguments: str, cwd: Path, columns: int = 80, lines: int = 24
) -> Iterator[tuple[Process, Iterator[str]]]:
    """The command on a terminal of its own, and what it writes there, piece by piece."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with Process(
            command(*arguments),
            directory=cwd,
            environment=environment(TERM="xterm-256color"),
            terminal=theirs,
        ) as process:
            yield process, read_terminal(ours)
    finally:
        os.close(ours)


def read_terminal(descriptor: int) -> Iterator[str]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            return
        yield piece.decode("utf-8", errors="replace")


def read_until(pieces: Iterable[str], wanted: str) -> str:
    seen = ""
    for piece in pieces:
        seen += piece
        if wanted in seen:
            return seen
    raise AssertionError(f"{wanted!r} was not shown in: {seen}")


def test_the_live_view_shows_roles_in_words_and_leaves_only_the_report(tmp_path: Path) -> None:
    with on_a_terminal("--seed", "1", cwd=tmp_path) as (process, pieces):
        output = "".join(pieces)
        assert process.wait() == 0
    for shown in ("★ Leader", "● Follower", "✂ cut off", "✖ Dead", "election won with 2 votes"):
        assert shown in output, shown
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1  # the cursor is back
    last_frame, report = output.rsplit("✖ Dead", maxsplit=1)[1], output.rsplit("\x1b[?25h")[1]
    assert "\x1b[1A\x1b[2K" in last_frame  # the picture is wiped
    assert VERDICT in report


def test_ctrl_c_in_the_live_view_gives_the_terminal_back(tmp_path: Path) -> None:
    with on_a_terminal(cwd=tmp_path) as (process, pieces):
        read_until(pieces, "★ Leader")
        process.signal(signal.SIGINT)
        rest = read_until(pieces, "descriptors left")
        assert process.wait() == 130
    assert "\x1b[?25h" in rest
    assert "interrupted by SIGINT" in rest
    assert VERDICT in rest


# --- the board and its picture ----------------------------------------------------------------


@attrs.define
class FakeNode:
    """A node that only has a status."""

    id: str
    role: Role = Role.FOLLOWER
    term: int = 1
    leader_id: str | None = None
    reason: Reason = attrs.Factory(reasons.Started)

    @property
    def status(self) -> Status:
        return Status(
            self.id,
            self.role,
            self.term,
            self.leader_id,
            last_index=0,
            commit_index=0,
            applied_index=0,
            configuration=Configuration(("0", "1", "2")),
            progress={},
            last_role_change=self.reason,
        )


def became(
    role: Role, reason: Reason, *, previous: Role = Role.FOLLOWER, term: int = 1, at_s: float = 0.0
) -> RoleChanged:
    return RoleChanged(at_s, role, previous, term, LogSummary(1, 0, 0), reason)


@attrs.define
class Watched:
    """A board, and what it said."""

    notes: list[Note] = attrs.Factory(list)
    steps: list[Step] = attrs.Factory(list)

    def board(self, size: int = 3) -> Board:
        ids = [str(number) for number in range(size)]
        board = Board(ids, step_names(size), on_note=self.notes.append, on_step=self.steps.append)
        for node_id in ids:
            board.opened(FakeNode(node_id))
        return board

    def texts(self) -> list[str]:
        return [note.sentence() for note in self.notes]


async def test_the_board_says_who_voted_and_won() -> None:
    watched = Watched()
    board = watched.board()
    won = reasons.ElectionWon(2)
    board.apply("1", MessageSent(0.1, RequestVoteReply("1", "0", 1, vote_granted=True)))
    board.apply("2", MessageSent(0.1, RequestVoteReply("2", "0", 1, vote_granted=False)))
    board.apply("0", became(Role.LEADER, won, previous=Role.CANDIDATE))
    assert watched.texts() == [
        "node 1 votes for node 0 in term 1",
        "node 0 leads term 1: election won with 2 votes",
    ]
    assert board.messages == 2


async def test_the_board_says_once_whom_a_node_follows() -> None:
    watched = Watched()
    board = watched.board()
    heartbeat = AppendEntries("0", "1", 1, 0, 0, (), 0)
    board.apply("1", MessageReceived(0.1, heartbeat, 1, None, Role.FOLLOWER))
    board.apply("1", MessageReceived(0.2, heartbeat, 1, None, Role.FOLLOWER))
    assert watched.texts() == ["node 1 follows node 0 in term 1"]
    assert board.rows["1"].patience_since_s == 0.2


async def test_a_leader_of_the_past_is_no_heartbeat() -> None:
    watched = Watched()
    board = watched.board()
    before = board.rows["1"].patience_since_s
    heartbeat = AppendEntries("0", "1", 1, 0, 0, (), 0)
    board.apply("1", MessageReceived(before + 9, heartbeat, 2, None, Role.FOLLOWER))
    assert watched.texts() == []
    assert board.rows["1"].patience_since_s == before


async def test_asking_again_and_again_is_said_once() -> None:
    watched = Watched()
    board = watched.board()
    board.apply("0", became(Role.PRE_CANDIDATE, reasons.NoContact(0.2)))
    again = became(Role.PRE_CANDIDATE, reasons.NoWinner(0.2), previous=Role.PRE_CANDIDATE)
    board.apply("0", again)
    board.apply("0", again)
    assert watched.texts() == ["node 0 asks whether it could win: no contact for 200 ms"]


async def test_the_one_who_is_cut_off_is_not_the_one_who_notices() -> None:
    board = Watched().board()
    board.rows["0"].is_cut = True
    asks = became(Role.PRE_CANDIDATE, reasons.NoContact(0.2), at_s=5.0)
    board.apply("0", asks)
    assert board.first_to_ask(since_s=4.0) is None
    board.apply("1", asks)
    assert board.first_to_ask(since_s=4.0) == ("1", 5.0)
    assert board.first_to_ask(since_s=6.0) is None


async def test_elected_is_only_whom_all_connected_nodes_follow() -> None:
    board = Watched().board()
    leader = FakeNode("0", Role.LEADER, leader_id="0", reason=reasons.ElectionWon(2))
    follower, other = FakeNode("1", leader_id="0"), FakeNode("2", term=0)
    for node in (leader, follower, other):
        board.opened(node)
    assert board.elected() is None
    board.rows["2"].is_cut = True
    elected = board.elected()
    assert elected is not None
    assert (elected.leader_id, elected.term, elected.votes) == ("0", 1, 2)


def a_board_full_of_news(size: int) -> Board:
    board = Watched().board(size)
    board.begin("disconnect" if size > 1 else "elect", "Now something happens. " * 6)
    board.steps[0].finish(0.02, "nothing to be said of that " * 5)
    for number in range(20):
        board.say(f"News {number} " + "and so on " * 12)
    leader = FakeNode("0", Role.LEADER, 12, "0", reasons.ElectionWon(2))
    board.opened(leader)
    board.rows["0"].is_cut = True
    return board


def picture(view: LiveView, console: Console, board: Board) -> list[str]:
    with console.capture() as captured:
        console.print(view.frame(board, trio.current_time()), end="")
    return captured.get().splitlines()


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize(
    ("columns", "lines"), [(120, 40), (80, 24), (60, 20), (40, 16), (30, 18), (80, 13)]
)
async def test_the_picture_is_no_larger_than_the_terminal(
    columns: int, lines: int, size: int
) -> None:
    console = Console(file=StringIO(), width=columns, height=lines, force_terminal=True)
    shown = picture(
        LiveView(console, "trioraft demo: a title"), console, a_board_full_of_news(size)
    )
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown]
    assert len(plain) <= lines
    assert max(cell_len(line) for line in plain) <= columns
    assert any("★ Leader" in line and "✂ cut off" in line for line in plain)


async def test_without_unicode_the_picture_has_the_same_words() -> None:
    file = TextIOWrapper(BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, height=24, force_terminal=True, color_system=None)
    shown = picture(LiveView(console, "trioraft demo"), console, a_board_full_of_news(3))
    text = "\n".join(shown)
    assert text.isascii()
    assert "* Leader" in text
    assert "x cut off" in text


@pytest.mark.parametrize(
    ("took_s", "text"),
    [(None, "-"), (0.00234, "2.3 ms"), (0.0101, "10 ms"), (0.2123, "212 ms"), (1.5, "1500 ms")],
)
def test_durations(took_s: float | None, text: str) -> None:
    assert milliseconds(took_s) == text


def test_the_verdict_counts_by_kind() -> None:
    leaks = (
        Leak(LeakKind.TASK, "a"),
        Leak(LeakKind.TASK, "b"),
        Leak(LeakKind.DESCRIPTOR, "c"),
        Leak(LeakKind.CHANNEL, "d"),
    )
    assert verdict(leaks) == "2 tasks, 0 threads, 1 descriptor, 1 memory channel left"
