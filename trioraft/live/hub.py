"""Hub: a cluster that is watched, once for all who look at its page.

Rules of this file:

* It watches as long as somebody looks, and a little longer (or always, if it was told so): a page
  that was closed costs nothing.
* What has changed is put into words once, however many look. Who takes too little misses it, and
  is sent everything anew: nobody waits for it, and it keeps no memory.
* Statuses come as they are; of events the servers tell some (`service.event_feed`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, final

import attrs
import msgspec
import trio

from ..client.client import Client
from ..core.errors import RaftError
from ..core.types import Address, Configuration
from ..net.addresses import host_port
from ..rpc.protocol import EventsNews, NodeNews, RoleNews, ServerStatus, StatusNews
from ..tasks.background import running_beside
from ..tasks.wakeup import Wakeup
from ..viz import facts
from ..viz.jsonlines import fact_of
from ..viz.live import LiveRun
from ..viz.model import ROLE_NAMED
from ..viz.raftlog import parse_test_text
from .record import FOUND_IN_S, Record, findings_in
from .scene import PAUSES_S, Scene, links_of, listen

TICK_S: Final = 0.25
"""How often who looks is told what has changed, in seconds."""
STATUS_S: Final = 0.25
"""Shortest time between two statuses of a server."""
FIND_AGAIN_S: Final = 2.0
"""Shortest time between two searches for findings."""
LINGER_S: Final = 5.0
"""How long it goes on watching when nobody looks any more: a page that is loaded again finds what
was there."""
FRAMES_MAX: Final = 16
"""Told and not taken; who has more misses them."""
VIEWERS_MAX: Final = 64
"""Pages that may be open at the same time."""
SKEW_S_MIN: Final = 0.050
"""Clocks that part by less are taken for one: so long may news take."""
SKEWS_OVER: Final = 50
"""News by which a server's clock is judged."""
INTERESTING: Final = (
    facts.Became,
    facts.Configured,
    facts.TransferStarted,
    facts.Forming,
    facts.Marked,
)
"""What may bring a finding about."""


class TooManyViewers(Exception):  # noqa: N818 - what happened
    """So many pages are open that one more is refused."""


class LabState(Protocol):
    """What a hub asks a laboratory for."""

    def state(self) -> Mapping[str, Any]:
        """As the page has it."""


@final
@attrs.define(eq=False)
class Viewer:
    """Somebody who looks."""

    _send: trio.MemorySendChannel[bytes]
    frames: trio.MemoryReceiveChannel[bytes]
    """What to tell it, one after the other: JSON."""
    needs_all: bool = True

    def offer(self, more: bytes, everything: Callable[[], bytes]) -> None:
        """Tell it what has changed, or everything if it has missed something. Never waits."""
        try:
            self._send.send_nowait(everything() if self.needs_all else more)
            self.needs_all = False
        except trio.WouldBlock:
            self.needs_all = True

    def close(self) -> None:
        """Nobody takes anything any more."""
        self._send.close()
        self.frames.close()


@final
class Hub:
    """A cluster that is watched.

    Args:
        open_client: makes the client that listens; called whenever watching begins.
        every: of heartbeats, every so-manieth round is told of.
        keeps_on: watch also while nobody looks.
        pauses_s: before each further attempt to reach a member, in seconds.
        lab: the laboratory that the cluster lives in, if it does.
    """

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager[Client, bool | None]],
        *,
        every: int = 16,
        keeps_on: bool = False,
        pauses_s: Sequence[float] = PAUSES_S,
        lab: LabState | None = None,
    ) -> None:
        self._open_client = open_client
        self._every = every
        self._keeps_on = keeps_on
        self._pauses_s = pauses_s
        self._lab = lab
        self.scene: Scene = Scene()
        self.record: Record = Record("live")
        self.live: LiveRun = LiveRun(time.time() - 1.0)
        self.has_ended: bool = False
        self._viewers: set[Viewer] = set()
        self._viewers_changed = trio.Event()
        self._roles: dict[str, tuple[float, str]] = {}  # since when by whose clock, and why
        self._rates: dict[str, float] = {}
        self._rated_s: dict[str, float] = {}
        self._skews: dict[Address, list[float]] = {}
        self._told: dict[str, bytes] = {}
        self._is_interesting = Wakeup()
        self._problem: str | None = None

    # -- who looks -------------------------------------------------------------------------

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator[Viewer]:
        """Look, for the body of the `async with`.

        Raises:
            TooManyViewers: there are enough.
        """
        if len(self._viewers) >= VIEWERS_MAX:
            raise TooManyViewers(f"{VIEWERS_MAX} pages are open already: close one")
        viewer = Viewer(*trio.open_memory_channel[bytes](FRAMES_MAX))
        self._viewers.add(viewer)
        self._note_viewers()
        if self.has_ended:
            viewer.close()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            viewer.close()
            self._note_viewers()

    def _note_viewers(self) -> None:
        self._viewers_changed.set()
        self._viewers_changed = trio.Event()

    # -- watching --------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch, whenever somebody looks, until cancelled."""
        task_status.started()
        try:
            while True:
                while not (self._viewers or self._keeps_on):
                    await self._viewers_changed.wait()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._tell)
                    nursery.start_soon(self._find)
                    if not self._keeps_on:
                        await self._until_nobody_looks()
                        nursery.cancel_scope.cancel()
                    else:
                        await trio.sleep_forever()
                # What comes later is another story: between the two nobody listened.
                self.scene, self.live = Scene(), LiveRun(time.time() - 1.0)
                self.record = Record("live")
                self._roles.clear()
        finally:
            self.has_ended = True
            for viewer in self._viewers:
                viewer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run it beside the body of the `async with`."""
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await self.run(task_status=task_status)

        async with running_beside(run, stop=scope.cancel, name="hub"):
            yield

    async def _until_nobody_looks(self) -> None:
        while True:
            while self._viewers:
                await self._viewers_changed.wait()
            with trio.move_on_after(LINGER_S):
                while not self._viewers:
                    await self._viewers_changed.wait()
            if not self._viewers:
                return

    async def _watch(self) -> None:
        try:
            async with self._open_client() as client:
                await listen(
                    client,
                    self.scene,
                    STATUS_S,
                    self._hear,
                    events_every=self._every,
                    pauses_s=self._pauses_s,
                )
        except RaftError as error:  # a page that cannot watch says why, and ends nothing
            self._problem = str(error)

    def _hear(self, address: Address, news: NodeNews | None) -> None:
        now_s = time.time()
        self.scene.take_untold()
        if news is None:
            server = self.scene.servers.get(address)
            if server is not None and server.status is not None:
                node_id = server.status.node_id
                if not self.scene.answers(node_id, but_at=address):
                    self._rates.pop(node_id, None)
                    self.live.is_silent(node_id, now_s)
            return
        match news:
            case StatusNews(status):
                self._take_status(status, now_s)
            case RoleNews():
                self._note_role(news.node_id, news.reason, now_s)
            case EventsNews():
                self._take_events(address, news, now_s)

    def _take_status(self, status: ServerStatus, now_s: float) -> None:
        node_id = status.node_id
        self.live.is_heard(node_id, now_s)
        role = ROLE_NAMED.get(status.role)
        if role is not None:
            self.live.is_in_role(node_id, role, status.term, status.last_role_change, now_s)
        known = self._roles.get(node_id)
        if known is None and status.commit_index:  # how far it was before anybody looked
            text = f"commit index is {status.commit_index}"
            self.live.add(now_s, node_id, text, facts.Committed(status.commit_index))
        if known is None or known[1] != status.last_role_change:
            since_s = math.nan if known is None else now_s  # it may have been so for long
            self._note_role(node_id, status.last_role_change, since_s)

    def _note_role(self, node_id: str, reason: str, at_s: float) -> None:
        self._roles[node_id] = (at_s, reason)

    def _take_events(self, address: Address, news: EventsNews, now_s: float) -> None:
        skew_s = self._skew_s(address, news.sent_s - now_s)
        for event in news.events:
            fact = fact_of(event.event, event.fields)
            at_s = event.at_s - skew_s
            self.live.add(at_s, news.node_id, " ".join(event.texts), fact)
            self.record.add(at_s, news.node_id, event.texts, fact)
            if isinstance(fact, INTERESTING):
                self._is_interesting.set()
        if news.left_out:
            self.live.has_gap(news.node_id, now_s)
        since_s = now_s - self._rated_s.get(news.node_id, now_s - 1.0)
        self._rated_s[news.node_id] = now_s
        rate = sum(news.messages.values()) / max(since_s, 0.05)
        before = self._rates.get(news.node_id, rate)
        self._rates[news.node_id] = before + 0.3 * (rate - before)

    def _skew_s(self, address: Address, late_s: float) -> float:
        """By how much that server's clock is ahead: what it says has taken some time to come, so
        the quickest of some news is nearest to the truth."""
        lates = self._skews.setdefault(address, [])
        lates.append(late_s)
        del lates[:-SKEWS_OVER]
        skew_s = max(lates)
        return skew_s if abs(skew_s) > SKEW_S_MIN else 0.0

    def remark(self, text: str) -> None:
        """Somebody did something to the cluster: it stands in the log, and in the picture."""
        now_s, fact = time.time(), parse_test_text(text)
        self.live.add(now_s, None, text, fact)
        self.record.add(now_s, None, (text,), fact)
        self._is_interesting.set()

    # -- findings --------------------------------------------------------------------------

    async def _find(self) -> None:
        """Look for findings when something has happened that may have brought one about, once it
        had time to show."""
        while True:
            await self._is_interesting.wait()
            await trio.sleep(FIND_AGAIN_S)  # a pace, and what belongs to it may still be coming
            lines, live = self.record.lines(FOUND_IN_S), self.live
            found = await trio.to_thread.run_sync(findings_in, lines)
            if live is self.live:
                live.find(found, lines[0].at_s if lines else live.began_s)

    # -- telling ---------------------------------------------------------------------------

    async def _tell(self) -> None:
        next_s = trio.current_time()
        while True:
            next_s = max(next_s + TICK_S, trio.current_time())
            await trio.sleep_until(next_s)
            self.live.tick(time.time())
            more = _frame("more", {"run": self.live.take_changes(), **self._changed_parts()})
            whole: list[bytes] = []

            def everything(whole: list[bytes] = whole) -> bytes:
                if not whole:
                    parts = {name: msgspec.Raw(value) for name, value in self._told.items()}
                    whole.append(_frame("all", {"run": self.live.everything(), **parts}))
                return whole[0]

            for viewer in self._viewers:
                viewer.offer(more, everything)

    def _changed_parts(self) -> dict[str, msgspec.Raw]:
        """What is told as a whole whenever it is another one."""
        parts: dict[str, Any] = {"cluster": self._cluster()}
        if self._lab is not None:
            parts["lab"] = self._lab.state()
        changed: dict[str, msgspec.Raw] = {}
        for name, part in parts.items():
            value = msgspec.json.encode(part)
            if self._told.get(name) != value:
                self._told[name] = value
                changed[name] = msgspec.Raw(value)
        return changed

    def _cluster(self) -> dict[str, Any]:
        """Who is what now."""
        leader = self.scene.leader
        now_s = time.time()
        clock_s = trio.current_time()
        return {
            "id": None if leader is None else leader.cluster_id,
            "leader": None if leader is None else leader.node_id,
            "configuration": None if leader is None else _members_of(leader.configuration),
            "change": None if leader is None else msgspec.to_builtins(leader.change),
            "members": [
                self._member(view.address, view.status, view.problem, view.silent_since_s, clock_s)
                for view in self.scene.servers.values()
            ],
            "every": self._every,
            "problem": self._problem,
            "began": round(self.live.began_s * 1000),
            "clock": round(now_s),
        }

    def _member(
        self,
        address: Address,
        status: ServerStatus | None,
        problem: str | None,
        silent_since_s: float | None,
        clock_s: float,
    ) -> dict[str, Any]:
        known: dict[str, Any] = {"address": host_port(address), "problem": problem}
        known["silent"] = None if silent_since_s is None else round(clock_s - silent_since_s)
        if status is None:
            return known
        since_s, reason = self._roles.get(status.node_id, (math.nan, status.last_role_change))
        return known | {
            "id": status.node_id,
            "role": "removed" if status.is_removed else status.role,
            "term": status.term,
            "leader": status.leader_id,
            "last": status.last_index,
            "commit": status.commit_index,
            "applied": status.applied_index,
            "lag": self.scene.lag_of(status),
            "why": reason,
            "since": None if math.isnan(since_s) else round((since_s - self.live.began_s) * 1e6),
            "links": dict(links_of(status)),
            "rate": round(self._rates.get(status.node_id, 0.0)),
            "waiting": list(status.waiting_for),
        }


def _members_of(configuration: Configuration) -> dict[str, Any]:
    return {
        "voters": configuration.voters,
        "outgoing": configuration.outgoing,
        "learners": configuration.learners,
    }


def _frame(kind: str, told: Mapping[str, Any]) -> bytes:
    """As a server-sent event."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(told) + b"\n\n"
