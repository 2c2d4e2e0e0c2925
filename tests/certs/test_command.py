"""`trioraft certs`: what it makes, that it overwrites nothing, and what it says.

Rules of this file: what a certificate is good for is seen in a handshake in memory, between
contexts made of the very files.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.serve.commands import lines, run
from trioraft.cli.certs import command
from trioraft.net.certificates import TlsFiles, expiries, names

DAY_S = 86400.0


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def leaf(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def uses(path: Path) -> set[x509.ObjectIdentifier]:
    return set(leaf(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def complaint(*arguments: str, code: int = 2) -> str:
    """The one line that is said."""
    result = run("certs", *arguments)
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("trioraft certs: ")
    return line.removeprefix("trioraft certs: ")


def shake_hands(
    server: Path, client: Path | None, *, name: str, server_trusts: Path, client_trusts: Path
) -> None:
    """A TLS handshake between two certificates (`…/x.pem`, its key beside it).

    Raises:
        ssl.SSLError: one of them refuses the other.
    """
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, own, trusted in zip(
        contexts, (server, client), (server_trusts, client_trusts), strict=True
    ):
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(trusted)
        if own is not None:
            context.load_cert_chain(own, own.with_suffix(".key"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        contexts[1].wrap_bio(down, up, server_hostname=name),
        contexts[0].wrap_bio(up, down, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass


def test_one_command_makes_all(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    said = lines(run("certs", str(pki), "--client", "alice"))
    assert set(contents(pki)) == {
        *(f"{whose}-ca.{end}" for whose in ("peers", "clients") for end in ("pem", "key")),
        *(
            f"{node}/{file}"
            for node in "012"
            for file in (
                *(f"{use}.{end}" for use in ("peer", "client-port") for end in ("pem", "key")),
                "peers-ca.pem",
                "clients-ca.pem",
                "invite.key",
            )
        ),
        "clients/alice.pem",
        "clients/alice.key",
    }
    assert any(line.endswith("--tls-ca " + str(pki / "1/peers-ca.pem") + " \\") for line in said)
    assert any("offline" in line for line in said)


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    lines(run("certs", str(pki), "--client", "alice"))
    for path in (pki, *pki.rglob("*")):
        if path.is_dir():
            assert path.stat().st_mode & 0o777 == 0o700, path
        elif path.suffix == ".key":
            assert path.stat().st_mode & 0o777 == 0o600, path


def test_what_each_is_good_for(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--node", "a=node-a.example,10.0.0.1,[::1]", "--client", "x"))
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    peer, port, person = (
        tmp_path / each for each in ("a/peer.pem", "a/client-port.pem", "clients/x.pem")
    )
    assert uses(peer) == {server, client}
    assert uses(port) == {server}
    assert uses(person) == {client}
    assert names(peer) == names(port) == frozenset({"a", "node-a.example"})
    assert names(person) == frozenset({"x"})
    addresses = leaf(port).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in addresses.get_values_for_type(x509.IPAddress)] == [
        "10.0.0.1",
        "::1",
    ]


def test_members_and_clients_meet_and_never_pass_for_each_other(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--client", "x"))
    peers, clients = tmp_path / "peers-ca.pem", tmp_path / "clients-ca.pem"
    zero, one, person = (tmp_path / each for each in ("0/peer.pem", "1/peer.pem", "clients/x.pem"))
    port = tmp_path / "0/client-port.pem"
    shake_hands(zero, one, name="0", server_trusts=peers, client_trusts=peers)
    shake_hands(port, person, name="0", server_trusts=clients, client_trusts=clients)
    with pytest.raises(ssl.SSLError):  # a client at the members' port
        shake_hands(zero, person, name="0", server_trusts=peers, client_trusts=peers)
    with pytest.raises(ssl.SSLError, match="unsuitable"):  # a client that poses as a server
        shake_hands(person, person, name="x", server_trusts=clients, client_trusts=clients)
    with pytest.raises(ssl.SSLError, match=r"unsuitable|unsupported"):  # a server as a client
        shake_hands(port, port, name="0", server_trusts=clients, client_trusts=clients)


def test_further_ones_are_signed_and_nothing_is_overwritten(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--node", "0=h0"))
    before = contents(tmp_path)
    lines(run("certs", str(tmp_path), "--node", "0", "--node", "3", "--client", "bob"))
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) >= {"3/peer.pem", "3/invite.key", "clients/bob.pem"}
    assert after["3/invite.key"] == after["0/invite.key"]
    assert len(bytes.fromhex(after["0/invite.key"].decode())) == 32
    assert any("nothing is missing" in line for line in lines(run("certs", str(tmp_path))))
    assert contents(tmp_path) == after


def test_renewal_keeps_names_and_changes_keys(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--node", "0=h0,10.0.0.1", "--client", "x", "--days", "3"))
    before = contents(tmp_path)
    lines(run("certs", str(tmp_path), "--renew", "--days", "9"))
    after = contents(tmp_path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {
        f"{name}.{end}"
        for name in ("0/peer", "0/client-port", "clients/x")
        for end in ("pem", "key")
    }
    assert names(tmp_path / "0/client-port.pem") == frozenset({"0", "h0"})
    files = TlsFiles(tmp_path / "0/peer.pem", tmp_path / "0/peer.key", tmp_path / "peers-ca.pem")
    certificate, authority = expiries(files)
    assert authority.at_s - certificate.at_s > 3000 * DAY_S
    lines(run("certs", str(tmp_path), "--renew", "--node", "0=elsewhere"))
    assert names(tmp_path / "0/peer.pem") == frozenset({"0", "elsewhere"})


def test_an_authority_is_exchanged_in_three_steps(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--client", "x"))
    old = (tmp_path / "peers-ca.pem").read_bytes()
    old_leaf = tmp_path / "old.pem"
    old_leaf.write_bytes((tmp_path / "0/peer.pem").read_bytes())
    old_leaf.with_suffix(".key").write_bytes((tmp_path / "0/peer.key").read_bytes())
    peers, one = tmp_path / "peers-ca.pem", tmp_path / "1/peer.pem"

    lines(run("certs", str(tmp_path), "--renew-ca"))
    assert peers.read_bytes().endswith(old)
    assert (tmp_path / "0/peers-ca.pem").read_bytes() == peers.read_bytes()
    assert "end that exchange first" in complaint(str(tmp_path), "--renew-ca")
    assert "signed by the old authority" in complaint(str(tmp_path), "--retire-ca")

    lines(run("certs", str(tmp_path), "--renew"))
    shake_hands(old_leaf, one, name="0", server_trusts=peers, client_trusts=peers)
    shake_hands(one, old_leaf, name="1", server_trusts=peers, client_trusts=peers)

    lines(run("certs", str(tmp_path), "--retire-ca"))
    assert old not in peers.read_bytes()
    assert (tmp_path / "0/peers-ca.pem").read_bytes() == peers.read_bytes()
    shake_hands(tmp_path / "0/peer.pem", one, name="0", server_trusts=peers, client_trusts=peers)
    with pytest.raises(ssl.SSLError):
        shake_hands(one, old_leaf, name="1", server_trusts=peers, client_trusts=peers)
    assert "none is to be retired" in complaint(str(tmp_path), "--retire-ca")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--node", "0=10.0.0.1:7000"),
            "names and IP addresses without ports",
        ),
        (("--node", "10.0.0.1"), "cannot be a DNS name in a certificate"),
        (("--node", "../x"), "cannot be a DNS name in a certificate"),
        (("--node", "clients"), "that directory is for clients"),
        (("--client", "../x"), "give a name of letters"),
        (("--renew",), "leave out --renew"),
        (("--renew-ca",), "leave out --renew-ca"),
        (("--renew", "--renew-ca"), "three steps"),
        (("--renew-ca", "--node", "0"), "concern all"),
    ],
)
def test_a_mistake_is_one_sentence_and_makes_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert re.search(said, complaint(str(tmp_path / "pki"), *arguments))
    assert not (tmp_path / "pki").exists()


def move_away_the_key(pki: Path) -> None:
    (pki / "peers-ca.key").rename(pki / "offline")


def exchange_the_keys(pki: Path) -> None:
    (pki / "peers-ca.key").write_bytes((pki / "clients-ca.key").read_bytes())


def spoil_the_key(pki: Path) -> None:
    (pki / "peers-ca.key").write_bytes(b"garbage")


def leave_a_key_alone(pki: Path) -> None:
    (pki / "3").mkdir()
    (pki / "3/peer.key").write_bytes(b"somebody's")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (move_away_the_key, "peers-ca.key is not there: bring it back"),
        (exchange_the_keys, "none of the certificates belongs to the key"),
        (spoil_the_key, "peers-ca.key cannot be used"),
        (leave_a_key_alone, "peer.key is there without peer.pem: move it away"),
    ],
)
def test_what_is_wrong_with_the_directory_is_one_sentence(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    lines(run("certs", str(tmp_path)))
    damage(tmp_path)
    assert said in complaint(str(tmp_path), "--node", "3")


def test_other_hosts_need_renew(tmp_path: Path) -> None:
    lines(run("certs", str(tmp_path), "--node", "0=h0"))
    before = contents(tmp_path)
    assert "say --renew as well" in complaint(str(tmp_path), "--node", "0=h1")
    assert contents(tmp_path) == before


def test_without_the_package_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "can_read", lambda: False)
    said = complaint(str(tmp_path / "pki"), code=1)
    assert said == "it needs cryptography; install it with: pip install 'trioraft[tls]'"
