"""Certificates of a server that runs: read again when they change, and told of before they expire.

Rules of this file: the watcher of the files runs on virtual time where no port is needed; a test
that is about connections has real ones.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from trioraft import ConfigError, TlsContexts, UnusableCertificates
from trioraft.cli.certs.signing import Authority, Use
from trioraft.cli.serve import certificates as live
from trioraft.cli.serve import command
from trioraft.cli.serve.certificates import LOOK_S, LOOKS_MAX, SETTLE_S, LiveCertificates
from trioraft.cli.serve.preflight import Preflight
from trioraft.cli.serve.run import _Signals
from trioraft.cli.serve.settings import Settings
from trioraft.net.tls import ServerTls
from trioraft.service.context import ServiceLimits
from trioraft.tasks.background import running_beside
from trioraft.tasks.wakeup import Wakeup
from trioraft.transport.base import CertificateExpires, CertificatesReloaded, CertificatesUnusable


@attrs.define
class Files:
    """A port's files, as somebody who looks after them writes them."""

    folder: Path
    authority: Authority = attrs.field(factory=lambda: Authority.new("peers", 3650))

    @property
    def paths(self) -> dict[str, Path]:
        names = {"certificate": "peer.pem", "key": "peer.key", "authority": "ca.pem"}
        return {what: self.folder / name for what, name in names.items()}

    def write(self, name: str = "0", *, days: int = 365, use: Use = "peer") -> None:
        issued = self.authority.sign(name, (), use, days)
        self.paths["certificate"].write_bytes(issued.certificate)
        self.paths["key"].write_bytes(issued.key)
        self.paths["authority"].write_bytes(self.authority.issued().certificate)

    def contexts(self, peer_names: tuple[str, ...] | None = None) -> TlsContexts:
        return TlsContexts.from_files(
            certificate=self.paths["certificate"],
            key=self.paths["key"],
            authority=self.paths["authority"],
            peer_names=peer_names,
        )

    def server_tls(self, *, asks: bool = True) -> ServerTls:
        return ServerTls.from_files(
            certificate=self.paths["certificate"],
            key=self.paths["key"],
            authority=self.paths["authority"] if asks else None,
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.write()
    return made


@attrs.define
class Told:
    """A logger that keeps what it is told."""

    events: list[Any] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)
    news: trio.Event = attrs.field(factory=trio.Event)

    def info(self, event: str, *args: Any, trace: Any = None, **words: Any) -> None:
        if trace is None:
            self.said.append(event)
        else:
            self.events.append(trace)
        self.news.set()
        self.news = trio.Event()

    warning = debug = info

    async def until(self, holds: Callable[[Told], bool]) -> None:
        with trio.fail_after(100):
            while not holds(self):
                await self.news.wait()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading files takes no virtual time: the clock would not wait for a thread."""

    async def at_once(read: Callable[[], object], **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return read()

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)


@asynccontextmanager
async def watching(
    tls: TlsContexts | None = None, client_tls: ServerTls | None = None
) -> AsyncIterator[tuple[Told, Wakeup]]:
    """The task of a server that looks after certificates: its log, and its SIGHUP."""
    told, hung_up = Told(), Wakeup()
    settings = cast("Settings", attrs.make_class("Named", {"id": attrs.field(default="0")})())
    ready = Preflight(cast("Any", None), tls, client_tls, ServiceLimits())
    task = LiveCertificates(settings, ready, told, hung_up)
    async with running_beside(task.run, stop=task.stop, name="certificates"):
        yield told, hung_up


# -- one call ------------------------------------------------------------------------------------


def test_g9_contexts_from_files_are_read_again(files: Files) -> None:
    contexts = files.contexts()
    server, client = contexts.server, contexts.client
    assert contexts.is_current
    files.write()
    assert not contexts.is_current
    assert contexts.server is server
    contexts.reload()
    assert contexts.is_current
    assert contexts.server is not server
    assert contexts.client is not client


def test_reading_again_keeps_whom_the_operator_named(files: Files) -> None:
    """No file says the peers' names: without them, any that the authority signed would pass."""
    names = ("node-*",)
    contexts = files.contexts(names)
    files.write()
    contexts.reload()
    assert contexts.peer_names == names


def test_an_authority_that_is_gone_is_trusted_no_longer(files: Files) -> None:
    contexts = files.contexts()
    (before,) = contexts.server.get_ca_certs()
    files.authority = Authority.new("peers", 10)
    files.write()
    contexts.reload()
    (after,) = contexts.server.get_ca_certs()
    assert before["serialNumber"] != after["serialNumber"]
    assert contexts.client.get_ca_certs() == [after]


def missing(files: Files) -> None:
    files.paths["certificate"].unlink()


def garbage(files: Files) -> None:
    files.paths["authority"].write_text("garbage", encoding="utf-8")


def half_a_pair(files: Files) -> None:
    files.paths["certificate"].write_bytes(files.authority.sign("0", (), "peer", 9).certificate)


def cut(files: Files) -> None:
    path = files.paths["key"]
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing, "peer.pem' cannot be read: No such file or directory"),
        (garbage, "ca.pem' cannot be used"),
        (half_a_pair, "cannot be used: key values mismatch"),
        (cut, "peer.key' cannot be used"),
    ],
)
def test_g9_what_cannot_be_used_changes_nothing(
    damage: Callable[[Files], None], said: str, files: Files
) -> None:
    contexts = files.contexts()
    server, client, end = contexts.server, contexts.client, contexts.expires_s
    damage(files)
    with pytest.raises(UnusableCertificates) as caught:
        contexts.reload()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert (contexts.server, contexts.client, contexts.expires_s) == (server, client, end)


def test_given_contexts_cannot_be_read_again_but_have_successors(files: Files) -> None:
    made = files.contexts()
    given = TlsContexts(made.server, made.client)
    assert given.expires_s is None
    assert given.is_current
    with pytest.raises(ConfigError, match=r"were not made from files"):
        given.reload()
    other = files.contexts()
    given.adopt(other)
    assert given.server is other.server


def test_the_server_side_alone(files: Files) -> None:
    tls = files.server_tls(asks=False)
    files.write("clients see this", use="client-port")
    server = tls.server
    tls.reload()
    assert tls.server is not server


def test_without_the_package_nothing_is_claimed(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.net.certificates.can_read", lambda: False)
    contexts = files.contexts()
    assert contexts.expires_s is None
    contexts.reload()


# -- files that change ---------------------------------------------------------------------------


async def test_g9_files_that_change_are_read_without_being_asked(
    files: Files, autojump_clock: object
) -> None:
    contexts = files.contexts()
    server = contexts.server
    async with watching(contexts) as (told, _):
        files.write()
        await told.until(lambda t: bool(t.events))
        assert trio.current_time() <= LOOK_S
        (event,) = told.events
        assert isinstance(event, CertificatesReloaded)
        assert event.port == "peers"
        assert contexts.server is not server
        await trio.sleep(10 * LOOK_S)
        assert told.events == [event]


async def test_a_volume_of_secrets_that_is_exchanged_is_seen(
    tmp_path: Path, autojump_clock: object
) -> None:
    """As Kubernetes does it: files are links into a directory that is a link, which is renamed."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        Files(tmp_path / version).write()
    (tmp_path / "..data").symlink_to("v1")
    for name in ("peer.pem", "peer.key", "ca.pem"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    contexts = Files(tmp_path).contexts()
    async with watching(contexts) as (told, _):
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await told.until(lambda t: bool(t.events))
        assert isinstance(told.events[0], CertificatesReloaded)


async def test_a_pair_that_is_half_written_is_not_told(
    files: Files, autojump_clock: object
) -> None:
    contexts = files.contexts()
    async with watching(contexts) as (told, _):
        issued = files.authority.sign("0", (), "peer", 365)
        files.paths["certificate"].write_bytes(issued.certificate)
        await trio.sleep(LOOK_S + SETTLE_S / 2)  # one look has found it
        files.paths["key"].write_bytes(issued.key)
        await told.until(lambda t: bool(t.events))
        assert [type(event) for event in told.events] == [CertificatesReloaded]


async def test_g9_unusable_files_are_told_once_and_the_old_ones_stay(
    files: Files, autojump_clock: object
) -> None:
    contexts = files.contexts()
    server = contexts.server
    async with watching(contexts) as (told, hung_up):
        half_a_pair(files)
        await trio.sleep(20 * LOOK_S)
        (event,) = told.events
        assert isinstance(event, CertificatesUnusable)
        assert "key values mismatch" in event.reason
        assert contexts.server is server
        hung_up.set()
        await told.until(lambda t: bool(t.said))
        assert told.said == ["SIGHUP: the certificates for peers are still unusable"]
        files.write()
        await told.until(lambda t: bool(t.of(CertificatesReloaded)))
        assert contexts.server is not server
        missing(files)
        await told.until(lambda t: len(t.of(CertificatesUnusable)) == 2)


async def test_files_that_never_settle_are_told_in_the_end(
    files: Files, autojump_clock: object
) -> None:
    async with watching(files.contexts()) as (told, _):
        for _ in range(int(LOOK_S) * 2 + LOOKS_MAX):
            half_a_pair(files)
            await trio.sleep(SETTLE_S)
        assert told.of(CertificatesUnusable)


@pytest.mark.parametrize(
    ("name", "days", "said"),
    [("1", 9, "is for ['1'], not for node '0'"), ("0", 0, "has expired")],
)
async def test_files_of_another_node_or_of_another_time_are_not_used(
    name: str, days: int, said: str, files: Files, autojump_clock: object
) -> None:
    contexts = files.contexts()
    server = contexts.server
    async with watching(contexts) as (told, _):
        files.write(name, days=days)
        await told.until(lambda t: bool(t.events))
        assert said in told.events[0].reason
        assert contexts.server is server


# -- SIGHUP --------------------------------------------------------------------------------------


async def test_g9_sighup_has_them_read_at_once(files: Files, autojump_clock: object) -> None:
    async with watching(files.contexts()) as (told, hung_up):
        await trio.testing.wait_all_tasks_blocked()
        hung_up.set()
        await told.until(lambda t: bool(t.said))
        assert told.said == ["SIGHUP: the certificates for peers are those in use"]
        files.write()
        hung_up.set()
        await told.until(lambda t: bool(t.events))
        assert trio.current_time() == 0


async def test_sighup_without_certificates_is_noted(autojump_clock: object) -> None:
    async with watching() as (told, hung_up):
        hung_up.set()
        await told.until(lambda t: bool(t.said))
        assert told.said == ["SIGHUP: there are no certificates to be read again"]


async def test_g9_sighup_ends_nothing_before_and_after_the_signal_to_leave() -> None:
    signals = _Signals()
    before = signal.getsignal(signal.SIGHUP)
    async with running_beside(signals.run, stop=signals.stop, name="signals"):
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(5):
            await signals.hung_up.wait()
        assert not signals.first.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(5):
            await signals.first.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
    assert signals.name == "SIGTERM"
    assert signal.getsignal(signal.SIGHUP) == before


def test_sighup_before_and_after_the_server_ends_nothing_either() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with command._hangups_ignored():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == before


# -- until when ----------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the world's clock on by days."""
    began_s, days = time.time(), 0.0

    def move(by_days: float) -> None:
        nonlocal days
        days += by_days

    monkeypatch.setattr(time, "time", lambda: began_s + days * 86400)
    return move


async def test_what_expires_is_told_30_7_and_1_days_ahead_and_at_its_end_once_each(
    files: Files, world: Callable[[float], None], autojump_clock: object
) -> None:
    files.write(days=40)
    async with watching(files.contexts()) as (told, _):
        for _ in range(43):
            await trio.sleep(3 * LOOK_S)
            world(1)
        await trio.sleep(3 * LOOK_S)
        events = told.of(CertificateExpires)
        assert [event.left_days for event in events] == [30, 7, 1, -1]
        assert {event.file for event in events} == {str(files.paths["certificate"])}


async def test_what_expires_soon_is_told_at_the_start_and_a_new_one_is_quiet(
    files: Files, autojump_clock: object
) -> None:
    files.write(days=3)
    contexts = files.contexts()
    async with watching(contexts, files.server_tls()) as (told, _):
        assert [(event.port, event.left_days) for event in told.events] == [
            ("peers", 3),
            ("clients", 3),
        ]
        assert contexts.expires_s is not None
        assert abs(contexts.expires_s - time.time() - 3 * 86400) < 60
        files.write()
        await told.until(lambda t: len(t.of(CertificatesReloaded)) == 2)
        await trio.sleep(20 * LOOK_S)
        assert len(told.of(CertificateExpires)) == 2


async def test_an_authority_expires_too_and_its_successor_beside_it_counts(
    files: Files, autojump_clock: object
) -> None:
    files.authority = Authority.new("peers", 20)
    files.write()
    async with watching(files.contexts()) as (told, _):
        assert {Path(event.file).name for event in told.events} == {"peer.pem", "ca.pem"}
    old, files.authority = files.authority, Authority.new("peers", 3650)
    files.write()
    bundle = files.paths["authority"]
    bundle.write_bytes(bundle.read_bytes() + old.issued().certificate)
    async with watching(files.contexts()) as (told, _):
        assert told.events == []


async def test_without_the_package_it_says_that_nobody_is_warned(
    files: Files, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(live, "can_read", lambda: False)
    async with watching(files.contexts()) as (told, _):
        assert "pip install 'trioraft[tls]'" in told.said[0]
