"""The live page's own port, where it has one: beside a laboratory, and for `trioraft dashboard`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from ..core.types import Address
from ..net.addresses import AddressRules, host_port
from ..net.listening import listen

LEAVE_S: Final = 1.0
"""How long requests may take to end when the port is closed, in seconds."""


@asynccontextmanager
async def open_page(
    address: Address, app_for: Callable[[frozenset[str]], Any]
) -> AsyncIterator[Address]:
    """Serve an application at this address, for the body of the `async with`.

    Args:
        address: of this machine; port 0 lets the system choose.
        app_for: makes the application, for requests that call the server one of these names.

    Yields:
        The address, with the real port.

    Raises:
        ConfigError: the address is none, or not this machine's own.
        OSError: it cannot be used.
    """
    checked = AddressRules(False, False, "look at the cluster").check("listen", address, port_min=0)
    sock = await listen(checked, f"the page cannot be served at {host_port(checked)}")
    host, port = checked[0], sock.getsockname()[1]
    names = {host_port((host, port)), f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.graceful_timeout = LEAVE_S
    config.shutdown_timeout = LEAVE_S
    config.errorlog = logging.getLogger("trioraft.http")
    config.include_server_header = False
    over = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
            await serve(
                app_for(frozenset(names)),
                config,
                shutdown_trigger=over.wait,
                task_status=task_status,
                mode="asgi",
            )

        await nursery.start(run)
        try:
            yield (host, port)
        finally:
            over.set()
            nursery.cancel_scope.cancel()
