"""Repeats: an event that comes again and again is told once, and then counted, less and less often.

Rules of this file:

* The first of its kind is told at once. What repeats it within a minute is counted, and told with
  the last of them when the minute is over. What goes on is told after two minutes more, then four,
  up to a quarter of an hour: a state that lasts is some lines an hour, however often it is said.
* After a quiet minute what was counted is told, and the next of its kind is news again.
* Nothing is lost in silence: what was counted is told, at the latest when `run` ends.
* What repeats an event is a table. A new leader repeats nothing, and what has no row repeats only
  what is its equal.
* This is for logs that people keep. A raftlog is read by programs, which want every event.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, final

import attrs
import trio

from ..core import events
from ..core.types import Role
from ..transport.base import (
    AddressUnusable,
    CertificateExpires,
    CertificatesReloaded,
    CertificatesUnusable,
    ConnectionRejected,
    LinkDown,
    LinkReplaced,
    LinkUp,
    MessagesDropped,
)
from .event_texts import Traced
from .loggers import AnyLogger, is_enabled, resolved

REPEATS_S: Final = 60.0
"""How long repeats are counted before they are told for the first time; how long it must be quiet
for the next one to be news."""
REPEATS_S_MAX: Final = 900.0
"""How long they are counted in the end, where they go on."""
KINDS_MAX: Final = 32
"""Kinds of one type, on one node, that are counted apart: strangers choose their reasons. All
further ones are one kind, for as long as there are any."""
_OTHERS: Final = "others"


def _role(event: events.RoleChanged) -> Hashable:
    leads_in = event.term if event.role is Role.LEADER else None
    return event.role, type(event.reason), leads_in


_SAME: Final[Mapping[type[Traced], Callable[[Any], Hashable]]] = {
    events.RoleChanged: _role,
    events.TimeoutsWidened: lambda event: event.factor,
    events.TimingTooShort: lambda event: event.election_timeout_s,
    events.TermJumped: lambda event: event.sender,
    events.ForeignDisk: lambda event: (event.peer, event.disk),
    events.AcknowledgedLost: lambda event: event.peer,
    events.TransferStarted: lambda event: event.target,
    events.TransferGivenUp: lambda event: event.target,
    events.ResultsDiffer: lambda event: (event.voters, tuple(event.differing)),
    LinkReplaced: lambda event: event.peer,
    LinkUp: lambda event: event.peer,
    LinkDown: lambda event: (event.peer, event.reason),
    AddressUnusable: lambda event: (event.peer, event.reason),
    CertificatesReloaded: lambda event: event.at_s,  # each is waited for by whoever renewed them
    CertificatesUnusable: lambda event: (event.port, event.reason),
    CertificateExpires: lambda event: (event.port, event.file, event.left_days),
    ConnectionRejected: lambda event: (event.peer, event.reason),
    MessagesDropped: lambda event: event.peer,
}
"""What two events of a type have in common when one repeats the other."""


def _kind(event: Traced) -> Hashable:
    same = _SAME.get(type(event))
    if same is not None:
        return same(event)
    names = (field.name for field in attrs.fields(type(event)))
    return repr([getattr(event, name) for name in names if name != "at_s"])


def _sum(before: Traced | None, event: Traced) -> Traced:
    """What stands for both, told as one."""
    if isinstance(event, MessagesDropped) and isinstance(before, MessagesDropped):
        return attrs.evolve(event, count=before.count + event.count)
    return event


@attrs.define
class _Counted:
    """One kind of event, since it was last told."""

    since_s: float
    over_s: float
    """After what time it is told."""
    last_s: float
    level: str = "info"
    name: str = ""
    words: dict[str, Any] = attrs.field(factory=dict)
    """Of the last repeat."""
    count: int = 0

    def due_s(self, quiet_s: float) -> float:
        """When it is told: its time is over, or nothing more of it has come."""
        return min(self.since_s + self.over_s, self.last_s + quiet_s)

    def add(self, now_s: float, level: str, name: str, words: dict[str, Any]) -> None:
        """One more."""
        self.last_s = now_s
        before = self.words.get("trace")
        self.level, self.name = level, name
        self.words = words | {"trace": _sum(before, words["trace"])}
        self.count += 1


@final
class RepeatFilter:
    """A logger in front of another one, which spares it repeats.

    Give it to `open_node(logger=…)`, with `run` in a task of its own::

        async with trio.open_nursery() as nursery:
            log = RepeatFilter(configure("json"))
            await nursery.start(log.run)
            async with open_node(…, logger=log) as node:
                ...
            log.stop()

    A repeat is told as the last one was, with `repeats=58, over_s=60.0`; on a console as
    "(58 more in the last minute)".

    `event`, `args` and `words` of all methods are those of the logger behind it.

    Args:
        logger: any structlog logger, or one of the standard library. What is logged at `debug`,
            and what is no event, goes straight to it.
        over_s: how long repeats are counted before they are told for the first time, and how long
            it must be quiet for the next one to be news, in seconds.
        over_s_max: how long they are counted in the end, where they go on, in seconds.
    """

    def __init__(
        self, logger: AnyLogger, *, over_s: float = REPEATS_S, over_s_max: float = REPEATS_S_MAX
    ) -> None:
        self._logger: Any = resolved(logger)
        self._over_s, self._over_s_max = over_s, over_s_max
        self._counted: dict[tuple[object, ...], _Counted] = {}
        """By node, type and kind."""
        self._kinds: dict[tuple[object, ...], int] = {}
        """By node and type: how many there are."""
        self._has_some = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell what was counted, when its time comes, until `stop` or cancelled; then all the rest.

        Raises:
            Exception: whatever the logger raises.
        """
        task_status.started()
        try:
            with self._scope:
                while True:
                    await self._has_some.wait()
                    await trio.sleep_until(min(map(self._due_s, self._counted.values())))
                    self._tell(trio.current_time(), only_due=True)
        finally:
            self._tell(trio.current_time(), only_due=False)

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    def is_enabled_for(self, level: int) -> bool:
        """Whether what is logged at this level, or above, is written."""
        return is_enabled(self._logger, level)

    def debug(self, event: str, *args: Any, **words: Any) -> Any:
        """As the logger's: nothing of it is spared."""
        return self._logger.debug(event, *args, **words)

    def info(self, event: str, *args: Any, **words: Any) -> Any:
        """As the logger's, unless it repeats another."""
        return self._log("info", event, args, words)

    def warning(self, event: str, *args: Any, **words: Any) -> Any:
        """As the logger's, unless it repeats another."""
        return self._log("warning", event, args, words)

    def error(self, event: str, *args: Any, **words: Any) -> Any:
        """As the logger's, unless it repeats another."""
        return self._log("error", event, args, words)

    def _log(self, level: str, name: str, args: tuple[Any, ...], words: dict[str, Any]) -> Any:
        trace = words.get("trace")
        if trace is not None:
            key = self._key(words.get("node"), trace)
            counted = self._counted.get(key)
            if counted is not None:
                return counted.add(trio.current_time(), level, name, words)
            self._begin(key, trio.current_time(), self._over_s)
        return getattr(self._logger, level)(name, *args, **words)

    def _key(self, node: object, trace: Traced) -> tuple[object, ...]:
        group = (node, type(trace))
        key = (*group, _kind(trace))
        others = (*group, _OTHERS)
        is_many = others in self._counted or self._kinds.get(group, 0) >= KINDS_MAX
        return others if is_many and key not in self._counted else key

    def _due_s(self, counted: _Counted) -> float:
        return counted.due_s(self._over_s)

    def _begin(self, key: tuple[object, ...], now_s: float, over_s: float) -> None:
        self._counted[key] = _Counted(now_s, over_s, now_s)
        self._kinds[key[:2]] = self._kinds.get(key[:2], 0) + 1
        self._has_some.set()

    def _tell(self, now_s: float, *, only_due: bool) -> None:
        """Tell what was counted, if its time has come, and begin to count it anew."""
        for key, counted in list(self._counted.items()):
            # The very sum that `run` slept until: a difference might round to a little less.
            if only_due and now_s < self._due_s(counted):
                continue
            del self._counted[key]
            self._kinds[key[:2]] -= 1
            if counted.count == 0:
                continue
            if now_s < counted.last_s + self._over_s:  # it goes on, as far as can be seen
                self._begin(key, now_s, min(2 * counted.over_s, self._over_s_max))
            getattr(self._logger, counted.level)(
                counted.name,
                **counted.words,
                repeats=counted.count,
                over_s=round(now_s - counted.since_s, 1),
            )
        if not self._counted:
            self._has_some = trio.Event()
