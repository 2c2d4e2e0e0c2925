"""What can be wrong before a server serves: one clear line each, all of them, exit code 2.

Rules of this file: in this process where that is possible, for a process costs half a second.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from benchmarks.processes import Process, free_ports, python, shown
from tests.certificates import CLIENT, Authority
from trioraft import SQLiteStorage
from trioraft.cli.serve import command, run
from trioraft.cli.serve.preflight import Preflight, clients_tls, prepare
from trioraft.cli.serve.settings import SettingsReader, gather
from trioraft.member.identity import Identity, encode_identity
from trioraft.net.certificates import TlsFiles


class Started(Exception):  # noqa: N818 - what would have happened
    """Everything was in order."""


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Flags with which a server would start; it does not, here."""

    async def run_server(_settings: object, ready: Preflight, *_: object) -> None:
        ready.transport.close()
        raise Started

    monkeypatch.setattr(command, "run_server", run_server)
    for variable in [name for name in os.environ if name.startswith("TRIORAFT_")]:
        monkeypatch.delenv(variable)
    with free_ports(3) as ports:
        peers, clients, other = map(shown, ports)
    data = tmp_path / "data"
    data.mkdir()
    return {
        "id": "0",
        "listen": peers,
        "client-listen": clients,
        "peer": [f"1={other}"],
        "data": str(data),
    }


class Told:
    """A logger that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, event: str, *_: object, **__: object) -> None: ...
    def info(self, event: str, *_: object, **__: object) -> None: ...
    def warning(self, event: str, *_: object, **__: object) -> None:
        self.warnings.append(event)


Complaints = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def complaints(capsys: pytest.CaptureFixture[str]) -> Complaints:
    """What a command with these flags complains of, exit code 2 provided."""

    def run(flags: dict[str, Any]) -> list[str]:
        assert command._serve(flags) == 2
        said = capsys.readouterr()
        assert said.out == ""
        lines = said.err.splitlines()
        assert all(line.startswith("trioraft serve: ") for line in lines)
        return [line.removeprefix("trioraft serve: ") for line in lines]

    return run


def address_of(flags: dict[str, Any], name: str) -> tuple[str, int]:
    host, _, port = flags[name].rpartition(":")
    return host, int(port)


def test_with_sound_options_it_starts(sound: dict[str, Any]) -> None:
    with pytest.raises(Started):
        command._serve(sound)


def test_a_missing_data_directory(sound: dict[str, Any], complaints: Complaints) -> None:
    sound["data"] += "/missing"
    (said,) = complaints(sound)
    assert said.startswith(f"--data {sound['data']!r} does not exist: ")
    assert "--create-data" in said
    with pytest.raises(Started):
        command._serve(sound | {"create-data": True})
    assert Path(sound["data"]).is_dir()


def test_a_data_directory_is_created_for_its_owner_alone(sound: dict[str, Any]) -> None:
    data = Path(sound["data"]) / "new" / "0"
    before = os.umask(0o000)
    try:
        with pytest.raises(Started):
            command._serve(sound | {"data": str(data), "create-data": True})
    finally:
        os.umask(before)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_a_directory_that_others_may_read_is_told_in_one_line(tmp_path: Path) -> None:
    log = Told()
    run.warn_of_mode(tmp_path, "0", log)
    tmp_path.chmod(0o755)
    run.warn_of_mode(tmp_path, "0", log)
    (line,) = log.warnings
    assert "has mode 0755" in line
    assert "chmod -R go=" in line


def test_a_foreign_data_directory(sound: dict[str, Any], complaints: Complaints) -> None:
    path = Path(sound["data"]) / "thesis.txt"
    path.write_text("somebody's work", encoding="utf-8")
    (said,) = complaints(sound)
    assert "is not empty" in said
    assert "thesis.txt" in said
    assert sorted(os.listdir(sound["data"])) == ["thesis.txt"]


def test_a_data_directory_that_is_a_file(sound: dict[str, Any], complaints: Complaints) -> None:
    path = Path(sound["data"]) / "file"
    path.write_text("", encoding="utf-8")
    assert complaints(sound | {"data": str(path)}) == [f"--data {str(path)!r} is not a directory"]


def test_a_data_directory_in_use(sound: dict[str, Any], complaints: Complaints) -> None:
    storage = SQLiteStorage(sound["data"])
    storage.open(cluster_id="trioraft", node_id="0")
    try:
        (said,) = complaints(sound)
        assert "is in use by this very process" in said
    finally:
        storage.close()


@pytest.mark.parametrize("name", ["listen", "client-listen"])
def test_a_port_in_use(name: str, sound: dict[str, Any], complaints: Complaints) -> None:
    with socket.create_server(address_of(sound, name)):
        (said,) = complaints(sound)
    assert "Address already in use" in said
    assert str(address_of(sound, name)[1]) in said


def test_an_address_that_is_not_of_this_machine(
    sound: dict[str, Any], complaints: Complaints
) -> None:
    sound |= {"listen": "192.0.2.1:7000", "client-listen": "192.0.2.1:8000", "insecure": True}
    said = complaints(sound)
    assert len(said) == 2
    assert all("Cannot assign requested address" in line for line in said)


def test_what_the_machine_says_is_told_with_all_else(
    sound: dict[str, Any], complaints: Complaints
) -> None:
    sound |= {"data": sound["data"] + "/missing", "heartbeat": "fast"}
    with socket.create_server(address_of(sound, "client-listen")):
        said = complaints(sound)
    assert [line.split()[0] for line in said] == ["--heartbeat", "--data", "--client-listen"]
    complaints(sound | {"create-data": True})
    assert not Path(sound["data"]).exists()


# -- founding ------------------------------------------------------------------------------


def test_a_cluster_of_one_is_founded_only_if_that_is_said(
    sound: dict[str, Any], complaints: Complaints
) -> None:
    sound["peer"] = []
    (said,) = complaints(sound)
    assert said.startswith("node '0' is new and is told of no other nodes: name them with --peer")
    assert "--found-alone" in said
    with pytest.raises(Started):
        command._serve(sound | {"found-alone": True})
    with pytest.raises(Started):
        command._serve(sound | {"join": True})
    (said,) = complaints(sound | {"join": True, "found-alone": True})
    assert said.startswith("--found-alone and --join contradict each other")


@pytest.mark.parametrize(
    ("flags", "environment", "file"),
    [
        ({}, {"TRIORAFT_PEERS": ""}, ""),
        ({}, {"TRIORAFT_FOUND_ALONE": "false"}, ""),
        ({"peer": ["0=127.0.0.1:1"]}, {}, ""),  # itself
        ({}, {}, "peers = {}"),
        ({}, {}, "peers = []\nfound-alone = false"),
    ],
    ids=["no peers", "no", "itself", "an empty table", "an empty list"],
)
def test_it_is_said_wherever_nobody_is_named(
    flags: dict[str, Any],
    environment: dict[str, str],
    file: str,
    sound: dict[str, Any],
    complaints: Complaints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "node.toml").write_text(file, encoding="utf-8")
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    named = {"listen": "127.0.0.1:1"} if flags else {}
    sound |= {"peer": [], "config": str(tmp_path / "node.toml")} | named | flags
    assert any("or --found-alone if it is to found" in said for said in complaints(sound))


@pytest.mark.parametrize("uuid", [None, "ab"])
def test_later_starts_need_not_say_so(
    uuid: str | None, sound: dict[str, Any], complaints: Complaints
) -> None:
    """A directory that was opened and belongs to no cluster is as good as new."""
    storage = SQLiteStorage(sound["data"])
    storage.open(cluster_id="trioraft", node_id="0")
    storage.append(None, (), None, encode_identity(Identity(5, uuid=uuid)))
    storage.close()
    sound["peer"] = []
    if uuid is None:
        assert "--found-alone" in complaints(sound)[0]
        return
    for more in ({}, {"found-alone": True, "peer": ["1=127.0.0.1:1"]}):
        with pytest.raises(Started):
            command._serve(sound | more)


# -- certificates --------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Any]:
    """Flags that name certificates with which a server would start."""
    authority = trustme.CA()
    issued = authority.issue_cert("0")
    names = {"cert": tmp_path / "0.pem", "key": tmp_path / "0.key", "ca": tmp_path / "ca.pem"}
    issued.cert_chain_pems[0].write_to_path(names["cert"])
    issued.private_key_pem.write_to_path(names["key"])
    authority.cert_pem.write_to_path(names["ca"])
    flags = {f"tls-{name}": str(path) for name, path in names.items()}
    return flags | {f"client-tls-{name}": str(path) for name, path in names.items()}


def test_tls(sound: dict[str, Any], certificates: dict[str, Any]) -> None:
    with pytest.raises(Started):
        command._serve(sound | certificates)


@pytest.mark.parametrize("prefix", ["tls", "client-tls"])
def test_an_unreadable_certificate(
    prefix: str, sound: dict[str, Any], certificates: dict[str, Any], complaints: Complaints
) -> None:
    flag = f"{prefix}-cert"
    (said,) = complaints(sound | certificates | {flag: "missing.pem"})
    assert said.startswith(f"--{flag} ")
    assert "missing.pem' cannot be read: No such file or directory" in said


@pytest.mark.parametrize("prefix", ["tls", "client-tls"])
@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_file_that_is_no_certificate(
    prefix: str,
    name: str,
    sound: dict[str, Any],
    certificates: dict[str, Any],
    complaints: Complaints,
    tmp_path: Path,
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage", encoding="utf-8")
    (said,) = complaints(sound | certificates | {f"{prefix}-{name}": str(garbage)})
    assert f"--{prefix}-{name} " in said
    assert "garbage.pem" in said


def test_a_key_of_another_certificate(
    sound: dict[str, Any], certificates: dict[str, Any], complaints: Complaints, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("0").private_key_pem.write_to_path(other)
    (said,) = complaints(sound | certificates | {"tls-key": str(other)})
    assert "key values mismatch" in said


def test_clients_without_certificates_need_insecure(
    sound: dict[str, Any], certificates: dict[str, Any], complaints: Complaints
) -> None:
    del certificates["client-tls-ca"]
    (said,) = complaints(sound | certificates)
    assert "give --client-tls-ca as well" in said
    with pytest.raises(Started):
        command._serve(sound | certificates | {"insecure": True})


# -- the command itself --------------------------------------------------------------------


def test_several_problems_in_a_process_of_its_own(tmp_path: Path) -> None:
    with free_ports(1) as (clients_at,):
        pass
    command = python(
        "trioraft", "serve", "--id", "0", "--listen", "nowhere",
        "--client-listen", shown(clients_at),
        "--peer", "1=127.0.0.1:7001", "--peer", "1=127.0.0.1:7002",
    )  # fmt: skip
    environment = {**os.environ, "TRIORAFT_LOG_FORMAT": "xml"}
    with Process(command, directory=tmp_path, environment=environment) as process:
        assert process.rest() == ""
        assert process.wait() == 2
    lines = process.complaints().splitlines()
    assert sum("is missing: give it with" in line for line in lines) == 1
    assert len(lines) == 4
    assert all(line.startswith("trioraft serve: ") for line in lines)


def test_another_nodes_directory_is_said_in_one_line(
    sound: dict[str, Any], complaints: Complaints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noticed only when the node opens it."""
    monkeypatch.undo()
    storage = SQLiteStorage(sound["data"])
    storage.open(cluster_id="trioraft", node_id="7")
    storage.close()
    (said,) = complaints(sound)
    assert "belongs to" in said
    assert "'7'" in said


@pytest.mark.parametrize("prefix", ["", "--tls-peer-names"])
def test_one_authority_for_peers_and_clients_is_warned_of(
    prefix: str, sound: dict[str, Any], certificates: dict[str, Any], tmp_path: Path
) -> None:
    """Unless the peers' names are given; an authority of the clients' own is the better way."""
    named = {"tls-peer-names": "0,1"} if prefix else {}
    (said,) = warnings_of(sound | certificates | named) or ("",)
    assert ("peers and clients have an authority in common" in said) is not bool(named)
    own = tmp_path / "clients.pem"
    trustme.CA().cert_pem.write_to_path(own)
    assert warnings_of(sound | certificates | {"client-tls-ca": str(own)}) == ()
    assert warnings_of(sound) == ()


def warnings_of(flags: dict[str, Any]) -> tuple[str, ...]:
    """What a server with these flags warns of at its start."""
    problems: list[str] = []
    settings = SettingsReader(gather(flags, {}, problems), problems).settings()
    assert settings is not None, problems
    ready = prepare(settings, problems)
    assert ready is not None, problems
    ready.transport.close()
    return ready.warnings


def test_a_certificate_that_no_peer_would_take(
    sound: dict[str, Any], complaints: Complaints, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("0", CLIENT)
    files = {"tls-cert": certificate, "tls-key": key, "tls-ca": authority.file}
    (said,) = complaints(sound | {name: str(path) for name, path in files.items()})
    assert said.startswith("--tls-cert ")
    assert "must list serverAuth and clientAuth" in said


def test_an_invitation_key_and_an_invitation(
    sound: dict[str, Any], complaints: Complaints, certificates: dict[str, Any], tmp_path: Path
) -> None:
    key, invitation = tmp_path / "invite.key", tmp_path / "invitation"
    flags = sound | certificates | {"invite-key": str(key), "invitation": str(invitation)}
    assert len(complaints(flags)) == 2  # neither is there
    key.write_text("short\n", encoding="ascii")
    invitation.write_text("hello\n", encoding="ascii")
    assert "the invitation is none" in complaints(flags)[0]
    invitation.write_text("trioraft-invite-1.AA.AA\n", encoding="ascii")
    assert "an invitation key is 16 to 4096 bytes" in complaints(flags)[0]
    key.write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    with pytest.raises(Started):
        command._serve(flags)
    (said,) = complaints(flags | {"tls-peer-names": "a b,,[x]"})
    assert said.startswith("--tls-peer-names is 'a b,,[x]': give names with commas")


def test_the_context_for_clients_is_strict(certificates: dict[str, Any]) -> None:
    cert, key, ca = (Path(certificates[f"client-tls-{name}"]) for name in ("cert", "key", "ca"))
    problems: list[str] = []
    tls = clients_tls(TlsFiles(cert, key, ca), problems)
    assert problems == []
    assert tls is not None
    context = tls.server
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    tls = clients_tls(TlsFiles(cert, key, ca), problems, has_roles=True)
    assert tls is not None
    assert tls.server.verify_mode is ssl.CERT_OPTIONAL, "a token will do"
