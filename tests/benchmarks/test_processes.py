"""The harness that starts every other process of tests and benchmarks keeps its own rules."""

from __future__ import annotations

import os
import select
import signal
import sys

import pytest
import trio
import trio.testing

from benchmarks.processes import Process, ProcessError, open_nodes, patience, process
from benchmarks.processes.pipe import Bound

CHATTY = "import sys; print('one'); print('two', flush=True); sys.stdin.read(); print('end')"
COMPLAINING = "import sys; print('half', end='', flush=True); sys.exit('it is too cold')"
SLEEPING = "import time; print('up', flush=True); time.sleep(600)"


def python_code(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def is_gone(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(20_000))


def test_it_is_heard_line_by_line_until_its_input_ends() -> None:
    with Process(python_code(CHATTY)) as chatty:
        assert [chatty.next_line() for _ in range(2)] == ["one", "two"]
        assert chatty.is_running
        chatty.end_input()
        assert chatty.rest() == "end\n"
        assert chatty.wait() == 0
    assert not chatty.is_running


def test_half_a_line_is_none_and_its_complaint_is_quoted() -> None:
    with (
        Process(python_code(COMPLAINING), name="it") as complaining,
        pytest.raises(ProcessError, match=r"it said only b'half', and no line:\nit is too cold"),
    ):
        complaining.next_line()
    assert complaining.code == 1


def test_every_wait_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with Process(python_code(SLEEPING), name="it") as sleeping:
        assert sleeping.next_line() == "up"
        monkeypatch.setattr(process, "PATIENCE_S", 0.05)
        with pytest.raises(ProcessError, match=r"it said nothing more for 0\.05 s"):
            sleeping.next_line()
        with pytest.raises(ProcessError, match=r"it has not ended within 0\.05 s"):
            sleeping.wait()
        monkeypatch.undo()
    assert sleeping.code == -signal.SIGKILL


async def test_a_wait_in_trio_says_for_what(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ProcessError, match=r"waited 60 s for Godot"), patience("Godot"):
        await trio.sleep_forever()


def test_a_failure_beside_it_quotes_its_complaints() -> None:
    with pytest.raises(AssertionError) as caught, Process(python_code(COMPLAINING)) as complaining:
        assert complaining.rest() == "something else"
    assert caught.value.__notes__ == ["the process complained last:\nit is too cold"]


def test_whoever_ignores_ctrl_c_does_not_pass_that_on() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Process(python_code(SLEEPING)) as sleeping:
            assert sleeping.next_line() == "up"
            sleeping.signal(signal.SIGINT)
            assert sleeping.wait() != 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert "KeyboardInterrupt" in sleeping.complaints()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="to await another's child takes a pidfd")
def test_what_a_killed_one_started_is_killed_with_it() -> None:
    code = "import subprocess as s, sys; print(s.Popen(sys.argv[1:]).pid, flush=True); input()"
    with Process((*python_code(code), *python_code("import time; time.sleep(600)"))) as parent:
        pidfd = os.pidfd_open(int(parent.next_line()))
    assert is_gone(pidfd)
    os.close(pidfd)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="to await another's child takes a pidfd")
def test_a_guarded_one_does_not_outlive_us_though_we_are_killed() -> None:
    us = f"""
from benchmarks.processes import Process
sleeping = Process({python_code(SLEEPING)!r}, is_guarded=True)
print(sleeping.next_line(), sleeping.pid, flush=True)
input()
"""
    with Process(python_code(us)) as killed:
        up, pid = killed.next_line().split()
        assert up == "up"
        pidfd = os.pidfd_open(int(pid))
        os.kill(killed.pid, signal.SIGKILL)  # not its session, in which its child is not anyway
        assert is_gone(pidfd)
    os.close(pidfd)


async def test_a_node_that_ends_by_itself_is_told_with_its_last_words() -> None:
    def decode(line: bytes) -> object:
        pytest.fail(f"who cannot start says nothing, but {line!r}")

    module = "tests.benchmarks.there_is_no_such_module"
    with pytest.raises(ProcessError, match=r"node 0 ended with exit code 1:[\s\S]*No module named"):
        async with open_nodes(module, ("0",), lambda _id, *, port: Bound(port), decode):
            await trio.sleep_forever()
