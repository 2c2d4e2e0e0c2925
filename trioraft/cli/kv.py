"""`trioraft kv put|get|cas|append|incr|delete|list|watch`; others stand in `kv_…`.

Keys and values are bytes: an argument is taken as the bytes it was typed as. What is shown on
lines, and on a terminal, has no raw control characters; `get` into a pipe or a file gives the
value's own bytes. `--json` is exact: what is not UTF-8 stands in base64.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import AsyncExitStack
from typing import Annotated, Final

import anyio
import click

from ..kv.client import KvClient
from ..kv.commands import CHANGES_MAX, Change, Pair, Swapped, Written
from ..rpc.errors import DeadlineExceeded, ServerLeaving, ServerLost
from . import kv_leases, kv_turns, kv_txn
from .connecting import EXITS_HELP, ReachedCluster, SaidNo, reaching
from .kv_values import (
    AsJson,
    Key,
    Prefix,
    Previous,
    Value,
    as_bytes,
    print_json,
    shown,
    ttl_s_of,
    value_of,
)
from .saying import complain, say, say_block, say_bytes
from .signature import Argument, BadParameter, Commands, Option

HELP: Final = f"""\
Read and write the keys and values that `trioraft serve` keeps.

Example:  trioraft kv put colour red --address 127.0.0.1:8000

{EXITS_HELP} No: there is no such key, or it is not as expected.
"""

RETRY_S: Final = 0.2
"""Pause before a watch goes on at another server."""


app: Commands = Commands(help=HELP)


def command() -> click.Command:
    """All of them."""
    app.include(kv_txn.app)
    app.include(kv_turns.app)
    app.add("lease", kv_leases.app.group("lease"))
    return app.group("kv")


@app.command()
@reaching
async def put(
    cluster: ReachedCluster,
    name: Key,
    value: Value,
    ttl: Annotated[
        str | None,
        Option(metavar="TIME", show_default=False, help="The key goes after so long, as 10s."),
    ] = None,
    lease: Annotated[
        int | None,
        Option(min=1, metavar="ID", show_default=False, help="The key goes with this lease."),
    ] = None,
    previous: Previous = False,
    as_json: AsJson = False,
) -> None:
    """Set a key's value."""
    content, ttl_s = value_of(value), ttl_s_of(ttl)
    written = await KvClient(cluster.client).put(
        as_bytes(name), content, lease=lease, ttl_s=ttl_s, wants_previous=previous
    )
    _show_written(written, previous, as_json)


@app.command()
@reaching
async def append(
    cluster: ReachedCluster,
    name: Key,
    value: Value,
    previous: Previous = False,
    as_json: AsJson = False,
) -> None:
    """Append to a key's value; an absent one counts as empty."""
    content = value_of(value)
    written = await KvClient(cluster.client).append(
        as_bytes(name), content, wants_previous=previous
    )
    _show_written(written, previous, as_json)


@app.command()
@reaching
async def delete(
    cluster: ReachedCluster,
    name: Key,
    expect: Annotated[
        str | None,
        Option("--if", metavar="VALUE", show_default=False, help="Only if it has this value."),
    ] = None,
    index: Annotated[
        int | None,
        Option(
            "--if-index",
            min=1,
            metavar="INDEX",
            show_default=False,
            help="Only if this command last changed it.",
        ),
    ] = None,
    by_prefix: Annotated[
        bool, Option("--prefix", help="All keys that begin with KEY, which may be empty.")
    ] = False,
    previous: Previous = False,
    as_json: AsJson = False,
) -> None:
    """Remove a key, or many. The answer is no if there was none, or it was not as expected."""
    kv = KvClient(cluster.client)
    is_conditional = expect is not None or index is not None
    if by_prefix + is_conditional + previous > 1:
        raise BadParameter("give one of --prefix, --previous, and --if with --if-index")
    if by_prefix:
        await _delete_all(kv, as_bytes(name), as_json)
        return
    if is_conditional:
        expected = None if expect is None else value_of(expect)
        swapped = await kv.delete_if(as_bytes(name), expected, changed_index=index)
        _show_swapped(swapped, as_json, done="deleted")
        return
    written = await kv.delete(as_bytes(name), wants_previous=previous)
    _show_written(written, previous, as_json)
    if not written.existed:
        raise SaidNo


@app.command()
@reaching
async def cas(
    cluster: ReachedCluster,
    name: Key,
    value: Value,
    expect: Annotated[
        str | None,
        Option(metavar="VALUE", show_default=False, help="The value that must be there."),
    ] = None,
    expect_absent: Annotated[
        bool, Option("--expect-absent", help="The key must not be there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare and set: set a key's value if it is as expected."""
    if (expect is None) != expect_absent:
        raise BadParameter("give exactly one of --expect and --expect-absent")
    if expect == value == "-":
        raise BadParameter("standard input can be one of the values, not both")
    wanted = None if expect is None else value_of(expect)
    content = value_of(value)
    swapped = await KvClient(cluster.client).cas(as_bytes(name), wanted, content)
    _show_swapped(swapped, as_json, done="set")


@app.command()
@reaching
async def incr(
    cluster: ReachedCluster,
    name: Key,
    by: Annotated[int, Argument(metavar="[BY]", help="What to add; default: 1.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Add to a number, and show it; an absent one is 0. (A negative one comes after --.)"""
    added = await KvClient(cluster.client).increment(as_bytes(name), by)
    if as_json:
        print_json(index=added.index, number=added.number)
    else:
        say(str(added.number))


@app.command()
@reaching
async def get(
    cluster: ReachedCluster,
    name: Key,
    raw: Annotated[
        bool,
        Option("--raw", help="The value's bytes and nothing else, on a terminal too."),
    ] = False,
    stale: Annotated[
        bool, Option("--stale", help="What any server has, at once; perhaps not the latest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a key's value. The answer is no if it is not there."""
    found = await KvClient(cluster.client).find(
        as_bytes(name), consistency="stale" if stale else "linearizable"
    )
    if as_json:
        print_json(
            key=as_bytes(name),
            value=found.value,
            index=found.index,
            changed_index=found.changed_index,
            created_index=found.created_index,
            version=found.version,
            lease=found.lease_id,
        )
    elif found.value is not None:
        if raw or not sys.stdout.isatty():
            say_bytes(found.value + (b"" if raw else b"\n"))
        else:
            say_block(found.value.decode("utf-8", "backslashreplace"))
    if found.value is None:
        raise SaidNo


@app.command("range")
@app.command("list")
@reaching
async def list_(
    cluster: ReachedCluster,
    prefix: Prefix = "",
    until: Annotated[
        str | None,
        Option(
            metavar="KEY",
            show_default=False,
            help="Those from PREFIX up to this one, which is not shown, instead.",
        ),
    ] = None,
    after: Annotated[
        str | None,
        Option(metavar="KEY", show_default=False, help="Only those behind this one."),
    ] = None,
    limit: Annotated[int | None, Option(min=1, show_default=False, help="At most so many.")] = None,
    keys_only: Annotated[bool, Option("--keys-only", help="Without their values.")] = False,
    reverse: Annotated[bool, Option("--reverse", help="From the last one on.")] = False,
    count: Annotated[bool, Option("--count", help="Only how many there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the keys that begin with a prefix, in order, each with its value."""
    kv = KvClient(cluster.client)
    end = None if until is None else as_bytes(until)
    if count:
        if after is not None or limit is not None:
            raise BadParameter("--count counts all of them: leave out --after and --limit")
        number = await kv.count(as_bytes(prefix), until=end)
        print_json(count=number) if as_json else say(str(number))
        return
    last = None if after is None else as_bytes(after)
    missing = limit
    while True:
        page = await kv.page(
            as_bytes(prefix),
            until=end,
            after=last,
            items_max=1000 if missing is None else min(1000, missing),
            keys_only=keys_only,
            is_descending=reverse,
        )
        for pair in page.pairs:
            _show_pair(pair, as_json, keys_only=keys_only)
            last = pair.key
        missing = None if missing is None else missing - len(page.pairs)
        if not page.has_more:
            return
        if missing == 0:
            complain(f"trioraft: there are more: --after {shlex.quote(os.fsdecode(last or b''))}")
            return


@app.command()
@reaching
async def watch(
    cluster: ReachedCluster,
    prefix: Prefix = "",
    exact: Annotated[bool, Option("--exact", help="Only the key itself.")] = False,
    previous: Annotated[bool, Option("--previous", help="With --json: the values before.")] = False,
    from_index: Annotated[
        int | None,
        Option(
            "--from",
            min=1,
            metavar="INDEX",
            show_default=False,
            help="From this index on; default: what changes from now on.",
        ),
    ] = None,
    count: Annotated[
        int | None, Option(min=1, show_default=False, help="End after so many changes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show changes as they are made, until Ctrl-C. Goes on at another server by itself.

    It fails when none is reached for as long as --timeout says.
    """
    kv = KvClient(cluster.client)
    shown, said = 0, ""
    wanted = from_index
    if wanted is None:
        wanted = (await kv.find(as_bytes(prefix))).index + 1
    begin, key = (b"", as_bytes(prefix)) if exact else (as_bytes(prefix), None)
    while True:
        try:
            async with AsyncExitStack() as stack:
                with anyio.move_on_after(cluster.timeout_s) as patience:
                    watching = kv.watch(begin, key=key, from_index=wanted, wants_previous=previous)
                    changes = await stack.enter_async_context(watching)
                if patience.cancelled_caught:
                    raise DeadlineExceeded(
                        f"no server was reached within {cluster.timeout_s:g} s: see whether one "
                        "runs at these --address, or give a longer --timeout"
                    )
                async for change in changes:
                    said = ""
                    _show_change(change, as_json, previous)
                    wanted = change.index + 1
                    shown += 1
                    if shown == count:
                        return
        except (ServerLost, ServerLeaving) as error:
            if str(error) != said:  # and not five times a second, while nobody answers
                said = str(error)
                complain(f"trioraft: {error}; going on at another server")
            await anyio.sleep(RETRY_S)


async def _delete_all(kv: KvClient, prefix: bytes, as_json: bool) -> None:
    """In steps: each is done as a whole."""
    count = 0
    while True:
        deleted = await kv.delete_range(prefix, limit=CHANGES_MAX)
        count += deleted.count
        if not deleted.has_more:
            break
    if as_json:
        print_json(index=deleted.index, deleted=count)
    else:
        say(f"{count} deleted, index {deleted.index}")
    if not count:
        raise SaidNo


# -- showing -------------------------------------------------------------------------------


def _show_written(written: Written, wants_previous: bool, as_json: bool) -> None:
    if as_json:
        previous = {"previous": written.previous} if wants_previous else {}
        print_json(index=written.index, existed=written.existed, **previous)
        return
    say(f"index {written.index}" + ("" if written.existed else ", was absent"))
    if wants_previous and written.previous is not None:
        say(f"previous: {shown(written.previous)}")


def _show_swapped(swapped: Swapped, as_json: bool, *, done: str) -> None:
    if as_json:
        print_json(index=swapped.index, swapped=swapped.swapped, found=swapped.found)
    elif swapped.swapped:
        say(f"{done}, index {swapped.index}")
    else:
        found = "absent" if swapped.found is None else shown(swapped.found)
        say(f"not {done}, found: {found}")
    if not swapped.swapped:
        raise SaidNo


def _show_pair(pair: Pair, as_json: bool, *, keys_only: bool = False) -> None:
    if as_json:
        value = {} if keys_only else {"value": pair.value}
        print_json(
            key=pair.key,
            **value,
            changed_index=pair.changed_index,
            created_index=pair.created_index,
            version=pair.version,
            lease=pair.lease_id,
        )
    elif keys_only:
        say(shown(pair.key))
    else:
        say(f"{shown(pair.key)}\t{shown(pair.value)}")


def _show_change(change: Change, as_json: bool, wants_previous: bool) -> None:
    if as_json:
        print_json(
            index=change.index,
            kind=change.kind.name.lower(),
            key=change.key,
            value=change.value,
            **({"previous": change.previous} if wants_previous else {}),
            created_index=change.created_index,
            version=change.version,
            lease=change.lease_id,
        )
    elif change.value is None:
        say(f"{change.index}\t{change.kind.name.lower()}\t{shown(change.key)}", flush=True)
    else:
        say(f"{change.index}\tset\t{shown(change.key)}\t{shown(change.value)}", flush=True)
