"""The parent: starts servers of two releases, clients, and says what came of it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final, final

import attrs
import trio

from trioraft import Client, ConfigError
from trioraft.cli.cluster.layout import Layout, Member, laid_out
from trioraft.core.features import FEATURES
from trioraft.kv import KvClient
from trioraft.rpc.protocol import ServerStatus

THIS: Final = Path(__file__).parents[2]
CALLERS: Final = 4
PATIENCE_S: Final = 60.0
LIVES_S: Final = 2.0
"""How long each mixture is used."""


class FailedError(Exception):
    """Something is not as docs/upgrading.md says."""


@contextmanager
def code_of(old: str) -> Iterator[Path]:
    """The files of the earlier code: a checkout, or a commit of this repository."""
    if Path(old, "trioraft").is_dir():
        yield Path(old)
        return
    archive = subprocess.run(
        ["git", "-C", str(THIS), "archive", old, "trioraft"], capture_output=True, check=False
    )
    if archive.returncode:
        raise FailedError(
            f"--old is {old!r}, neither a checkout nor a commit of this repository: "
            f"{archive.stderr.decode().strip()}"
        )
    with tempfile.TemporaryDirectory(prefix="trioraft-old-") as folder:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


@final
@attrs.define(eq=False)
class Server:
    """One member over its lives, of either release."""

    member: Member
    words: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0

    @property
    def log(self) -> Path:
        return self.folder / f"server-{self.member.id}.log"

    def start(self, code: Path) -> None:
        self.lives += 1
        with self.log.open("ab") as log:
            log.write(f"--- life {self.lives}, code of {code}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trioraft", "serve", *self.words],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(code)},
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> int:
        process = self.process
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process is not None
        code = await trio.to_thread.run_sync(self.process.wait, PATIENCE_S)
        self.process = None
        return code

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace").rpartition("--- life")[2]


@final
class Trial:
    """A cluster, its callers, and what they were answered."""

    def __init__(self, layout: Layout, folder: Path, client: Client) -> None:
        self.servers = [Server(m, layout.arguments(m), folder) for m in layout.members]
        self.client = client
        self.kv = KvClient(client)
        self.done = [0] * CALLERS
        self.slowest_s = 0.0
        self.is_over = False
        self.over = [trio.Event() for _ in range(CALLERS)]

    def say(self, text: str) -> None:
        print(f"{sum(self.done):6} calls, slowest {self.slowest_s:.2f} s | {text}", flush=True)

    async def count_up(self, caller: int) -> None:
        """Call after call; an error of any kind ends the trial."""
        while not self.is_over:
            begun_s = time.monotonic()
            result = await self.kv.increment(b"caller %d" % caller, 1)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
            self.done[caller] += 1
            if result.number != self.done[caller]:
                raise FailedError(
                    f"caller {caller} has called {self.done[caller]} times, and stands at "
                    f"{result.number}: a call was lost, or done twice"
                )
        self.over[caller].set()

    async def follows(self, server: Server) -> ServerStatus:
        """Wait until a server that was started has what was committed by then."""
        with trio.fail_after(PATIENCE_S):
            wanted = 0
            while True:
                if server.process is not None and server.process.poll() is not None:
                    raise FailedError(f"a server has ended: {server.last_words()}")
                statuses = await self.client.statuses(timeout_s=5)
                known = [s for s in statuses.values() if isinstance(s, ServerStatus)]
                wanted = wanted or max((s.commit_index for s in known), default=0)
                for status in known:
                    if status.node_id == server.member.id and status.applied_index >= wanted > 0:
                        return status
                await trio.sleep(0.1)

    async def roll(self, code: Path, what: str) -> None:
        for server in self.servers:
            await server.stop()
            server.start(code)
            await self.follows(server)
            self.say(f"{server.member.id} runs {what}")
            await trio.sleep(LIVES_S)

    async def refused(self) -> str:
        """What switching on is answered, as long as it is refused."""
        try:
            await self.client.switch_on(tuple(FEATURES))
        except ConfigError as error:
            return str(error)
        raise FailedError("it was switched on, and a member cannot do it")

    async def end(self) -> None:
        self.is_over = True
        for each in self.over:
            await each.wait()
        for caller, done in enumerate(self.done):
            found = await self.kv.increment(b"caller %d" % caller, 0)
            if found.number != done:
                raise FailedError(f"caller {caller}: {done} calls, {found.number} stand there")
        for server in self.servers:
            await server.stop()


async def mixtures(trial: Trial, old: Path) -> None:
    """Forward, back, and forward again; nothing can be switched on in between."""
    servers = trial.servers
    await trial.roll(THIS, "this release")
    await trial.roll(old, "the earlier release again")
    for server in servers[1:]:
        await server.stop()
        server.start(THIS)
        await trial.follows(server)
        trial.say(f"{server.member.id} runs this release")
    trial.say(f"refused: {await trial.refused()}")
    await servers[0].stop()
    servers[0].start(THIS)
    await trial.follows(servers[0])
    trial.say("all run this release")


async def switched_on(trial: Trial, old: Path) -> None:
    """It is switched on; from now on there is no way back, and the rest goes on."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                index = await trial.client.switch_on(tuple(FEATURES))
            except ConfigError as error:
                trial.say(f"not yet: {error}")
                await trio.sleep(0.5)
            else:
                break
    trial.say(f"{', '.join(FEATURES)}: on since {index}")
    await trio.sleep(LIVES_S)
    first = trial.servers[0]
    await first.stop()
    first.start(old)
    code = await first.ended()
    words = first.last_words()
    if code == 0 or "newer trioraft" not in words:
        raise FailedError(f"the earlier release did not refuse: exit code {code}, {words}")
    reason = next(line for line in words.splitlines() if "newer trioraft" in line)
    trial.say(f"going back is refused, exit code {code}: {reason}")
    first.start(THIS)
    status = await trial.follows(first)
    trial.say(f"{status.node_id} is back; on: {', '.join(status.configuration.features)}")
    await trial.roll(THIS, "this release, started again")


def old_client(old: Path, layout: Layout) -> str:
    """A client of the earlier release asks servers of this one."""
    at = ",".join(f"{host}:{port}" for host, port in (m.clients for m in layout.members))
    said = subprocess.run(
        [sys.executable, "-m", "trioraft", "kv", "get", "caller 0", "--address", at],
        env={**os.environ, "PYTHONPATH": str(old)},
        cwd=old,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    if said.returncode:
        raise FailedError(f"a client of the earlier release failed: {said.stderr}")
    return said.stdout.strip()


async def run(old: Path, folder: Path) -> None:
    """All of it."""
    layout = laid_out(folder / "cluster", 3, None)
    addresses = [member.clients for member in layout.members]
    client = Client(addresses, timeout_s=PATIENCE_S)
    async with client, trio.open_nursery() as nursery:
        trial = Trial(layout, folder, client)
        try:
            for server in trial.servers:
                server.start(old)
            for server in trial.servers:
                await trial.follows(server)
            for caller in range(CALLERS):
                nursery.start_soon(trial.count_up, caller)
            await trio.sleep(LIVES_S)
            trial.say("all run the earlier release")
            await mixtures(trial, old)
            await switched_on(trial, old)
            counted = await trio.to_thread.run_sync(old_client, old, layout)
            trial.say(f"a client of the earlier release reads {counted}")
            await trial.end()
            trial.say("all well: no call was lost, none was done twice")
        finally:
            for server in trial.servers:
                if server.process is not None:
                    server.process.kill()
                    server.process.wait()


def main(words: list[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling_upgrade", description=__doc__)
    parser.add_argument("--old", required=True, help="a commit of this repository, or a checkout")
    options = parser.parse_args(words)
    failures: list[str] = []
    try:
        with (
            code_of(options.old) as old,
            tempfile.TemporaryDirectory(prefix="trioraft-rolling-") as folder,
        ):
            trio.run(run, old.resolve(), Path(folder))
    except* FailedError as failed:
        failures = [str(each) for each in failed.exceptions]
    print("\n".join(failures), end="\n" * bool(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
