"""Lab: what can be done to a cluster that is there to be broken, in words.

Rules of this file:

* A command is a line of text, as `disconnect 1`: from a button, a scenario's file, or a person. It
  is one function, and a line of the table. What is done stands in the log as a raftlog's test says
  it, before it is done: what comes of it comes after.
* How the ways are cut is one thing, derived from what was disconnected, partitioned and cut; every
  member is told its own part of it whenever that has changed, and when it is started.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, final

import attrs
import msgspec

from ...core.types import NodeId
from .lab_orders import MemberOrder

LINES_MAX: Final = 100
"""Commands that are taken at once."""
RESTART_S: Final = 10.0
"""How long a member may take to serve again."""
PLACES: Final = ("leader", "follower")
"""Who may be named by what it is."""


class Processes(Protocol):
    """The members' processes, as a laboratory needs them."""

    @property
    def ids(self) -> tuple[NodeId, ...]:
        """All members."""

    def process_of(self, member: NodeId) -> int | None:
        """Its process; None: it does not run."""

    def order(self, member: NodeId, line: bytes) -> None:
        """Write a line into its pipe; nothing happens if it does not run."""

    def pause(self, member: NodeId) -> None:
        """Have the system stop it."""

    def resume(self, member: NodeId) -> None:
        """Have it go on."""

    async def kill(self, member: NodeId) -> None:
        """End it at once, and wait until it has ended."""

    async def start(self, member: NodeId, *, has_pre_vote: bool) -> None:
        """Start it on its own disk."""


class Cluster(Protocol):
    """Who is what, as whoever watches the cluster knows it."""

    def remark(self, text: str) -> None:
        """Say in the log what is done."""

    def leader(self) -> NodeId | None:
        """Who leads, if anybody does."""

    def put(self, key: str, value: str) -> bool:
        """Have a value written through the cluster; False: too many wait already."""


class CannotDo(Exception):  # noqa: N818 - an answer to a person
    """A command makes no sense as it was said, or as things stand.

    Args:
        text: why, and what would.
        status: as HTTP has it: 400, or 409 if it would make sense at another time.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status: int = status


@attrs.define
class Answer:
    """What became of some commands."""

    status: int = 200
    done: list[str] = attrs.Factory(list)
    problem: str | None = None


Ways = set[tuple[NodeId, NodeId]]


@final
class Lab:
    """A cluster's laboratory.

    Args:
        processes: the members.
        cluster: who watches them.
    """

    def __init__(self, processes: Processes, cluster: Cluster) -> None:
        self.token: str = secrets.token_urlsafe(18)
        self.has_pre_vote: bool = True
        self._processes = processes
        self._cluster = cluster
        self._disconnected: set[NodeId] = set()
        self._groups: tuple[frozenset[NodeId], ...] = ()
        self._cuts: Ways = set()
        self._paused: set[NodeId] = set()
        self._ordered: dict[NodeId, bytes] = {}

    def state(self) -> Mapping[str, Any]:
        """How it stands, as JSON has it."""
        blocked = self._blocked()
        return {
            "members": [self._member(each) for each in self._processes.ids],
            "blocked": sorted(blocked),
            "cuts": sorted(self._cuts),
            "groups": [sorted(group) for group in self._groups],
            "pre_vote": self.has_pre_vote,
            "leader": self._cluster.leader(),
        }

    def _member(self, member: NodeId) -> Mapping[str, Any]:
        process = self._processes.process_of(member)
        state = "dead" if process is None else "paused" if member in self._paused else "running"
        return {
            "id": member,
            "process": process,
            "state": state,
            "connected": member not in self._disconnected,
        }

    async def do(self, text: str) -> Answer:
        """Carry out commands, one a line, in order; the first that cannot be done ends it."""
        answer = Answer()
        try:
            for line in _lines(text):
                await self._do(line, answer.done)
        except CannotDo as problem:
            answer.status, answer.problem = problem.status, str(problem)
        return answer

    async def _do(self, line: str, done: list[str]) -> None:
        word, _, rest = line.partition(" ")
        command = _COMMANDS.get(word.lower())
        if command is None:
            raise CannotDo(f"{word!r} is no command: say one of {', '.join(_COMMANDS)}")
        await command(self, rest.strip(), done)

    def started(self, member: NodeId) -> None:
        """A member's process is new: it knows of no cuts, and is not paused."""
        self._paused.discard(member)
        self._ordered.pop(member, None)
        self._tell_cuts()

    # -- words -----------------------------------------------------------------------------

    def _named(self, text: str) -> list[NodeId]:
        words = text.split()
        if not words:
            raise CannotDo(f"name a member: one of {', '.join(self._processes.ids)}, or leader")
        return [self._member_named(word) for word in words]

    def _member_named(self, word: str) -> NodeId:
        ids = self._processes.ids
        if word in ids:
            return word
        if word not in PLACES:
            raise CannotDo(f"there is no member {word!r}: there are {', '.join(ids)}")
        leader = self._cluster.leader()
        if leader is None:
            raise CannotDo(f"nobody leads now: who is the {word}?", 409)
        if word == "leader":
            return leader
        able = [each for each in ids if each != leader and self._is_able(each)]
        if not able:
            raise CannotDo("no follower is there: all others are cut off, paused or dead", 409)
        return able[0]

    def _is_able(self, member: NodeId) -> bool:
        is_there = self._processes.process_of(member) is not None
        return is_there and member not in self._paused and member not in self._disconnected

    def _say(self, text: str, done: list[str]) -> None:
        self._cluster.remark(text)
        done.append(text)

    # -- ways ------------------------------------------------------------------------------

    async def _disconnect(self, text: str, done: list[str]) -> None:
        for member in self._named(text):
            self._say(f"Disconnect {member}", done)
            self._disconnected.add(member)
            self._tell_cuts()

    async def _reconnect(self, text: str, done: list[str]) -> None:
        for member in self._named(text):
            self._say(f"Reconnect {member}", done)
            self._disconnected.discard(member)
            self._tell_cuts()

    async def _partition(self, text: str, done: list[str]) -> None:
        groups = tuple(frozenset(self._named(group)) for group in text.split("|"))
        if sum(map(len, groups)) != len(frozenset().union(*groups)):
            raise CannotDo("a member can be on one side only")
        if len(groups) < 2 and len(groups[0]) == len(self._processes.ids):
            raise CannotDo("all are on one side: say partition 0 1 | 2, or heal")
        self._say("Partition " + " | ".join(" ".join(sorted(group)) for group in groups), done)
        self._groups = groups
        self._tell_cuts()

    async def _heal(self, _: str, done: list[str]) -> None:
        self._say("Heal", done)
        self._groups = ()
        self._disconnected.clear()
        self._cuts.clear()
        self._tell_cuts()

    async def _cut(self, text: str, done: list[str]) -> None:
        ways = self._ways(text)
        self._say("Cut " + " ".join(f"{one}>{two}" for one, two in ways), done)
        self._cuts.update(ways)
        self._tell_cuts()

    async def _mend(self, text: str, done: list[str]) -> None:
        ways = self._ways(text)
        self._say("Mend " + " ".join(f"{one}>{two}" for one, two in ways), done)
        self._cuts.difference_update(ways)
        self._tell_cuts()

    def _ways(self, text: str) -> Sequence[tuple[NodeId, NodeId]]:
        ways = [re.fullmatch(r"([^\s>]+)>([^\s>]+)", word) for word in text.split()]
        if not ways or None in ways:
            raise CannotDo(f"{text!r} is no way: say from whom to whom, as 0>1 or leader>2")
        named = [(self._member_named(way[1]), self._member_named(way[2])) for way in ways if way]
        if any(one == two for one, two in named):
            raise CannotDo("there is no way from a member to itself")
        return named

    def _blocked(self) -> Ways:
        ids = self._processes.ids
        return {
            (one, two) for one in ids for two in ids if one != two and not self._is_open(one, two)
        }

    def _is_open(self, one: NodeId, two: NodeId) -> bool:
        if one in self._disconnected or two in self._disconnected or (one, two) in self._cuts:
            return False
        return not self._groups or any(one in group and two in group for group in self._groups)

    def _tell_cuts(self) -> None:
        blocked = self._blocked()
        for member in self._processes.ids:
            to = sorted(two for one, two in blocked if one == member)
            come_from = sorted(one for one, two in blocked if two == member)
            order = msgspec.json.encode(MemberOrder(tuple(to), tuple(come_from))) + b"\n"
            if self._ordered.get(member) != order:
                self._ordered[member] = order
                self._processes.order(member, order)

    # -- processes -------------------------------------------------------------------------

    async def _pause(self, text: str, done: list[str]) -> None:
        for member in self._named(text):
            self._check_runs(member)
            self._say(f"{member} is paused", done)
            self._paused.add(member)
            self._processes.pause(member)

    async def _resume(self, text: str, done: list[str]) -> None:
        for member in self._named(text):
            self._check_runs(member)
            self._say(f"{member} goes on", done)
            self._paused.discard(member)
            self._processes.resume(member)
            self._ordered.pop(member, None)  # it may have missed some: its pipe is short
        self._tell_cuts()

    def _check_runs(self, member: NodeId) -> None:
        if self._processes.process_of(member) is None:
            raise CannotDo(f"member {member} is dead: restart it first", 409)

    async def _kill(self, text: str, done: list[str]) -> None:
        for member in self._named(text):
            self._check_runs(member)
            self._say(f"Crash {member}", done)
            await self._processes.kill(member)
            self._paused.discard(member)

    async def _restart(self, text: str, done: list[str]) -> None:
        members = self._named(text)
        for member in members:
            if self._processes.process_of(member) is not None:
                self._say(f"Crash {member}", done)
                await self._processes.kill(member)
            self._say(f"Restart {member}", done)
            await self._start(member)

    async def _start(self, member: NodeId) -> None:
        try:
            await self._processes.start(member, has_pre_vote=self.has_pre_vote)
        except OSError as error:
            raise CannotDo(f"member {member} cannot be started: {error}", 409) from error
        self.started(member)

    async def _pre_vote(self, text: str, done: list[str]) -> None:
        if text not in ("on", "off"):
            raise CannotDo("say pre-vote on, or pre-vote off")
        self._cluster.remark(f"All start again, {'with' if text == 'on' else 'without'} pre-vote")
        self.has_pre_vote = text == "on"
        for member in self._processes.ids:
            if self._processes.process_of(member) is not None:
                self._say(f"Crash {member}", done)
                await self._processes.kill(member)
        for member in self._processes.ids:
            self._say(f"Restart {member}", done)
            await self._start(member)

    # -- clients ---------------------------------------------------------------------------

    async def _propose(self, text: str, done: list[str]) -> None:
        key, _, value = text.partition(" ")
        key, value = key or "lab", value.strip() or secrets.token_hex(3)
        if not self._cluster.put(key, value):
            raise CannotDo("many values wait to be written already: the cluster has no leader", 409)
        self._say(f"Propose {key} = {value}", done)


def _lines(text: str) -> list[str]:
    """The commands in a text; what begins with # is for people."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise CannotDo(f"there is no command: say one of {', '.join(_COMMANDS)}")
    if len(lines) > LINES_MAX:
        raise CannotDo(f"{len(lines)} commands at once: at most {LINES_MAX}")
    return lines


_COMMANDS: Final[Mapping[str, Callable[[Lab, str, list[str]], Awaitable[None]]]] = {
    "disconnect": Lab._disconnect,
    "reconnect": Lab._reconnect,
    "partition": Lab._partition,
    "heal": Lab._heal,
    "cut": Lab._cut,
    "mend": Lab._mend,
    "pause": Lab._pause,
    "resume": Lab._resume,
    "kill": Lab._kill,
    "restart": Lab._restart,
    "pre-vote": Lab._pre_vote,
    "propose": Lab._propose,
}
"""What can be said, and what is done then."""
