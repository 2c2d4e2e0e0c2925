"""Two leaks of trio-websocket 0.12.2, shown against the released version from the package index.

    pip install trio-websocket==0.12.2
    python -m benchmarks.trio_websocket_leaks

Rules of this file:

* Only the library's public functions are called, as its documentation shows them; nothing of its
  source is here.
* Each function prints what it saw, and the program exits 1 while one of the two can be seen.

## 1. A refused handshake leaves the client's socket open

`open_websocket` opens a TCP stream. If the server answers the handshake with anything but 101 it
raises `ConnectionRejected`, and the stream is not closed: the caller was given nothing to close.
Each refused attempt costs a descriptor until the garbage collector comes by, and the server sees
the connection stay open. Expected: the stream is closed before `ConnectionRejected` is raised.

## 2. Closing returns early when the peer closed first

If the peer's close frame came first, `aclose()` returns at once, while the TCP stream is still
open: a task in the background is to close it when the peer does. `open_websocket` calls `aclose()`
and then cancels that task, so the stream is never closed. Expected: `aclose()` returns when the
stream is closed, whoever closed first.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import trio

from trioleaks import LeakError, LeakKind, no_leaks


async def refused(library: Any) -> bool:
    """Whether a refused handshake leaves the client's socket open."""

    async def refuse(request: Any) -> None:
        await request.reject(403)

    async def attempt(port: int) -> None:
        try:
            async with library.open_websocket("127.0.0.1", port, "/", use_ssl=False):
                print("  the server did not refuse")
        except library.ConnectionRejected as error:
            print(f"  the server refused with {error.status_code}")

    return await _leaves_a_socket(library, refuse, attempt)


async def closed_by_peer(library: Any) -> bool:
    """Whether leaving a connection that the peer closed first leaves its socket open."""

    async def close_first(request: Any) -> None:
        await (await request.accept()).aclose()

    async def attempt(port: int) -> None:
        async with library.open_websocket("127.0.0.1", port, "/", use_ssl=False) as connection:
            try:
                await connection.get_message()
            except library.ConnectionClosed as error:
                print(f"  the peer closed with {error.reason.code}")

    return await _leaves_a_socket(library, close_first, attempt)


async def _leaves_a_socket(library: Any, handler: Any, attempt: Any) -> bool:
    async with trio.open_nursery() as nursery:
        serve = partial(library.serve_websocket, handler, "127.0.0.1", 0, ssl_context=None)
        server = await nursery.start(serve)
        try:
            async with no_leaks(kinds=[LeakKind.SOCKET]):
                await attempt(server.port)
        except LeakError as error:
            print(f"{error}\n")
            return True
        finally:
            nursery.cancel_scope.cancel()
    print("  nothing is left\n")
    return False


def main() -> int:
    """Show both."""
    try:
        import trio_websocket  # type: ignore[import-not-found]  # it is no need of ours
    except ImportError:
        print("pip install trio-websocket==0.12.2 first", file=sys.stderr)
        return 2
    print("1. a refused handshake")
    first = trio.run(refused, trio_websocket)
    print("2. the peer closes first")
    second = trio.run(closed_by_peer, trio_websocket)
    return 1 if first or second else 0


if __name__ == "__main__":
    sys.exit(main())
