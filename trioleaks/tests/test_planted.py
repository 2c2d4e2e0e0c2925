"""Every kind of leak, planted, is found: with its name, the line that started it, and where it is.

Rules of this file: leaks are planted in a Trio run of their own, so that the check that watches
over this project's tests sees none of them; each test cleans up what it planted.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trioleaks.taps import tapped_of

from trioleaks import Leak, LeakError, LeakKind, no_leaks

HERE = "trioleaks/tests/test_planted.py"

pytestmark = pytest.mark.leaks("off")  # its leaks are planted

Body = Callable[[trio.Nursery], Awaitable[object]]


@attrs.define
class Caught:
    """What the check said of a body, and how long the check took."""

    leaks: tuple[Leak, ...] = ()
    report: str = ""
    took_s: float = 0.0
    virtual_s: float = 0.0
    kept: object = None


def check(
    body: Body,
    *,
    clock: trio.abc.Clock | None = None,
    after: Callable[[Any], Awaitable[object]] | None = None,
    **options: Any,
) -> Caught:
    """Run `body(nursery)` under `no_leaks()`, with a nursery that outlives the check.

    `after` is given what the body returned, to tidy it up.
    """
    caught = Caught()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ended, virtual_end = 0.0, 0.0
            try:
                async with no_leaks(**options):
                    caught.kept = await body(nursery)
                    ended, virtual_end = time.monotonic(), trio.current_time()
            except LeakError as error:
                caught.leaks, caught.report = error.leaks, str(error)
            caught.took_s = time.monotonic() - ended
            caught.virtual_s = trio.current_time() - virtual_end
            if after is not None:
                await after(caught.kept)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)
    return caught


def only(caught: Caught, kind: LeakKind) -> Leak:
    """The one leak that was found, of that kind."""
    assert [leak.kind for leak in caught.leaks] == [kind], caught.report
    return caught.leaks[0]


def line(marker: str) -> str:
    """Where in this file the line with that marker is, as a report names it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    numbers = [at for at, text in enumerate(lines, start=1) if text.endswith(f"# <- {marker}")]
    assert len(numbers) == 1, f"{marker!r} stands on {len(numbers)} lines"
    return f"{HERE}:{numbers[0]}"


async def heartbeat() -> None:
    for _ in range(1_000):
        await trio.sleep(0.050)  # <- the heartbeat waits


def mock_clock() -> trio.abc.Clock:
    return trio.testing.MockClock(autojump_threshold=0)


# Tasks


def test_a_task_in_a_nursery_that_existed_before_is_found() -> None:
    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(heartbeat, name="raft[0].heartbeat")  # <- spawns heartbeat
        await trio.sleep(0.120)

    caught = check(body, clock=mock_clock())

    leak = only(caught, LeakKind.TASK)
    assert leak.name == "raft[0].heartbeat"
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(f"{line('spawns heartbeat')} in test_a_task_in_a_nursery")
    assert leak.await_chain[0] == f"heartbeat {line('the heartbeat waits')}"
    assert leak.await_chain[1].startswith("sleep trio/_timeouts.py:")
    assert "nobody has cancelled it" in leak.detail
    for part in (leak.name, leak.spawned_at, *leak.await_chain):
        assert part in caught.report


def test_an_uncancelled_task_is_not_waited_for() -> None:
    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.sleep, 3.0)

    caught = check(body, grace_s=5.0)

    only(caught, LeakKind.TASK)
    assert caught.took_s < 1.0


def test_a_system_task_is_found() -> None:
    async def body(_: trio.Nursery) -> None:
        trio.lowlevel.spawn_system_task(heartbeat)  # <- spawns system task

    leak = only(check(body, clock=mock_clock()), LeakKind.SYSTEM_TASK)

    assert leak.name.endswith("heartbeat")
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("spawns system task"))


def test_a_task_that_a_foreign_thread_asked_for_is_found() -> None:
    async def body(_: trio.Nursery) -> None:
        token = trio.lowlevel.current_trio_token()

        def ask() -> None:
            with contextlib.suppress(trio.Cancelled):
                trio.from_thread.run(trio.sleep_forever, trio_token=token)

        threading.Thread(target=ask, name="asker").start()
        await trio.testing.wait_all_tasks_blocked(0.010)

    kinds = [(leak.kind, leak.name) for leak in check(body).leaks]
    assert kinds == [(LeakKind.SYSTEM_TASK, "trio.sleep_forever"), (LeakKind.THREAD, "asker")]


def test_tasks_that_leaked_tasks_started_are_found() -> None:
    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(child)

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(parent)
        await trio.testing.wait_all_tasks_blocked()

    names = [leak.name.rpartition(".")[2] for leak in check(body).leaks]
    assert names == ["parent", "child"]


def test_a_busy_task_is_found_within_the_bound() -> None:
    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(spin)

    caught = check(body)
    assert only(caught, LeakKind.TASK).name.endswith("spin")
    assert caught.took_s < 1.0


@pytest.mark.parametrize("turns", [0, 1, 10])
def test_a_task_that_only_needs_its_turns_is_no_leak(turns: int) -> None:
    async def short() -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()

    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(short)

    assert check(body).leaks == ()


def test_a_cancelled_task_has_its_moment() -> None:
    async def tidy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.030)

    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(tidy)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    caught = check(body, grace_s=5.0)
    assert caught.leaks == ()
    assert 0.01 < caught.took_s < 1.0  # it waits for the task, not for the grace to be over


@pytest.mark.parametrize("virtual", [False, True])
def test_a_cancelled_task_that_goes_on_is_found_and_time_stands_still(virtual: bool) -> None:
    async def stubborn(released: trio.Event) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(60.0):
            await released.wait()

    async def body(nursery: trio.Nursery) -> trio.Event:
        released = trio.Event()
        nursery.start_soon(stubborn, released)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        return released

    async def release(released: trio.Event) -> None:
        released.set()

    clock = mock_clock() if virtual else None
    caught = check(body, clock=clock, grace_s=0.05, after=release)

    assert only(caught, LeakKind.TASK).detail == "cancelled, but it goes on"
    assert caught.took_s < 1.0
    if virtual:
        assert caught.virtual_s == 0.0


def test_what_a_service_from_before_starts_is_its_own() -> None:
    async def main() -> None:
        asked = trio.Event()

        async def service() -> None:
            async with trio.open_nursery() as nursery:
                await asked.wait()
                nursery.start_soon(heartbeat)
                trio.open_memory_channel[int](0)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(service)
            await trio.testing.wait_all_tasks_blocked()
            async with no_leaks():
                asked.set()
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=mock_clock())


# Threads


def test_a_busy_worker_thread_is_found() -> None:
    release = threading.Event()

    def fsync() -> None:
        release.wait(5.0)  # <- the thread waits

    async def body(_: trio.Nursery) -> None:
        with trio.move_on_after(0.010):
            await trio.to_thread.run_sync(fsync, abandon_on_cancel=True)  # <- starts the job

    try:
        leak = only(check(body), LeakKind.THREAD)
    finally:
        release.set()

    assert leak.name.startswith("fsync from ")
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("starts the job"))
    assert leak.await_chain[0].endswith(f"fsync {line('the thread waits')}")


def test_a_cached_worker_from_before_with_a_new_job_is_found() -> None:
    release = threading.Event()

    async def main() -> tuple[Leak, ...]:
        await trio.to_thread.run_sync(time.monotonic)  # now one worker idles
        try:
            async with no_leaks():
                trio.lowlevel.start_thread_soon(lambda: release.wait(5.0), lambda _: None)
        except LeakError as error:
            return error.leaks
        finally:
            release.set()
        return ()

    assert [leak.kind for leak in trio.run(main)] == [LeakKind.THREAD]


def test_a_plain_thread_is_found() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(5.0,), name="flusher", daemon=True)

    async def body(_: trio.Nursery) -> None:
        thread.start()  # <- starts the thread

    try:
        leak = only(check(body), LeakKind.THREAD)
    finally:
        release.set()
        thread.join()

    assert (leak.name, leak.detail) == ("flusher", "still alive, a daemon")
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("starts the thread"))


def test_a_thread_that_is_just_ending_is_no_leak() -> None:
    async def body(_: trio.Nursery) -> None:
        threading.Thread(target=time.sleep, args=(0.001,)).start()

    assert check(body).leaks == ()


# Descriptors


def test_an_open_socket_is_found_with_its_address() -> None:
    async def body(_: trio.Nursery) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))  # <- opens the listener

    caught = check(body)
    assert isinstance(caught.kept, socket.socket)
    port = caught.kept.getsockname()[1]
    caught.kept.close()

    leak = only(caught, LeakKind.SOCKET)
    assert leak.name == f"listening socket 127.0.0.1:{port}"
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("opens the listener"))


def test_an_open_stream_is_found_at_the_users_line() -> None:
    async def body(_: trio.Nursery) -> trio.SocketStream:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            return await trio.open_tcp_stream("127.0.0.1", port)  # <- opens the stream

    leak = only(check(body, after=trio.aclose_forcefully), LeakKind.SOCKET)
    assert leak.name.startswith("socket 127.0.0.1:")
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("opens the stream"))


def test_an_open_file_is_found_with_its_path(tmp_path: Path) -> None:
    async def body(_: trio.Nursery) -> object:
        return await trio.open_file(tmp_path / "log", "w")

    leak = only(check(body, after=trio.aclose_forcefully), LeakKind.FILE)
    assert leak.name.endswith("/log")
    assert "is still open" in leak.detail


def test_a_number_that_is_used_again_is_no_disguise(tmp_path: Path) -> None:
    before = (tmp_path / "before").open("w")

    async def body(_: trio.Nursery) -> object:
        number = before.fileno()
        before.close()
        after = (tmp_path / "after").open("w")
        assert after.fileno() == number
        return after

    caught = check(body)
    caught.kept.close()  # type: ignore[attr-defined]  # the file that the body returned
    assert only(caught, LeakKind.FILE).name.endswith("/after")


def test_a_file_from_before_may_be_renamed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w"):

        async def body(_: trio.Nursery) -> None:
            (tmp_path / "log").rename(tmp_path / "log.1")

        assert check(body).leaks == ()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_socket_that_was_dropped_is_found() -> None:
    async def body(_: trio.Nursery) -> None:
        socket.socket()  # <- drops a socket
        socket.socket()  # most likely at the same address

    caught = check(body)
    assert [leak.kind for leak in caught.leaks] == [LeakKind.SOCKET] * 2
    assert caught.leaks[0].spawned_at is not None
    assert caught.leaks[0].spawned_at.startswith(line("drops a socket"))
    assert "dropped without being closed" in caught.leaks[0].detail


# Memory channels


def test_an_open_end_is_found_while_somebody_can_wait_at_the_other() -> None:
    async def body(_: trio.Nursery) -> object:
        send, receive = trio.open_memory_channel[str](3)  # <- opens the channel
        await send.send("entry")
        send.clone().close()
        return send, receive

    caught = check(body)
    assert [leak.name for leak in caught.leaks] == ["memory send channel", "memory receive channel"]
    leak = caught.leaks[0]
    assert leak.kind is LeakKind.CHANNEL
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("opens the channel"))
    assert leak.detail.startswith("never closed while its receive end is open; items in it: 1")


def test_a_dropped_end_for_which_somebody_waits_is_found() -> None:
    async def drain(receive: trio.MemoryReceiveChannel[str]) -> None:
        async with receive:
            async for _ in receive:
                pass

    async def body(nursery: trio.Nursery) -> None:
        _send, receive = trio.open_memory_channel[str](3)
        nursery.start_soon(drain, receive)
        await trio.testing.wait_all_tasks_blocked()

    caught = check(body, kinds=[LeakKind.CHANNEL])
    details = {leak.name: leak.detail for leak in caught.leaks}
    assert details == {
        "memory send channel": "dropped without being closed while its receive end is open; "
        "items in it: 0, tasks that wait there: 1"
    }


@pytest.mark.parametrize("closed", ["neither", "send", "receive"])
def test_an_end_at_which_nobody_can_wait_is_no_leak(closed: str) -> None:
    async def body(_: trio.Nursery) -> object:
        send, receive = trio.open_memory_channel[str](3)
        if closed == "neither":
            return None  # both are dropped
        (send if closed == "send" else receive).close()
        return send, receive

    assert check(body).leaks == ()


# Async generators


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        yield number  # <- the generator waits


def test_an_async_generator_that_is_kept_unfinished_is_found() -> None:
    async def body(_: trio.Nursery) -> object:
        kept = numbers()
        await anext(kept)  # <- begins the generator
        return kept

    leak = only(check(body), LeakKind.ASYNC_GENERATOR)
    assert leak.name == "numbers"
    assert leak.spawned_at is not None
    assert leak.spawned_at.startswith(line("begins the generator"))
    assert leak.await_chain == (f"numbers {line('the generator waits')}",)


def test_a_generator_behind_another_librarys_hook_is_its_affair() -> None:
    async def body(_: trio.Nursery) -> object:
        before = sys.get_asyncgen_hooks()

        def firstiter(generator: Any) -> None:
            assert before.firstiter is not None
            before.firstiter(generator)

        kept = numbers()
        sys.set_asyncgen_hooks(firstiter=firstiter)
        try:
            await anext(kept)
        finally:
            sys.set_asyncgen_hooks(*before)
        return kept

    assert check(body).leaks == ()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_async_generator_that_is_left_to_the_collector_is_found() -> None:
    closed: list[bool] = []

    async def tidied() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    async def body(_: trio.Nursery) -> None:
        async for _number in tidied():
            break

    leak = only(check(body), LeakKind.ASYNC_GENERATOR)
    assert leak.detail == "never finished: left to the garbage collector"
    assert closed  # Trio's own finalizer was called on


# The scope itself


def test_allowed_names_may_stay_and_brackets_mean_themselves() -> None:
    async def node() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heartbeat, name="some helper below")
            await trio.sleep_forever()

    async def body(nursery: trio.Nursery) -> object:
        nursery.start_soon(node, name="raft[0]")
        nursery.start_soon(heartbeat, name="raft0")
        await trio.testing.wait_all_tasks_blocked()
        return trio.open_memory_channel[int](0)

    caught = check(body, allow=["raft[0]", "kind=memory channel"], clock=mock_clock())
    assert [leak.name for leak in caught.leaks] == ["raft0"]


def test_one_string_for_allow_is_refused() -> None:
    with pytest.raises(TypeError, match="not one string"):
        no_leaks(allow="raft*")


def test_the_bodys_own_error_wins_and_carries_the_report() -> None:
    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(heartbeat, name="left behind")
        raise ValueError("the real trouble")

    with pytest.raises(ExceptionGroup) as caught:
        check(body, clock=mock_clock())
    (error,) = caught.value.exceptions
    assert isinstance(error, ValueError)
    assert "left behind" in error.__notes__[0]


def test_a_cancelled_body_is_not_checked() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1.0) as scope:
                with pytest.raises(trio.Cancelled) as caught:  # noqa: PT012 - the block's end counts
                    async with no_leaks():
                        nursery.start_soon(heartbeat)
                        await trio.sleep_forever()
                assert not hasattr(caught.value, "__notes__")
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
            nursery.cancel_scope.cancel()

    trio.run(main, clock=mock_clock())


async def test_scopes_nest_and_the_inner_one_reports() -> None:
    async with trio.open_nursery() as nursery, no_leaks(allow=["outer"]):
        nursery.start_soon(heartbeat, name="outer")
        with pytest.raises(LeakError) as caught:
            async with no_leaks():
                nursery.start_soon(heartbeat, name="inner")
        assert [leak.name for leak in caught.value.leaks] == ["inner"]
        nursery.cancel_scope.cancel()


def test_scopes_overlap_and_everything_is_put_back() -> None:
    watched = (
        (threading.Thread, "start"),
        (socket.socket, "__init__"),
        (socket.socket, "close"),
        (trio.MemorySendChannel, "close"),
    )

    def listeners() -> list[object]:
        tapped = [tapped_of(owner.__dict__[name]) for owner, name in watched]
        return [() if each is None else each.listeners for each in tapped]

    before = listeners()
    hooks: list[object] = []

    async def hold(entered: trio.Event, leave: trio.Event) -> None:
        async with no_leaks():
            entered.set()
            await leave.wait()

    async def main() -> None:
        hooks.append(sys.get_asyncgen_hooks())
        events = [trio.Event() for _ in range(4)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, events[0], events[1])
            await events[0].wait()
            nursery.start_soon(hold, events[2], events[3])
            await events[2].wait()
            events[1].set()  # the first to come is the first to go
            await trio.testing.wait_all_tasks_blocked()
            assert len(listeners()[2]) == len(before[2]) + 1  # type: ignore[arg-type]  # tuples
            events[3].set()
        hooks.append(sys.get_asyncgen_hooks())

    trio.run(main)
    assert listeners() == before
    assert hooks[0] == hooks[1]


async def test_a_scope_is_entered_once() -> None:
    scope = no_leaks()
    async with scope:
        pass
    with pytest.raises(RuntimeError, match="make a new one"):
        await scope.__aenter__()


def test_a_long_report_is_cut() -> None:
    async def body(nursery: trio.Nursery) -> None:
        for number in range(1_000):
            nursery.start_soon(trio.sleep_forever, name=f"task {number}")

    caught = check(body)
    assert len(caught.leaks) == 1_000
    assert "… and 980 more" in caught.report
