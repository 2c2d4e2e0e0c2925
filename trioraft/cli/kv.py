"""`trioraft kv put|get|cas|append|delete|range|watch`.

Keys and values are bytes: an argument is taken as the bytes it was typed as. What is shown on
lines, and on a terminal, has no raw control characters; `get` into a pipe or a file gives the
value's own bytes. `--json` is exact: what is not UTF-8 stands in base64.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import trio
import typer

from ..core.escaping import escaped
from ..kv.client import KvClient
from ..kv.commands import VALUE_BYTES_MAX, Change, Pair, Written
from ..rpc.errors import ServerLeaving, ServerLost
from .connecting import EXITS_HELP, ReachedCluster, SaidNo, reaching
from .saying import complain, say, say_block, say_bytes, say_json

HELP: Final = f"""\
Read and write the keys and values that `trioraft serve` keeps.

Example:  trioraft kv put colour red --address 127.0.0.1:8000

{EXITS_HELP} No: there is no such key, or it is not as expected.
"""

RETRY_S: Final = 0.2
"""Pause before a watch goes on at another server."""

app: typer.Typer = typer.Typer(no_args_is_help=True, help=HELP)


def add_to(app_above: typer.Typer) -> None:
    """Add the commands."""
    app_above.add_typer(app, name="kv")


Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="The value; - for standard input.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")]
Previous = Annotated[bool, typer.Option("--previous", help="Show the value that was there before.")]
Prefix = Annotated[
    str, typer.Argument(metavar="[PREFIX]", help="Of the keys; default: all.", show_default=False)
]


@app.command()
@reaching
async def put(
    cluster: ReachedCluster,
    name: Key,
    value: Value,
    previous: Previous = False,
    as_json: AsJson = False,
) -> None:
    """Set a key's value."""
    content = _value(value)
    written = await KvClient(cluster.client).put(_bytes(name), content, wants_previous=previous)
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
    content = _value(value)
    written = await KvClient(cluster.client).append(_bytes(name), content, wants_previous=previous)
    _show_written(written, previous, as_json)


@app.command()
@reaching
async def delete(
    cluster: ReachedCluster, name: Key, previous: Previous = False, as_json: AsJson = False
) -> None:
    """Remove a key. The answer is no if it was not there."""
    written = await KvClient(cluster.client).delete(_bytes(name), wants_previous=previous)
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
        typer.Option(metavar="VALUE", show_default=False, help="The value that must be there."),
    ] = None,
    expect_absent: Annotated[
        bool, typer.Option("--expect-absent", help="The key must not be there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare and set: set a key's value if it is as expected."""
    if (expect is None) != expect_absent:
        raise typer.BadParameter("give exactly one of --expect and --expect-absent")
    if expect == value == "-":
        raise typer.BadParameter("standard input can be one of the values, not both")
    wanted = None if expect is None else _value(expect)
    content = _value(value)
    swapped = await KvClient(cluster.client).cas(_bytes(name), wanted, content)
    if as_json:
        _print_json(index=swapped.index, swapped=swapped.swapped, found=swapped.found)
    elif swapped.swapped:
        say(f"set, index {swapped.index}")
    else:
        found = "absent" if swapped.found is None else _shown(swapped.found)
        say(f"not set, found: {found}")
    if not swapped.swapped:
        raise SaidNo


@app.command()
@reaching
async def get(
    cluster: ReachedCluster,
    name: Key,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The value's bytes and nothing else, on a terminal too."),
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="What any server has, at once; perhaps not the latest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a key's value. The answer is no if it is not there."""
    found = await KvClient(cluster.client).find(
        _bytes(name), consistency="stale" if stale else "linearizable"
    )
    if as_json:
        _print_json(
            key=_bytes(name),
            value=found.value,
            index=found.index,
            changed_index=found.changed_index,
        )
    elif found.value is not None:
        if raw or not sys.stdout.isatty():
            say_bytes(found.value + (b"" if raw else b"\n"))
        else:
            say_block(found.value.decode("utf-8", "backslashreplace"))
    if found.value is None:
        raise SaidNo


@app.command("range")
@reaching
async def range_(
    cluster: ReachedCluster,
    prefix: Prefix = "",
    limit: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="At most so many.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the keys that begin with a prefix, in order, each with its value."""
    shown = 0
    async for pair in KvClient(cluster.client).range(_bytes(prefix)):
        _show_pair(pair, as_json)
        shown += 1
        if shown == limit:
            return


@app.command()
@reaching
async def watch(
    cluster: ReachedCluster,
    prefix: Prefix = "",
    from_index: Annotated[
        int | None,
        typer.Option(
            "--from",
            min=1,
            metavar="INDEX",
            show_default=False,
            help="From this index on; default: what changes from now on.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="End after so many changes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show changes as they are made, until Ctrl-C. Goes on at another server by itself."""
    kv = KvClient(cluster.client)
    shown = 0
    wanted = from_index
    if wanted is None:
        wanted = (await kv.page(_bytes(prefix), items_max=1)).index + 1
    while True:
        try:
            async with kv.watch(_bytes(prefix), from_index=wanted) as changes:
                async for change in changes:
                    _show_change(change, as_json)
                    wanted = change.index + 1
                    shown += 1
                    if shown == count:
                        return
        except (ServerLost, ServerLeaving) as error:
            complain(f"trioraft: {error}; going on at another server")
            await trio.sleep(RETRY_S)


# -- showing -------------------------------------------------------------------------------


def _show_written(written: Written, wants_previous: bool, as_json: bool) -> None:
    if as_json:
        previous = {"previous": written.previous} if wants_previous else {}
        _print_json(index=written.index, existed=written.existed, **previous)
        return
    say(f"index {written.index}" + ("" if written.existed else ", was absent"))
    if wants_previous and written.previous is not None:
        say(f"previous: {_shown(written.previous)}")


def _show_pair(pair: Pair, as_json: bool) -> None:
    if as_json:
        _print_json(key=pair.key, value=pair.value, changed_index=pair.changed_index)
    else:
        say(f"{_shown(pair.key)}\t{_shown(pair.value)}")


def _show_change(change: Change, as_json: bool) -> None:
    if as_json:
        _print_json(
            index=change.index, kind=change.kind.name.lower(), key=change.key, value=change.value
        )
    elif change.value is None:
        say(f"{change.index}\tdeleted\t{_shown(change.key)}", flush=True)
    else:
        say(f"{change.index}\tset\t{_shown(change.key)}\t{_shown(change.value)}", flush=True)


def _shown(content: bytes) -> str:
    """As text, without anything that a terminal or a line would take for something else."""
    return escaped(content.decode("utf-8", "backslashreplace"))


def _print_json(**fields: Any) -> None:
    exact: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, bytes):
            try:
                exact[name] = value.decode()
            except UnicodeDecodeError:
                exact[f"{name}_base64"] = base64.b64encode(value).decode()
        else:
            exact[name] = value
    say_json(json.dumps(exact, ensure_ascii=False))


# -- reading -------------------------------------------------------------------------------


def _value(text: str) -> bytes:
    """At most one byte more than a value may have: the standard input may never end."""
    return sys.stdin.buffer.read(VALUE_BYTES_MAX + 1) if text == "-" else _bytes(text)


_bytes: Callable[[str], bytes] = os.fsencode
"""An argument as the bytes that it was given as."""
