"""An asyncio program that uses a key-value service: trioraft's client runs on both event loops.

Start a service, and give its client ports:

    trioraft serve --id 0 --listen 127.0.0.1:4000 --client-listen 127.0.0.1:4100 --data data-0
    python examples/asyncio_client.py 127.0.0.1:4100
"""

from __future__ import annotations

import asyncio
import sys

from trioraft import Client, DeadlineExceeded, OutcomeUnknown
from trioraft.kv import ERROR_TYPES, KvClient

WORKERS = 5
STEPS = 20


async def count(kv: KvClient) -> None:
    """Count one key up, against all the others who do the same."""
    for _ in range(STEPS):
        while True:
            before = await kv.get("counter")
            after = int(before or b"0") + 1
            if (await kv.cas("counter", before, str(after))).swapped:
                break


async def main(addresses: list[tuple[str, int]]) -> None:
    async with Client(addresses, timeout_s=10.0, error_types=ERROR_TYPES) as client:
        kv = KvClient(client)
        try:
            await kv.delete("counter")
            # All of them share one connection; each command is applied once, whatever happens to
            # the connection or to the leader meanwhile.
            await asyncio.gather(*(count(kv) for _ in range(WORKERS)))
            print(f"counted to {(await kv.get('counter') or b'').decode()}")
        except OutcomeUnknown as error:
            print(f"it may or may not have happened: {error}")
        except DeadlineExceeded as error:
            print(f"it did not happen: {error}")


if __name__ == "__main__":
    parts = [argument.rpartition(":") for argument in sys.argv[1:] or ["127.0.0.1:4100"]]
    asyncio.run(main([(host, int(port)) for host, _, port in parts]))
