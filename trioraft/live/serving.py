"""The live page's own port, where it has one: of a laboratory, and of `trioraft dashboard`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from ..core.types import Address
from ..http.limits import HttpLimits
from ..http.server import Server
from ..net.addresses import AddressRules, host_port
from ..net.listening import listen
from ..tasks.background import running_beside

LIMITS: Final = HttpLimits(idle_timeout_s=120.0)


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
    tell = logging.getLogger("trioraft.live").warning
    server = Server(app_for(frozenset(names)), sock, LIMITS, None, tell)
    async with running_beside(server.run, stop=server.stop, name="page"):
        yield (host, port)
