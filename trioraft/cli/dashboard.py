"""`trioraft dashboard`: a running cluster in the browser, watched over the ports for clients."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Final

import click
import trio

from ..client.client import Client
from ..net.addresses import host_port
from .connecting import ReachedCluster, parsed, reaching
from .saying import say
from .signature import Option, command_of
from .values import parse_local_address

HELP: Final = """\
Show a running cluster in the browser: who leads, since when and why; terms, lag, links; the last \
minutes as a picture, and what is wrong.

One page, served on this machine, that watches all members from outside, over their ports for \
clients. Servers that the named ones know of are found by themselves. While no page is open, \
nothing is watched. End it with Ctrl-C.

Example:  trioraft dashboard 127.0.0.1:8000
"""


def command() -> click.Command:
    """The command."""
    shown = reaching(dashboard, by_arguments=True, until_interrupted=True, run=_run_trio)
    return command_of(shown, "dashboard", HELP)


async def dashboard(
    cluster: ReachedCluster,
    listen: Annotated[
        str,
        Option(
            metavar="HOST:PORT",
            help="Where the page is served, on this machine; port 0: a free one.",
        ),
    ] = "127.0.0.1:8600",
    every: Annotated[
        int, Option(min=1, help="Of the rounds of heartbeats, every so-manieth is drawn.")
    ] = 16,
) -> None:
    address = parsed(parse_local_address, listen, "--listen")
    from .extras import require_http

    require_http()
    from ..live.app import live_app
    from ..live.hub import Hub
    from ..live.serving import open_page

    def open_client() -> AbstractAsyncContextManager[Client, bool | None]:
        return nullcontext(cluster.client)  # it is open, and connected to nobody until it watches

    hub = Hub(open_client, every=every)
    with trio.open_signal_receiver(signal.SIGINT) as interrupted:
        async with (
            hub.open(),
            open_page(address, lambda hosts: live_app(hub, hosts)) as served,
        ):
            say(f"The cluster is shown at http://{host_port(served)}/", flush=True)
            await anext(interrupted)


def _run_trio(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)
