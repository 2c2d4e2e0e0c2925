"""The members' processes: started together, heard together, ended together.

Rules of this file:

* Nobody outlives this process: each member watches a pipe (`member`) that ends with it.
* A member that ends is said, and not started again: who kills one wants to see what the others do.
* Members have a process group of their own: Ctrl-C comes to this process, which tells them.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, TypeAlias, final

import attrs
import trio

from ...core.errors import RaftError
from ...core.types import NodeId
from ..saying import complain, say
from .lab_orders import NO_PRE_VOTE
from .layout import Layout, Member

LEAVE_S: Final = 10.0
"""How long members may take to leave, in seconds, before they are killed."""
LINE_BYTES_MAX: Final = 64 * 1024
"""Of one line of a member's log; a longer one is cut in pieces."""
OWN_LINE: Final = "trioraft serve: "
"""What a member's lines begin with that are not its log's."""
SERVES: Final = " serves clients at "
"""What a member says when it does."""
MEMBER: Final = "trioraft.cli.cluster.member"
LAB_MEMBER: Final = "trioraft.cli.cluster.lab_member"
"""The same, for a laboratory: its starter can cut it off from others."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the cluster."""


Tell: TypeAlias = Callable[[str], None]
Beside: TypeAlias = "Callable[[RunningCluster], AbstractAsyncContextManager[None]]"


class MembersEnded(RaftError):  # noqa: N818 - what happened
    """A member did not start, or none is left."""


@attrs.define(eq=False)
class _Started:
    member: Member
    process: trio.Process
    serves: bool = False
    is_ended_on_purpose: bool = False

    @property
    def text(self) -> str:
        return f"member {self.member.id} (process {self.process.pid})"


@final
class RunningCluster:
    """A cluster while it runs.

    Args:
        layout: who is where.
        options: what every member is told besides.
        is_marked: whether each line of the log begins with its member's id; lines for programs
            say it themselves.
        ready: called once, with a way to tell lines, when all members serve.
        lab: what is open beside a laboratory's members; then they may be cut off, ended and started
            again, and the cluster goes on while none is left. None: it is no laboratory.
    """

    def __init__(
        self,
        layout: Layout,
        options: Sequence[str],
        *,
        is_marked: bool,
        ready: Callable[[Tell], None],
        lab: Beside | None = None,
    ) -> None:
        self._layout = layout
        self._options = tuple(options)
        self._is_marked = is_marked
        self._ready = ready
        self._lab = lab
        self._is_ready = False
        self._hearing: trio.Nursery | None = None
        self._started: list[_Started] = []
        self._over = trio.Event()
        self._signal: int | None = None
        self._failure: str | None = None

    async def run(self) -> int:
        """Run it until a signal, or until no member is left; then none is.

        Returns:
            The exit code: 128 and the signal's number.

        Raises:
            MembersEnded: a member did not start, or none is left.
            OSError: a process cannot be started, or standard output takes nothing any more.
        """
        try:
            with trio.open_signal_receiver(*SIGNALS) as received:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, received)
                    async with trio.open_nursery() as hearing:
                        self._hearing = hearing
                        for member in self._layout.members:
                            await self._start(member)
                        if self._lab is not None:
                            hearing.start_soon(self._keep_lab, self._lab, name="lab")
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._end_all()
        if self._signal is None:
            raise MembersEnded(self._failure or "no member is left")
        return 128 + self._signal

    def tell(self, text: str) -> None:
        """A line that is not the log's: it goes elsewhere where that is for programs."""
        if self._is_marked:
            say(text, flush=True)
        else:
            complain(text)

    # -- a laboratory's processes (see `lab.Processes`) ------------------------------------------

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(member.id for member in self._layout.members)

    def process_of(self, member: NodeId) -> int | None:
        process = self._of(member).process
        return process.pid if process.returncode is None else None

    def order(self, member: NodeId, line: bytes) -> None:
        process = self._of(member).process
        if process.returncode is None and process.stdin is not None:
            # One that has just ended reads no more; one that is paused has it when it goes on.
            with suppress(BrokenPipeError, BlockingIOError, trio.ClosedResourceError):
                os.write(process.stdin.fileno(), line)  # type: ignore[attr-defined] # a pipe has one

    def pause(self, member: NodeId) -> None:
        self._of(member).process.send_signal(signal.SIGSTOP)

    def resume(self, member: NodeId) -> None:
        self._of(member).process.send_signal(signal.SIGCONT)

    async def kill(self, member: NodeId) -> None:
        started = self._of(member)
        started.is_ended_on_purpose = True
        started.process.kill()
        await started.process.wait()

    async def start(self, member: NodeId, *, has_pre_vote: bool) -> None:
        await self._start(self._of(member).member, has_pre_vote=has_pre_vote)

    def _of(self, member: NodeId) -> _Started:
        return next(each for each in self._started if each.member.id == member)

    async def _keep_lab(self, lab: Beside) -> None:
        """A laboratory is open until a signal, or until a member did not start."""
        async with lab(self):
            await self._over.wait()

    # -- processes -------------------------------------------------------------------------------

    async def _start(self, member: Member, *, has_pre_vote: bool = True) -> None:
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("TRIORAFT_")
        }
        words = ["serve", *self._layout.arguments(member), *self._options]
        if not has_pre_vote:
            words.insert(0, NO_PRE_VOTE)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", MEMBER if self._lab is None else LAB_MEMBER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        started = _Started(member, process)
        self._started = [each for each in self._started if each.member.id != member.id]
        self._started.append(started)
        if self._hearing is not None:
            self._hearing.start_soon(self._hear, started, name=f"hear[{member.id}]")

    async def _obey(self, received: AsyncIterator[int]) -> None:
        """The first signal has the members leave, a second one kills them."""
        async for number in received:
            if self._signal is not None:
                self._tell_all(signal.SIGKILL)
                continue
            self._signal = number
            self._over.set()
            self._tell_all(signal.SIGTERM)
            self.tell(f"trioraft cluster: leaving after {signal.Signals(number).name}")

    async def _hear(self, started: _Started) -> None:
        """Pass on what a member says, until it has ended."""
        stream = started.process.stdout
        assert stream is not None  # noqa: S101 - it was asked for
        rest = b""
        async for piece in stream:
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._pass_on(started, line.decode("utf-8", "replace"))
        if rest:
            self._pass_on(started, rest.decode("utf-8", "replace"))
        await started.process.wait()
        self._note_end(started)

    def _pass_on(self, started: _Started, line: str) -> None:
        if line.startswith(OWN_LINE):
            self.tell(f"[{started.member.id}] {line}")
        else:
            say(f"[{started.member.id}] {line}" if self._is_marked else line, flush=True)
        if not started.serves and SERVES in line:
            started.serves = True
            count = sum(each.serves for each in self._started)
            if count == len(self._layout.members) and not self._is_ready:
                self._is_ready = True
                self._ready(self.tell)

    def _note_end(self, started: _Started) -> None:
        if self._signal is not None or self._failure is not None:
            return
        how = _how_it_ended(started.process.returncode)
        if started.is_ended_on_purpose:
            self.tell(f"trioraft cluster: {started.text} ended, as the laboratory wanted")
            return
        if not started.serves:
            self._over.set()
            self._failure = f"{started.text} did not start ({how}): see above"
            self._tell_all(signal.SIGTERM)
            return
        words = ["trioraft", "serve", *self._layout.arguments(started.member)]
        self.tell(f"trioraft cluster: {started.text} ended ({how}). To start it again:")
        self.tell(f"    {shlex.join(words)}")

    def _tell_all(self, number: signal.Signals) -> None:
        for started in self._started:
            if started.process.returncode is None:
                started.process.send_signal(number)
                if self._lab is not None:  # one that is paused hears nothing
                    started.process.send_signal(signal.SIGCONT)

    async def _end_all(self) -> None:
        """Whoever is left when an error has ended the rest."""
        self._tell_all(signal.SIGTERM)
        with trio.move_on_after(LEAVE_S):
            for started in self._started:
                await started.process.wait()
        self._tell_all(signal.SIGKILL)
        for started in self._started:
            await started.process.wait()
            for stream in (started.process.stdin, started.process.stdout):
                if stream is not None:
                    await stream.aclose()


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
