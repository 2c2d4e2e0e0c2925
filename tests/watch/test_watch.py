"""`trioraft watch`: what is known of a cluster, how it is drawn, and how it ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import msgspec
import trio
from rich.console import Console

from benchmarks.processes import Process, free_ports, python, shown
from tests.client.service_support import client_of, serving
from tests.serve.commands import run
from trioraft.cli.watch.picture import picture
from trioraft.core.types import Address, Configuration
from trioraft.live.scene import Scene, listen
from trioraft.rpc.protocol import NodeNews, RoleNews, ServerStatus, StatusNews

ONE, TWO = ("127.0.0.1", 1), ("127.0.0.1", 2)


def status_of(node_id: str, role: str, **fields: object) -> ServerStatus:
    status = ServerStatus(
        node_id,
        "test",
        role,
        term=3,
        leader_id="0",
        last_index=9,
        commit_index=9,
        applied_index=7,
        configuration=Configuration(("0", "1")),
        configuration_index=1,
        progress={},
        last_role_change="because",
    )
    return msgspec.structs.replace(status, **fields)


def drawn(scene: Scene, *, width: int = 150, encoding: str = "utf-8", now_s: float = 10.0) -> str:
    """The picture as text."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=24)
    console.print(picture(scene, console, now_s))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def a_scene() -> Scene:
    scene = Scene()
    scene.expect(ONE)
    scene.expect(TWO)
    leader = status_of("0", "Leader", applied_index=9, links={"1": False})
    scene.tell(ONE, StatusNews(leader), 1.0)
    scene.tell(TWO, StatusNews(status_of("1", "Follower", links={"0": True})), 1.0)
    return scene


def test_a_row_says_what_a_node_is_how_far_behind_and_whom_it_reaches() -> None:
    lines = drawn(a_scene()).splitlines()
    assert lines[0].rstrip() == "cluster test; voters 0, 1"
    assert lines[2].split() == [
        "0",
        "127.0.0.1:1",
        "★",
        "Leader",
        "3",
        "0",
        "9",
        "0",
        "1✗",
        "because",
    ]
    assert lines[3].split() == [
        "1",
        "127.0.0.1:2",
        "·",
        "Follower",
        "3",
        "0",
        "9",
        "2",
        "0✓",
        "because",
    ]


def test_a_terminal_without_unicode_gets_other_signs() -> None:
    assert "* Leader" in drawn(a_scene(), encoding="ascii")


def test_a_narrow_terminal_gets_fewer_columns_and_no_broken_ones() -> None:
    lines = drawn(a_scene(), width=70).splitlines()
    assert "clients at" not in lines[1]
    assert "links" not in lines[1]
    assert all(len(line) <= 70 for line in lines)
    assert "Leader" in lines[2]


def test_a_server_that_falls_silent_keeps_its_row_with_the_reason() -> None:
    scene = a_scene()
    scene.lost(TWO, "connection refused", 6.0)
    scene.lost(TWO, "connection refused", 7.0)
    row = drawn(scene).splitlines()[3]
    assert "silent for 4 s" in row
    assert "connection refused" in row
    assert [each.text for each in scene.take_untold()] == ["does not answer: connection refused"]
    scene.tell(TWO, StatusNews(status_of("1", "Follower")), 8.0)
    assert [each.text for each in scene.take_untold()] == ["answers again"]


def test_role_changes_are_kept_with_their_reasons_and_repetitions_are_not() -> None:
    scene = a_scene()
    first = RoleNews("1", "PreCandidate", "Follower", 3, "no contact for 200 ms")
    again = RoleNews("1", "PreCandidate", "PreCandidate", 3, "no winner after 200 ms")
    for news in (first, again, again, again):
        scene.tell(TWO, news, 2.0)
    texts = [each.text for each in scene.happened]
    assert texts == ["Follower → PreCandidate, term 3: no contact for 200 ms"]


def test_a_server_has_one_row_wherever_it_is_heard() -> None:
    """By a name and by its address; and after it has moved."""
    scene, here, there, later = Scene(), ("127.0.0.1", 1), ("localhost", 1), ("127.0.0.1", 2)
    for address in (here, there):
        assert scene.expect(address)
    assert scene.tell(here, StatusNews(status_of("0", "Leader")), 1.0)
    assert not scene.tell(there, StatusNews(status_of("0", "Leader")), 2.0)
    assert list(scene.servers) == [here]
    assert scene.answers("0")
    scene.lost(here, "it closed the connection", 3.0)
    assert not scene.answers("0")
    assert scene.expect(later)
    assert scene.tell(later, StatusNews(status_of("0", "Follower")), 4.0)
    assert list(scene.servers) == [later]


def test_a_leader_that_is_not_watched_is_named() -> None:
    scene = Scene()
    scene.expect(TWO)
    assert "no leader is known" in drawn(scene)
    scene.tell(TWO, StatusNews(status_of("1", "Follower")), 1.0)
    assert "0 leads, and is not watched" in drawn(scene)


def test_what_servers_say_cannot_move_the_cursor() -> None:
    scene = a_scene()
    scene.tell(
        ONE, StatusNews(status_of("0\x1b[2J", "Leader", last_role_change="\x07\n[red]")), 2.0
    )
    text = drawn(scene)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


async def test_a_cluster_is_followed_until_its_node_dies_and_beyond() -> None:
    heard: list[tuple[Address, NodeNews | None]] = []
    async with serving() as (node, service), client_of(service) as client:
        scene, died = Scene(), trio.Event()

        def changed(address: Address, news: NodeNews | None) -> None:
            heard.append((address, news))
            if isinstance(news, StatusNews):
                node.kill()
            elif news is None:
                died.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, client, scene, 0.01, changed)
            with trio.fail_after(10):
                await died.wait()
            nursery.cancel_scope.cancel()
    assert {address for address, _ in heard} == {service.address}
    assert any(isinstance(news, RoleNews) and news.role == "Dead" for _, news in heard)
    assert scene.servers[service.address].problem is not None


async def watch_once(address: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trioraft", "watch", "--once", address]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


async def test_once_prints_a_picture() -> None:
    async with serving() as (_, service):
        address = f"{service.address[0]}:{service.address[1]}"
        done = await watch_once(address)
    assert done.returncode == 0
    assert b"Leader" in done.stdout


def test_once_where_nobody_answers_or_nobody_can() -> None:
    with free_ports(1) as (nobody,):
        pass
    gone = run("watch", "--once", shown(nobody))
    assert gone.exit_code == 1
    assert "no server answered" in gone.stderr
    assert run("watch", "--once", "nowhere").exit_code == 2


async def test_json_lines_are_what_the_servers_tell() -> None:
    async with serving() as (_, service):
        address = f"{service.address[0]}:{service.address[1]}"
        with (
            Process(python("trioraft", "watch", "--json", address)) as process,
            trio.fail_after(30),
        ):
            line = (await process.lines())[0]
            process.signal(signal.SIGINT)
            assert await process.ended() == 0
    said = json.loads(line)
    assert said["server"] == address
    assert said["news"]["status"]["role"] == "Leader"
