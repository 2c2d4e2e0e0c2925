"""Three servers on this machine, and a client that does not notice that one of them dies.

    python examples/three_processes.py

It starts `trioraft serve` three times, writes, kills the leader with SIGKILL, and goes on writing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trio

from trioraft import Client
from trioraft.kv import ERROR_TYPES, KvClient

IDS = ("0", "1", "2")
PEERS_AT = {node_id: f"127.0.0.1:{7400 + int(node_id)}" for node_id in IDS}
CLIENTS_AT = {node_id: ("127.0.0.1", 8400 + int(node_id)) for node_id in IDS}


def start(node_id: str, data: Path) -> subprocess.Popen[str]:
    """Start one server."""
    options = ["--id", node_id, "--listen", PEERS_AT[node_id], "--data", str(data), "--create-data"]
    options += ["--client-listen", "{}:{}".format(*CLIENTS_AT[node_id])]
    for peer in IDS:
        options += ["--peer", f"{peer}={PEERS_AT[peer]}"]
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "trioraft", "serve", *options, "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_ready(server: subprocess.Popen[str]) -> None:
    """Wait for the line that says that it serves."""
    line = "" if server.stdout is None else server.stdout.readline().rstrip()
    if not line:
        raise SystemExit(f"a server did not start; its exit code is {server.wait()}")
    print(line)


async def use(servers: dict[str, subprocess.Popen[str]]) -> None:
    """Write, lose the leader, and go on."""
    async with Client(CLIENTS_AT, error_types=ERROR_TYPES) as client:
        kv = KvClient(client)
        await kv.put("greeting", "hello")
        leader = (await client.status()).node_id
        print(f"{leader} leads; killing it")
        servers[leader].kill()
        await kv.append("greeting", ", world")  # finds the next leader, and appends once
        greeting = await kv.get("greeting")
        successor = (await client.status()).node_id
        print(f"{successor} leads now, and says: {(greeting or b'').decode()}")


def main() -> None:
    """Start the servers, use them, and stop them."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as processes:
        servers = {}
        for node_id in IDS:
            servers[node_id] = server = start(node_id, Path(directory) / node_id)
            processes.enter_context(server)  # waits for it in the end
            processes.callback(server.terminate)
        for server in servers.values():
            wait_ready(server)
        trio.run(use, servers)


if __name__ == "__main__":
    main()
