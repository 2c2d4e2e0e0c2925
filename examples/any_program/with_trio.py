"""The service of with_aiohttp.py on Trio, with HTTP by h11: the node runs in its own event loop."""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import h11
import trio
from shared import LEASE_S, REPORT_S, TOLD, Ledger, Options, status_of

from trioraft import Node, open_node, run_while_leader

Routes: TypeAlias = dict[str, Callable[[], Awaitable[dict[str, Any]]]]


async def serve(options: Options) -> None:
    """Open the node, serve HTTP beside it, and do the leader's job when it is ours."""
    async with open_node(**options.for_open_node()) as node:
        options.machine.attach(node)
        async with trio.open_nursery() as nursery:
            routes = partial(answer, routes_of(options, node))
            await nursery.start(
                partial(trio.serve_tcp, routes, options.http_port, host="127.0.0.1")
            )
            nursery.start_soon(run_while_leader, node, partial(job, options))
            print("serving", flush=True)
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel()


async def job(options: Options, term: int) -> None:
    """Only the leader does this; it is cancelled when another one leads."""
    while True:
        number = await options.reports.add(1)
        with (options.directory / "reports.txt").open("a") as file:
            file.write(f"{term} {options.name} {number}\n")
        await trio.sleep(REPORT_S)


def routes_of(options: Options, node: Node) -> Routes:
    """What is answered to whom."""
    ledger = Ledger(options.directory / "ledger.txt")

    async def add() -> dict[str, Any]:
        return {"count": await options.count.add(1)}

    async def get() -> dict[str, Any]:
        return {"count": await options.count.get()}

    async def guarded() -> dict[str, Any]:
        async with options.lock.hold(options.name, lease_s=LEASE_S) as grant:
            ledger.begin(grant.token, options.name)
            await trio.sleep(0.01)  # the work
            ledger.end(grant.token, options.name)
            return {"token": grant.token}

    async def leader() -> dict[str, Any]:
        status = await node.wait(lambda status: status.leader_id is not None)
        return {"leader": status.leader_id, "term": status.term}

    return {
        "POST /count": add,
        "GET /count": get,
        "POST /guarded": guarded,
        "GET /leader": leader,
    }


async def answer(routes: Routes, stream: trio.SocketStream) -> None:
    """One connection: request after request."""
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            request = await next_event(connection, stream)
            if not isinstance(request, h11.Request):
                return
            while not isinstance(await next_event(connection, stream), h11.EndOfMessage):
                pass  # nobody sends anything that we read
            route = routes.get(f"{request.method.decode()} {request.target.decode()}")
            try:
                status, said = (404, {}) if route is None else (200, await route())
            except TOLD as error:
                status, said = status_of(error), {"error": str(error)}
            body = json.dumps(said).encode()
            headers = [("Content-Length", str(len(body)))]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                await stream.send_all(connection.send(event) or b"")
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()
    except (h11.RemoteProtocolError, trio.BrokenResourceError):
        return  # it went away, or never spoke HTTP


async def next_event(connection: h11.Connection, stream: trio.SocketStream) -> object:
    """What the client says next."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(2**16))
    return event


if __name__ == "__main__":
    trio.run(serve, Options.from_command_line())
