"""`trioraft kv lease grant|keep|revoke|ttl`."""

from __future__ import annotations

from typing import Annotated

import anyio

from ..kv.client import KvClient
from ..kv.leasing import RENEWALS_PER_LEASE, Lease
from .connecting import ReachedCluster, SaidNo, parsed, reaching
from .kv_values import AsJson, as_bytes, print_json, shown
from .saying import say
from .signature import Argument, Commands, Option
from .values import parse_duration_s

app: Commands = Commands(
    help="Grant leases: keys that are put with one (kv put --lease) go when it ends."
)

Id = Annotated[int, Argument(metavar="ID", min=1, help="What granting it said.")]
Prefix = Annotated[
    str,
    Option(
        show_default=False,
        help="What the keys begin with that may belong to it; part of its name.",
    ),
]


@app.command()
@reaching
async def grant(
    cluster: ReachedCluster,
    ttl: Annotated[str, Argument(metavar="TIME", help="How long it lasts, as 500ms or 10s.")],
    prefix: Prefix = "",
    as_json: AsJson = False,
) -> None:
    """Have a lease granted; its id is shown."""
    ttl_s = parsed(parse_duration_s, ttl, "TIME")
    lease = await KvClient(cluster.client).grant(ttl_s, prefix=as_bytes(prefix))
    if as_json:
        print_json(lease=lease.lease_id, ttl_s=lease.ttl_s)
    else:
        say(str(lease.lease_id))


@app.command()
@reaching
async def keep(
    cluster: ReachedCluster,
    lease_id: Id,
    prefix: Prefix = "",
    once: Annotated[bool, Option("--once", help="Renew it once, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Renew a lease, again and again, until Ctrl-C."""
    kv = KvClient(cluster.client)
    lease = Lease(lease_id, 0.0, as_bytes(prefix))
    while True:
        index = await kv.keep_alive(lease)
        if as_json:
            print_json(lease=lease_id, index=index)
        else:
            say(f"renewed, index {index}", flush=True)
        if once:
            return
        life = await kv.time_to_live(lease)
        if life is not None:
            await anyio.sleep(life.ttl_ms / 1000 / RENEWALS_PER_LEASE)


@app.command()
@reaching
async def revoke(
    cluster: ReachedCluster, lease_id: Id, prefix: Prefix = "", as_json: AsJson = False
) -> None:
    """End a lease now; its keys are gone with it."""
    kv = KvClient(cluster.client)
    deleted = await kv.revoke(Lease(lease_id, 0.0, as_bytes(prefix)))
    if as_json:
        print_json(index=deleted.index, deleted=deleted.count)
    else:
        say(f"revoked, {deleted.count} keys with it, index {deleted.index}")


@app.command()
@reaching
async def ttl(
    cluster: ReachedCluster, lease_id: Id, prefix: Prefix = "", as_json: AsJson = False
) -> None:
    """Show how long a lease lasts, and its keys. The answer is no if there is no such lease."""
    kv = KvClient(cluster.client)
    life = await kv.time_to_live(Lease(lease_id, 0.0, as_bytes(prefix)))
    if life is None:
        raise SaidNo
    remaining_s, ttl_s = life.remaining_ms / 1000, life.ttl_ms / 1000
    if as_json:
        keys = [shown(key) for key in life.keys]
        print_json(lease=lease_id, ttl_s=ttl_s, remaining_s=remaining_s, keys=keys)
        return
    say(f"{remaining_s:.1f}s of {ttl_s:g}s, {len(life.keys)} keys")
    for key in life.keys:
        say(shown(key))
