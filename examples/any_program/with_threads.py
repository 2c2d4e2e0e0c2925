"""The service of with_aiohttp.py without an event loop: a thread for each connection."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shared import LEASE_S, REPORT_S, TOLD, Ledger, Options, status_of

from trioraft import NodeDead, sync
from trioraft.structures import Counter, Lock


def serve(options: Options) -> None:
    """Open the node, serve HTTP beside it, and do the leader's job when it is ours."""
    ledger = Ledger(options.directory / "ledger.txt")
    with sync.open_node(**options.for_open_node()) as node:
        count = Counter.through(node, part="count")
        reports = Counter.through(node, part="reports")
        lock = Lock.through(node, part="lock")

        def job(leadership: sync.Leadership) -> None:
            """Only the leader does this; a thread cannot be cancelled, so it looks."""
            while not leadership.is_lost:
                number = reports.add(1)
                with (options.directory / "reports.txt").open("a") as file:
                    file.write(f"{leadership.term} {options.name} {number}\n")
                leadership.wait_lost(REPORT_S)

        def lead() -> None:
            try:
                sync.run_while_leader(node, job)
            except NodeDead:
                return  # it was left

        def guarded() -> dict[str, Any]:
            with lock.hold(options.name, lease_s=LEASE_S) as grant:
                ledger.begin(grant.token, options.name)
                threading.Event().wait(0.01)  # the work
                ledger.end(grant.token, options.name)
                return {"token": grant.token}

        def leader() -> dict[str, Any]:
            status = node.wait(lambda status: status.leader_id is not None)
            return {"leader": status.leader_id, "term": status.term}

        routes: dict[str, Callable[[], dict[str, Any]]] = {
            "POST /count": lambda: {"count": count.add(1)},
            "GET /count": lambda: {"count": count.get()},
            "POST /guarded": guarded,
            "GET /leader": leader,
        }
        address = ("127.0.0.1", options.http_port)
        with ThreadingHTTPServer(address, handler_of(routes)) as server:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
            threads = [threading.Thread(target=each) for each in (server.serve_forever, lead)]
            for thread in threads:
                thread.start()
            print("serving", flush=True)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                node.kill()  # whoever waits for it is told so
                server.shutdown()
                for thread in threads:
                    thread.join()


def handler_of(routes: dict[str, Callable[[], dict[str, Any]]]) -> type[BaseHTTPRequestHandler]:
    """What the standard library's server calls."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the body is a segment of its own, and would wait 40 ms
        timeout = 5.0  # an idle connection does not keep the service from ending

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            route = routes.get(f"{self.command} {self.path}")
            try:
                status, said = (404, {}) if route is None else (200, route())
            except TOLD as error:
                status, said = status_of(error), {"error": str(error)}
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


if __name__ == "__main__":
    serve(Options.from_command_line())
