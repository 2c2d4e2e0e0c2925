"""A service on asyncio, three times: a counter, a lock, and a job for the leader.

See shared.py for how to start it. The node lives in a thread of its own, so a handler that blocks
the event loop deposes nobody.
"""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web
from shared import LEASE_S, REPORT_S, TOLD, Ledger, Options, status_of

from trioraft import aio
from trioraft.structures import Counter, Lock


async def serve(options: Options) -> None:
    """Open the node, serve HTTP beside it, and do the leader's job when it is ours."""
    ledger = Ledger(options.directory / "ledger.txt")
    async with aio.open_node(**options.for_open_node()) as node:
        count = Counter.through(node, part="count")
        reports = Counter.through(node, part="reports")
        lock = Lock.through(node, part="lock")

        async def job(term: int) -> None:
            """Only the leader does this; it is cancelled when another one leads."""
            while True:
                number = await reports.add(1)
                with (options.directory / "reports.txt").open("a") as file:
                    file.write(f"{term} {options.name} {number}\n")
                await asyncio.sleep(REPORT_S)

        async def add(_: web.Request) -> web.Response:
            return web.json_response({"count": await count.add(1)})

        async def get(_: web.Request) -> web.Response:
            return web.json_response({"count": await count.get()})

        async def guarded(_: web.Request) -> web.Response:
            async with lock.hold(options.name, lease_s=LEASE_S) as grant:
                ledger.begin(grant.token, options.name)
                await asyncio.sleep(0.01)  # the work
                ledger.end(grant.token, options.name)
                return web.json_response({"token": grant.token})

        async def leader(_: web.Request) -> web.Response:
            status = await node.wait(lambda status: status.leader_id is not None)
            return web.json_response({"leader": status.leader_id, "term": status.term})

        service = web.Application(middlewares=[errors_as_statuses])
        service.add_routes(
            [
                web.post("/count", add),
                web.get("/count", get),
                web.post("/guarded", guarded),
                web.get("/leader", leader),
            ]
        )
        runner = web.AppRunner(service, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", options.http_port).start()
            print("serving", flush=True)
            await until_terminated(aio.run_while_leader(node, job))
        finally:
            await runner.cleanup()


@web.middleware
async def errors_as_statuses(request: web.Request, handler: web.Handler) -> web.StreamResponse:
    """What went wrong is for whoever asked."""
    try:
        return await handler(request)
    except TOLD as error:
        return web.json_response({"error": str(error)}, status=status_of(error))


async def until_terminated(job: object) -> None:
    """Run the leader's job until SIGTERM or Ctrl-C."""
    task = asyncio.ensure_future(job)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    asyncio.run(serve(Options.from_command_line()))
