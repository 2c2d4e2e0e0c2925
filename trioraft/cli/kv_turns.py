"""`trioraft kv lock NAME [-- COMMAND …]` and `trioraft kv elect NAME VALUE [-- COMMAND …]`.

Rules of this file:

* The command runs while the lock is held: in the foreground, with our streams, and with the token
  in its environment. Its exit code is ours.
* When the lock is lost, or we are told to end, the command is told to end too (SIGTERM), and killed
  if it does not; only then is the lock given back.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import anyio

from ..kv.client import KvClient
from .connecting import ReachedCluster, parsed, reaching
from .kv_values import AsJson, as_bytes, print_json, shown, value_of
from .saying import complain, say
from .signature import Argument, BadParameter, Commands, Exit, Option
from .values import parse_duration_s

app: Commands = Commands(help="")

TOKEN_VARIABLE: Final = "TRIORAFT_LOCK_TOKEN"  # noqa: S105 - a variable's name
NAME_VARIABLE: Final = "TRIORAFT_LOCK_NAME"
TERMINATION_PATIENCE_S: Final = 5.0
"""How long a command that is told to end may take."""
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_SIGNALLED: Final = 128

Name = Annotated[str, Argument(metavar="NAME", help="Of the lock; its keys begin with NAME/.")]
Ttl = Annotated[
    str,
    Option(metavar="TIME", help="How long it stays taken if this process vanishes, as 10s."),
]
Words = Annotated[
    list[str] | None,
    Argument(metavar="[-- COMMAND]...", help="What to run meanwhile; default: wait for Ctrl-C."),
]


@app.command()
@reaching
async def lock(
    cluster: ReachedCluster,
    name: Name,
    words: Words = None,
    ttl: Ttl = "10s",
    as_json: AsJson = False,
) -> None:
    """Wait for a lock, and hold it while a command runs, or until Ctrl-C.

    First come, first served. The command finds the token, which rises from holder to holder, in
    TRIORAFT_LOCK_TOKEN. Exit code: the command's; 1 if the lock was lost.
    """
    kv = KvClient(cluster.client)
    async with kv.lock(as_bytes(name), ttl_s=parsed(parse_duration_s, ttl, "--ttl")) as grant:
        await _hold(name, grant.token, words, as_json, what="held")


@app.command()
@reaching
async def elect(
    cluster: ReachedCluster,
    name: Name,
    value: Annotated[
        str | None,
        Argument(metavar="[VALUE]", help="What observers are told; - for standard input."),
    ] = None,
    words: Words = None,
    observe: Annotated[bool, Option("--observe", help="Show who it is, until Ctrl-C.")] = False,
    ttl: Ttl = "10s",
    as_json: AsJson = False,
) -> None:
    """Wait to be elected, and lead while a command runs, or until Ctrl-C; or observe who leads."""
    kv = KvClient(cluster.client)
    if observe:
        if value is not None:
            raise BadParameter("who observes has no value: give one of VALUE and --observe")
        async for elected in kv.observe(as_bytes(name)):
            if as_json:
                token, said = (0, None) if elected is None else (elected.token, elected.value)
                print_json(token=token, value=said)
            elif elected is None:
                say("nobody", flush=True)
            else:
                say(f"{elected.token}\t{shown(elected.value)}", flush=True)
        return
    if value is None:
        raise BadParameter("give the VALUE that observers are told, or --observe")
    ttl_s = parsed(parse_duration_s, ttl, "--ttl")
    async with kv.elect(as_bytes(name), value=value_of(value), ttl_s=ttl_s) as leadership:
        await _hold(name, leadership.token, words, as_json, what="elected")


async def _hold(
    name: str, token: int, words: list[str] | None, as_json: bool, *, what: str
) -> None:
    if words:
        code = await _run(words, {NAME_VARIABLE: name, TOKEN_VARIABLE: str(token)})
        if code:
            raise Exit(code)
        return
    if as_json:
        print_json(name=as_bytes(name), token=token)
    else:
        say(f"{what}, token {token}", flush=True)
    await anyio.sleep_forever()


async def _run(words: list[str], variables: dict[str, str]) -> int:
    """Run a command with our streams; returns its exit code as a shell would say it."""
    try:
        process = await anyio.open_process(
            words, stdin=None, stdout=None, stderr=None, env={**os.environ, **variables}
        )
    except OSError as error:
        complain(f"trioraft: {words[0]!r} cannot be run: {error.strerror}")
        raise Exit(
            _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        ) from None
    try:
        code = await process.wait()
    except BaseException:
        with anyio.CancelScope(shield=True):
            process.terminate()
            with anyio.move_on_after(TERMINATION_PATIENCE_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        raise
    return code if code >= 0 else _SIGNALLED - code
