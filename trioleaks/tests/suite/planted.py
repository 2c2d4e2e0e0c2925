"""Sixty leaks of every kind, and a clean twin of each. Run by test_sixty.py, in a pytest of its own.

`# <- kind` stands on the line that starts what leaks, and says what the check must call it. Whoever
runs it ends the processes that it leaves, by their group.
"""

import asyncio
import contextlib
import functools
import multiprocessing
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import aclosing, closing

import pytest
import trio
import trio.testing

KEPT = []
STOP = threading.Event()
"""Threads that are left wait for it: until all tests are over, however long that takes."""
SLEEP = ["/bin/sleep", "600"]
DONE = ["/bin/true"]


@pytest.fixture(scope="session", autouse=True)
def stopped_at_last():
    yield
    STOP.set()


async def numbers():
    for number in range(3):
        yield number


# Tasks that cannot be cancelled


async def shielded():
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def swallowing():
    while True:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep(0.01)


async def tidy():
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(0.05):
            await trio.sleep_forever()


async def test_leaks_shielded_task(nursery):
    nursery.start_soon(shielded)  # <- task


async def test_twin_shielded_task(nursery):
    nursery.start_soon(tidy)


async def test_leaks_swallowing_task(nursery):
    nursery.start_soon(swallowing)  # <- task


async def test_twin_swallowing_task(nursery):
    nursery.start_soon(trio.sleep_forever)


async def test_leaks_task_below_a_task(nursery):
    async def parent():
        async with trio.open_nursery() as inner:
            inner.start_soon(shielded)  # <- task

    nursery.start_soon(parent)
    await trio.testing.wait_all_tasks_blocked()


async def test_twin_task_below_a_task(nursery):
    async def parent():
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)

    nursery.start_soon(parent)
    await trio.testing.wait_all_tasks_blocked()


async def test_leaks_task_in_the_body():
    async with trio.open_nursery() as inner:
        inner.start_soon(shielded)  # <- task
        await trio.testing.wait_all_tasks_blocked()
        inner.cancel_scope.cancel()


async def test_twin_task_in_the_body():
    async with trio.open_nursery() as inner:
        inner.start_soon(tidy)
        await trio.testing.wait_all_tasks_blocked()
        inner.cancel_scope.cancel()


def test_leaks_task_of_a_plain_run():
    async def main():
        async with trio.open_nursery() as inner:
            inner.start_soon(swallowing)  # <- task
            inner.cancel_scope.cancel()

    trio.run(main)


def test_twin_task_of_a_plain_run():
    async def main():
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            inner.cancel_scope.cancel()

    trio.run(main)


# System tasks


async def test_leaks_system_task():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task


async def test_twin_system_task(nursery):
    nursery.start_soon(trio.sleep_forever)


@trio.testing.trio_test
async def test_leaks_system_task_of_trio_test():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task


@trio.testing.trio_test
async def test_twin_system_task_of_trio_test():
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep, 0)


def test_leaks_system_task_of_a_plain_run():
    async def main():
        trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task

    trio.run(main)


def test_twin_system_task_of_a_plain_run():
    trio.run(trio.sleep, 0)


def test_leaks_system_task_in_a_thread():
    async def main():
        trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join()


def test_twin_system_task_in_a_thread():
    thread = threading.Thread(target=trio.run, args=(trio.sleep, 0))
    thread.start()
    thread.join()


async def test_leaks_system_task_of_a_nested_run():
    async def main():
        trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task

    await trio.to_thread.run_sync(trio.run, main)


async def test_twin_system_task_of_a_nested_run():
    await trio.to_thread.run_sync(trio.run, trio.sleep, 0)


def run_as_guest(main, loop=None):
    async def host():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    return asyncio.run(host()) if loop is None else loop.run_until_complete(host())


def test_leaks_system_task_of_a_guest():
    async def main():
        trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task

    run_as_guest(main)


def test_twin_system_task_of_a_guest():
    run_as_guest(functools.partial(trio.sleep, 0))


@pytest.fixture
async def with_system_task():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)  # <- system task: fixture


async def test_leaks_system_task_of_a_fixture(with_system_task):
    pass


@pytest.fixture
async def with_task(nursery):
    nursery.start_soon(trio.sleep_forever)


async def test_twin_system_task_of_a_fixture(with_task):
    pass


# Tasks of asyncio


async def aio_forever():
    await asyncio.sleep(600)


def test_leaks_asyncio_task_of_a_guest():
    loop = asyncio.new_event_loop()

    async def main():
        KEPT.append(loop.create_task(aio_forever()))  # <- asyncio task
        KEPT.append(loop)
        await trio.sleep(0)

    run_as_guest(main, loop)


def test_twin_asyncio_task_of_a_guest():
    async def main():
        asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await trio.testing.wait_all_tasks_blocked()

    run_as_guest(main)


def test_leaks_asyncio_task_of_a_host():
    async def host():
        trio.run(trio.sleep, 0)
        KEPT.append(asyncio.ensure_future(aio_forever()))  # <- asyncio task

    loop = asyncio.new_event_loop()
    KEPT.append(loop)
    loop.run_until_complete(host())


def test_twin_asyncio_task_of_a_host():
    async def host():
        asyncio.ensure_future(aio_forever())  # `asyncio.run` cancels it

    trio.run(trio.sleep, 0)
    asyncio.run(host())


# Threads


async def test_leaks_abandoned_thread():
    def abandoned():
        trio.from_thread.run_sync(scope.cancel)
        STOP.wait()

    with trio.CancelScope() as scope:
        await trio.to_thread.run_sync(abandoned, abandon_on_cancel=True)  # <- thread


async def test_twin_abandoned_thread():
    def abandoned():
        trio.from_thread.run_sync(scope.cancel)
        time.sleep(0.02)

    with trio.CancelScope() as scope:
        await trio.to_thread.run_sync(abandoned, abandon_on_cancel=True)


async def test_leaks_plain_thread():
    threading.Thread(target=STOP.wait).start()  # <- thread


async def test_twin_plain_thread():
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    thread.join()


async def test_leaks_daemon_thread():
    threading.Thread(target=STOP.wait, daemon=True).start()  # <- thread


async def test_twin_daemon_thread():
    threading.Thread(target=time.sleep, args=(0.01,), daemon=True).start()


async def test_leaks_timer():
    threading.Timer(0, STOP.wait).start()  # <- thread


async def test_twin_timer():
    timer = threading.Timer(600, print)
    timer.start()
    timer.cancel()


async def test_leaks_raw_job():
    trio.lowlevel.start_thread_soon(STOP.wait, KEPT.append)  # <- thread


async def test_twin_raw_job():
    trio.lowlevel.start_thread_soon(lambda: None, KEPT.append)


# Child processes


async def test_leaks_running_process():
    KEPT.append(subprocess.Popen(SLEEP))  # <- process


async def test_twin_running_process():
    with subprocess.Popen(SLEEP) as process:
        process.kill()


async def test_leaks_zombie():
    process = subprocess.Popen(DONE)  # <- process
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    KEPT.append(process)


async def test_twin_zombie():
    subprocess.Popen(DONE).wait()


async def test_leaks_opened_process():
    KEPT.append(await trio.lowlevel.open_process(SLEEP))  # <- process


async def test_twin_opened_process():
    process = await trio.lowlevel.open_process(SLEEP)
    process.kill()
    await process.wait()


async def test_twin_process_in_the_nursery(nursery):
    await nursery.start(trio.run_process, SLEEP)


async def test_leaks_process_in_the_nursery(nursery):
    KEPT.append(await trio.lowlevel.open_process(SLEEP, stdin=None))  # <- process
    nursery.start_soon(KEPT[-1].wait)


async def test_leaks_fork():
    pid = os.fork()  # <- process
    if pid == 0:
        time.sleep(600)
        os._exit(0)


async def test_twin_fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


async def test_leaks_spawned():
    os.posix_spawn(SLEEP[0], SLEEP, {})  # <- process


async def test_twin_spawned():
    os.waitpid(os.posix_spawn(DONE[0], DONE, {}), 0)


async def test_leaks_multiprocessing():
    context = multiprocessing.get_context("fork")
    process = context.Process(target=time.sleep, args=(600,), daemon=True)
    process.start()  # <- process
    KEPT.append(process)


async def test_leaks_multiprocessing_spawned():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.daemon = True
    process.start()  # <- process
    KEPT.append(process)


async def test_twin_multiprocessing_spawned(pipes_of_multiprocessing):
    reading, writing = pipes_of_multiprocessing
    writing.send("x")
    assert reading.recv() == "x"


@pytest.fixture
def pipes_of_multiprocessing():
    return multiprocessing.Pipe(duplex=False)  # they close with the last reference


@pytest.fixture(scope="module")
def manager():
    with multiprocessing.get_context("fork").Manager() as found:
        yield found


async def test_twin_proxy_in_a_worker_thread(manager):
    # The idle thread keeps the connection for the next who uses a proxy in it.
    assert not await trio.to_thread.run_sync(manager.Event().is_set)


async def test_twin_looked_at_beside_a_proxy(manager, pipes_of_multiprocessing):
    manager.Event().is_set()  # what is looked at while there are proxies is not opened again
    assert len(pipes_of_multiprocessing) == 2


async def test_twin_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    process.close()


# Sockets


async def test_leaks_socket():
    KEPT.append(socket.socket())  # <- socket


async def test_twin_socket():
    with socket.socket():
        pass


async def test_leaks_trio_socket():
    KEPT.append(trio.socket.socket())  # <- socket


async def test_twin_trio_socket():
    trio.socket.socket().close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_leaks_dropped_socket():
    socket.socket()  # <- socket


async def test_twin_dropped_socket():
    unused = socket.socket()
    unused.close()
    del unused


async def test_leaks_listener():
    KEPT.extend(await trio.open_tcp_listeners(0, host="127.0.0.1"))  # <- socket


async def test_twin_listener():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await listener.aclose()


@pytest.fixture
async def echo(nursery):
    async def handle(stream):
        async with stream:
            async for data in stream:
                await stream.send_all(data)

    serve = functools.partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    return listener.socket.getsockname()


async def test_leaks_stream(echo):
    KEPT.append(await trio.open_tcp_stream(*echo))  # <- socket


async def test_twin_stream(echo):
    async with await trio.open_tcp_stream(*echo) as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"


async def test_leaks_unix_socket(tmp_path):
    listener = socket.socket(socket.AF_UNIX)  # <- socket
    listener.bind(str(tmp_path / "s"))
    KEPT.append(listener)


async def test_twin_unix_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))


async def test_leaks_half_of_a_pair():
    near, far = socket.socketpair()  # <- socket
    near.close()
    KEPT.append(far)


async def test_twin_half_of_a_pair():
    near, far = socket.socketpair()
    with near, far:
        pass


async def test_leaks_detached_socket():
    KEPT.append(socket.socket().detach())  # <- socket


async def test_twin_detached_socket():
    os.close(socket.socket().detach())


async def test_leaks_udp():
    KEPT.append(socket.socket(type=socket.SOCK_DGRAM))  # <- socket


@functools.cache
def resolver():
    return socket.socket(type=socket.SOCK_DGRAM)


async def test_twin_udp():
    resolver()  # made once, for the whole process


# Files


async def test_leaks_file(tmp_path):
    KEPT.append(open(tmp_path / "f", "w"))  # <- file


async def test_twin_file(tmp_path):
    with open(tmp_path / "f", "w"):
        pass


async def test_leaks_trio_file(tmp_path):
    KEPT.append(await trio.open_file(tmp_path / "f", "w"))  # <- file


async def test_twin_trio_file(tmp_path):
    async with await trio.open_file(tmp_path / "f", "w") as file:
        await file.write("x")


async def test_leaks_raw_file(tmp_path):
    os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)  # <- file


async def test_twin_raw_file(tmp_path):
    os.close(os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR))


async def test_leaks_folder(tmp_path):
    os.open(tmp_path, os.O_RDONLY)  # <- file


async def test_twin_folder(tmp_path):
    os.close(os.open(tmp_path, os.O_RDONLY))


async def test_leaks_database(tmp_path):
    connection = sqlite3.connect(tmp_path / "d")  # <- file
    connection.execute("create table t (x)")
    KEPT.append(connection)


async def test_twin_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "d")) as connection:
        connection.execute("create table t (x)")


async def test_leaks_temporary_file():
    KEPT.append(tempfile.NamedTemporaryFile())  # <- file


async def test_twin_temporary_file():
    with tempfile.NamedTemporaryFile():
        pass


@pytest.fixture
def open_later(request):
    def opened(path):
        file = open(path, "w")
        request.addfinalizer(file.close)
        return file

    return opened


async def test_twin_file_of_a_factory(open_later, tmp_path):
    open_later(tmp_path / "f")


@pytest.fixture
def forgetful(tmp_path):
    KEPT.append(open(tmp_path / "f", "w"))  # <- file: fixture


async def test_leaks_file_of_a_fixture(forgetful):
    await trio.lowlevel.checkpoint()


async def test_twin_file_of_a_fixture(open_later, tmp_path):
    open_later(tmp_path / "g")


# Pipes and other descriptors


async def test_leaks_pipe():
    os.pipe()  # <- pipe


async def test_twin_pipe():
    for number in os.pipe():
        os.close(number)


async def test_leaks_one_end_of_a_pipe():
    reading, _writing = os.pipe()  # <- pipe
    os.close(reading)


async def test_twin_one_end_of_a_pipe():
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading), trio.lowlevel.FdStream(writing):
        pass


async def test_leaks_fifo(tmp_path):
    os.mkfifo(tmp_path / "p")
    os.open(tmp_path / "p", os.O_RDWR)  # <- pipe


async def test_twin_fifo(tmp_path):
    os.mkfifo(tmp_path / "p")
    os.close(os.open(tmp_path / "p", os.O_RDWR))


async def test_leaks_epoll():
    KEPT.append(select.epoll())  # <- descriptor


async def test_twin_epoll():
    with select.epoll() as poll:
        assert isinstance(poll, select.epoll)


async def test_leaks_eventfd():
    os.eventfd(0)  # <- descriptor


async def test_twin_eventfd():
    os.close(os.eventfd(0))


async def test_leaks_memfd():
    os.memfd_create("buffer")  # <- descriptor


async def test_twin_memfd():
    os.close(os.memfd_create("buffer"))


async def test_leaks_pidfd():
    os.pidfd_open(os.getpid())  # <- descriptor


async def test_twin_pidfd():
    os.close(os.pidfd_open(os.getpid()))


async def test_leaks_duplicate(tmp_path):
    with open(tmp_path / "f", "w") as file:
        os.dup(file.fileno())  # <- file


async def test_twin_duplicate(tmp_path):
    with open(tmp_path / "f", "w") as file:
        os.close(os.dup(file.fileno()))


async def test_leaks_terminal():
    os.openpty()  # <- file


async def test_twin_terminal():
    for number in os.openpty():
        os.close(number)


# Memory channels


async def receive_all(receive):
    async for _ in receive:
        pass


async def test_leaks_channel_that_is_waited_at():
    send, receive = trio.open_memory_channel(0)  # <- memory channel
    KEPT.append(send)
    trio.lowlevel.spawn_system_task(receive_all, receive)
    await trio.testing.wait_all_tasks_blocked()


async def test_twin_channel_that_is_waited_at(nursery):
    send, receive = trio.open_memory_channel(0)
    nursery.start_soon(receive_all, receive)
    await trio.testing.wait_all_tasks_blocked()
    send.close()


async def test_leaks_channel_that_is_full():
    send, receive = trio.open_memory_channel(0)  # <- memory channel
    KEPT.append(receive)
    trio.lowlevel.spawn_system_task(send.send, 1)
    await trio.testing.wait_all_tasks_blocked()


async def test_twin_channel_that_is_full():
    KEPT.append(trio.open_memory_channel(1))


# Async generators


async def test_leaks_generator_that_was_left():
    async for _ in numbers():  # <- async generator
        break


async def test_twin_generator_that_was_left():
    async with aclosing(numbers()) as source:
        async for _ in source:
            break


async def test_leaks_generator_that_is_kept():
    kept = numbers()
    KEPT.append(kept)
    await anext(kept)  # <- async generator


async def test_twin_generator_that_is_kept():
    kept = numbers()
    KEPT.append(kept)
    assert [number async for number in kept] == [0, 1, 2]


# Signal handlers


async def test_leaks_handler():
    signal.signal(signal.SIGUSR1, lambda *_: None)  # <- signal handler


async def test_twin_handler():
    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGUSR1, former)


async def test_leaks_receiver():
    receiver = trio.open_signal_receiver(signal.SIGUSR2)
    receiver.__enter__()  # <- signal handler
    KEPT.append(receiver)


async def test_twin_receiver():
    with trio.open_signal_receiver(signal.SIGUSR2):
        pass


async def test_leaks_ignored_signal():
    signal.signal(signal.SIGWINCH, signal.SIG_IGN)  # <- signal handler


async def test_twin_ignored_signal(monkeypatch):
    former = signal.signal(signal.SIGWINCH, signal.SIG_IGN)
    signal.signal(signal.SIGWINCH, former)


# Tokens of limiters

LIMITER = trio.CapacityLimiter(5)


async def test_leaks_token():
    await LIMITER.acquire()  # <- limiter token


async def test_twin_token():
    async with LIMITER:
        pass


async def test_leaks_token_on_behalf():
    LIMITER.acquire_on_behalf_of_nowait("somebody")  # <- limiter token


async def test_twin_token_on_behalf():
    LIMITER.acquire_on_behalf_of_nowait("somebody else")
    LIMITER.release_on_behalf_of("somebody else")


# Temporary directories


async def test_leaks_temporary_directory():
    tempfile.mkdtemp()  # <- temporary directory


async def test_twin_temporary_directory():
    with tempfile.TemporaryDirectory():
        pass


async def test_leaks_kept_temporary_directory():
    KEPT.append(tempfile.TemporaryDirectory())  # <- temporary directory


async def test_twin_kept_temporary_directory(tmp_path):
    (tmp_path / "folder").mkdir()


# Fixtures of wider scopes: the last test of the scope errs


class TestClassScope:
    @pytest.fixture(scope="class")
    def client(self):
        KEPT.append(socket.socket())  # <- socket: fixture

    async def test_leaks_class_scope(self, client):
        pass


class TestCleanClassScope:
    @pytest.fixture(scope="class")
    def client(self):
        with socket.socket() as client:
            yield client

    async def test_uses_class_scope(self, client):
        pass

    async def test_twin_class_scope(self, client):
        pass


class Client:
    def __init__(self):
        self.connection = None

    def connect(self):
        self.connection = self.connection or socket.socket()
        return self.connection


@pytest.fixture(scope="module")
def lazy():
    client = Client()
    yield client
    client.connection.close()


async def test_twin_lazy_client_of_a_module(lazy):
    lazy.connect()


async def test_leaks_connection_beside_a_lazy_client(lazy):
    lazy.connect()
    KEPT.append(socket.socket())  # <- socket


# A guest run whose host has stopped: last, for Trio does not begin again in its thread until the
# garbage collector has found it


def test_twin_guest_run():
    run_as_guest(functools.partial(trio.sleep, 0.01))


@pytest.mark.filterwarnings("ignore")
def test_leaks_guest_run():
    async def host():
        loop = asyncio.get_running_loop()
        trio.lowlevel.start_guest_run(  # <- run
            trio.sleep_forever,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=KEPT.append,
        )

    asyncio.run(host())
