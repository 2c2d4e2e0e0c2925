"""What is still ending by itself is no leak, whatever the machine is busy with.

Rules of this file: a busy machine is one whose pauses take longer than they were asked to.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from typing import Any

import pytest
from trioleaks.recorder import Recorder
from trioleaks.runs import TurnOwnership

from trioleaks import LeakKind

GRACE_S = 0.15
SLOWER = 6  # times that a pause is longer than it was asked to be


@pytest.fixture
def recorder() -> Any:
    found = Recorder(TurnOwnership("test"))
    found.note("test")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.sleep
    monkeypatch.setattr("trioleaks.recorder.time.sleep", lambda for_s: real(SLOWER * for_s))


def left(recorder: Recorder) -> list[LeakKind]:
    found = recorder.left_of_process(("test",), lambda _: False, GRACE_S)
    return [each.leak.kind for each in found]


@pytest.mark.usefixtures("_busy")
def test_a_thread_that_waits_is_told_at_the_same_time_on_a_busy_machine(recorder: Recorder) -> None:
    thread = threading.Thread(target=threading.Event().wait, args=(3 * GRACE_S,))
    thread.start()
    assert left(recorder) == [LeakKind.THREAD]
    thread.join()


@pytest.mark.usefixtures("_busy")
def test_a_thread_that_gets_on_has_its_grace_in_pauses(recorder: Recorder) -> None:
    ends_at = time.monotonic() + 2 * GRACE_S

    def get_on() -> None:
        while time.monotonic() < ends_at:
            for step in (_one_step, _another_step):
                step()

    thread = threading.Thread(target=get_on)
    thread.start()
    assert left(recorder) == []
    thread.join()


def _one_step() -> None:
    threading.Event().wait(0.011)


def _another_step() -> None:
    threading.Event().wait(0.017)


def test_a_socket_that_garbage_closes_is_told_whatever_else_was_garbage(recorder: Recorder) -> None:
    class Holder:
        def __init__(self) -> None:
            # The C class: nobody sees it being made, so that nothing keeps it while it is judged.
            self.me, self.socket = self, socket.SocketType()
            self.pipe = [os.fdopen(end) for end in os.pipe()]

    gc.disable()
    try:
        Holder()
        with pytest.warns(ResourceWarning):
            assert left(recorder) == [LeakKind.SOCKET]  # the pipe is closed by now
    finally:
        gc.enable()
