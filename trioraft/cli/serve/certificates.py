"""Certificates while a server runs: read again when their files change, and told of in time.

Rules of this file:

* What is in use stays in use until its successor was read as a whole and found good (hazard G9).
* A pair is written one file after the other, and a volume of secrets is exchanged by renaming: what
  cannot be used is looked at once more before anybody is told.
* Files are read in a thread: a mount that hangs holds up no heartbeat, and not the leaving either.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, final

import attrs
import trio

from ...core.errors import ConfigError
from ...core.types import NodeId
from ...logs.loggers import EventLogger, TraceLogger
from ...net.certificates import PACKAGE, CertificateExpiry, can_read
from ...net.sentences import moment
from ...net.tls import LiveTls
from ...tasks.wakeup import Wakeup
from ...transport.base import CertificateExpires, CertificatesReloaded, CertificatesUnusable
from .preflight import Preflight, unfit_for
from .settings import Settings

LOOK_S: Final = 5.0
"""How often the files are looked at: nothing tells portably that a file changed."""
SETTLE_S: Final = 1.0
"""How long files that cannot be used are left to whoever may be writing them."""
LOOKS_MAX: Final = 5
"""Looks at unusable files that change each time, before it is told that they are unusable."""
WARN_DAYS: Final = (30, 7, 1, 0)
"""How many days before a certificate expires that is told, once each."""
_DAY_S: Final = 86400.0


@final
@attrs.frozen
class _Found:
    """What a look at a port's files found."""

    digest: bytes
    successor: LiveTls | None = None
    problem: str = ""


@final
@attrs.define(eq=False)
class _Port:
    """One port's certificates, and what was said of them."""

    name: str
    tls: LiveTls
    unfit: Callable[[LiveTls], str | None]
    """Why its successor cannot be used, though it can be read."""
    unusable: bytes | None = None
    """What the files held when they could not be used, at the last look."""
    looks: int = 0
    """That found them unusable, one after the other."""
    told: bytes | None = None
    """What they held when that was told."""
    warned: dict[Path, tuple[float, int]] = attrs.field(factory=dict)
    """Which expiry was told of each file, and how many days ahead."""

    def look(self) -> _Found | None:
        """Read the files, if they changed: for a thread, so nothing is changed here."""
        files = self.tls.files
        if files is None or self.tls.is_current:
            return None
        digest = files.digest()
        try:
            successor = self.tls.read_again()
        except ConfigError as error:
            return _Found(digest, problem=str(error))
        problem = self.unfit(successor)
        return _Found(digest, successor) if problem is None else _Found(digest, problem=problem)

    def note_unusable(self, digest: bytes) -> bool:
        """Whether it is time to tell."""
        is_settled = digest == self.unusable
        self.unusable, self.looks = digest, self.looks + 1
        if digest == self.told or not (is_settled or self.looks >= LOOKS_MAX):
            return False
        self.told = digest
        return True

    def note_usable(self) -> None:
        """They are as they should be."""
        self.unusable = self.told = None
        self.looks = 0

    def warnings(self, now_s: float) -> Iterable[tuple[CertificateExpiry, int]]:
        """What of them expires soon and was not told yet, with how many days are left."""
        for expiry in self.tls.expiries:
            left_s = expiry.at_s - now_s
            due = [days for days in WARN_DAYS if left_s <= days * _DAY_S]
            if due and (expiry.at_s, due[-1]) != self.warned.get(expiry.path):
                self.warned[expiry.path] = (expiry.at_s, due[-1])
                yield expiry, -1 if left_s <= 0 else round(left_s / _DAY_S)


@final
class LiveCertificates:
    """Keeps a server's certificates as their files are.

    Args:
        settings: of the server.
        ready: has its ports' certificates.
        logger: is told what was read, what could not be used, and what will expire.
        hung_up: woken by SIGHUP, which has the files looked at now.
    """

    def __init__(
        self, settings: Settings, ready: Preflight, logger: EventLogger, hung_up: Wakeup
    ) -> None:
        self._node_id: NodeId = settings.id
        self._logger = logger
        self._log = TraceLogger(logger, settings.id)
        self._hung_up = hung_up
        self._scope = trio.CancelScope()
        self._ports = [
            _Port(name, tls, unfit)
            for name, tls, unfit in (
                ("peers", ready.tls, self._unfit_for_peers),
                ("clients", ready.client_tls, _expired),
                ("http", ready.http_tls, _expired),
            )
            if tls is not None
        ]

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after them until `stop`.

        Raises:
            Exception: whatever the logger raises.
        """
        if self._ports and not can_read():
            self._say(
                f"nobody is warned before a certificate expires: without the package {PACKAGE} "
                "that cannot be read; install it with: pip install 'trioraft[tls]'"
            )
        self._warn()
        task_status.started()
        with self._scope:
            while True:
                is_asked = await self._next_look()
                for port in self._ports:
                    found = await trio.to_thread.run_sync(port.look, abandon_on_cancel=True)
                    self._act_on(port, found, is_asked=is_asked)
                if is_asked and not self._ports:
                    self._say("SIGHUP: there are no certificates to be read again")
                self._warn()

    async def _next_look(self) -> bool:
        """Wait until it is time to look; whether SIGHUP has asked for it."""
        pause_s = LOOK_S if self._ports else math.inf
        if any(port.unusable is not None and port.told is None for port in self._ports):
            pause_s = SETTLE_S
        with trio.move_on_after(pause_s):
            await self._hung_up.wait()
            return True
        return False

    def _act_on(self, port: _Port, found: _Found | None, *, is_asked: bool) -> None:
        if found is None:
            port.note_usable()
            if is_asked:
                self._say(f"SIGHUP: the certificates for {port.name} are those in use")
            return
        if found.successor is None:
            if port.note_unusable(found.digest):
                now = trio.current_time()
                self._log.event(CertificatesUnusable(now, port.name, found.problem))
            elif is_asked and port.told is not None:
                self._say(f"SIGHUP: the certificates for {port.name} are still unusable")
            return
        port.note_usable()
        port.tls.adopt(found.successor)
        files = () if port.tls.files is None else tuple(map(str, port.tls.files.paths))
        until_s = port.tls.expires_s
        until = None if until_s is None else moment(until_s)
        self._log.event(CertificatesReloaded(trio.current_time(), port.name, files, until))

    def _unfit_for_peers(self, successor: LiveTls) -> str | None:
        files = successor.files
        return (None if files is None else unfit_for(self._node_id, files)) or _expired(successor)

    def _warn(self) -> None:
        for port in self._ports:
            for expiry, left_days in port.warnings(time.time()):
                when = moment(expiry.at_s)
                self._log.event(
                    CertificateExpires(
                        trio.current_time(), port.name, str(expiry.path), when, left_days
                    )
                )

    def _say(self, text: str) -> None:
        self._logger.info(text, node=self._node_id)


def _expired(successor: LiveTls) -> str | None:
    for expiry in successor.expiries:
        if expiry.at_s <= time.time():
            return f"{str(expiry.path)!r} has expired, {moment(expiry.at_s)}"
    return None
