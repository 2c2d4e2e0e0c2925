"""`trioraft watch`: a running cluster in the terminal, as it changes; elsewhere a line an event."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import anyio
import click
import msgspec
from rich.console import Console
from rich.live import Live

from ...client.client import Client
from ...core.errors import RaftError
from ...core.types import Address
from ...live.scene import Scene, listen
from ...net.addresses import host_port
from ...rpc.protocol import NodeNews
from ..connecting import ReachedCluster, reaching
from ..saying import WIDTH_ELSEWHERE, say, say_json
from ..signature import BadParameter, Option, command_of
from .picture import picture

HELP: Final = (
    "Watch a running cluster: who leads, since when and why; terms, commits, lag and links. "
    "End it with Ctrl-C. Servers that the named ones know of are found by themselves."
)
FRAME_S: Final = 0.1
"""Shortest time between two frames; the seconds of who is silent move once a second."""
CLOCK_S: Final = 1.0
"""Longest time between two frames."""


def command() -> click.Command:
    """The command."""
    return command_of(reaching(watch, by_arguments=True, until_interrupted=True), "watch", HELP)


async def watch(
    cluster: ReachedCluster,
    interval_ms: Annotated[
        int, Option(min=10, help="Shortest time between two statuses of one server.")
    ] = 100,
    once: Annotated[bool, Option("--once", help="Print one picture and end.")] = False,
    json: Annotated[
        bool, Option("--json", help="Print what the servers tell, one JSON object a line.")
    ] = False,
) -> None:
    if once and json:
        raise BadParameter("--once draws a picture; for JSON: trioraft admin status --json")
    interval_s = interval_ms / 1000
    console = Console(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)
    if once:
        await _once(cluster, interval_s, console)
    elif json or not console.is_terminal:
        await _lines(cluster.client, interval_s, as_json=json)
    else:
        await _live(cluster.client, interval_s, console)


async def _live(client: Client, interval_s: float, console: Console) -> None:
    scene, changed = Scene(), anyio.Event()

    def change(_address: Address, _news: NodeNews | None) -> None:
        changed.set()

    with Live(console=console, auto_refresh=False, transient=True, screen=False) as live:
        async with anyio.create_task_group() as listening:
            listening.start_soon(listen, client, scene, interval_s, change)
            while True:
                live.update(picture(scene, console, anyio.current_time()), refresh=True)
                with anyio.move_on_after(CLOCK_S):
                    await changed.wait()
                changed = anyio.Event()
                await anyio.sleep(FRAME_S)  # a picture has a frame rate; it waits for nothing


async def _once(cluster: ReachedCluster, interval_s: float, console: Console) -> None:
    """A picture as soon as it is known of everybody whether he answers, or when time is up."""
    scene, complete = Scene(), anyio.Event()

    def change(_address: Address, _news: NodeNews | None) -> None:
        if all(server.is_known for server in scene.servers.values()):
            complete.set()

    async with anyio.create_task_group() as listening:
        listening.start_soon(listen, cluster.client, scene, interval_s, change)
        with anyio.move_on_after(cluster.timeout_s):
            await complete.wait()
        listening.cancel_scope.cancel()
    console.print(picture(scene, console, anyio.current_time()))
    if all(server.status is None for server in scene.servers.values()):
        raise RaftError("no server answered: see the reasons above")


async def _lines(client: Client, interval_s: float, *, as_json: bool) -> None:
    """A line for everything that happens; with `as_json`, statuses too."""
    scene, began_s = Scene(), anyio.current_time()

    def change(address: Address, news: NodeNews | None) -> None:
        since_s = anyio.current_time() - began_s
        if as_json:
            said = {"at_s": round(since_s, 6), "server": host_port(address), "news": news}
            say_json(msgspec.json.encode(said).decode())
            return
        for happened in scene.take_untold():
            say(f"{since_s:8.3f} s  {happened.node}  {happened.text}", flush=True)

    await listen(client, scene, interval_s, change)
