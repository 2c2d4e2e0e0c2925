"""Credentials: who may speak as a peer, as a rule over values; invitations."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

from tests.certificates import ANY, CLIENT, PEER, SERVER, UNSAID, Authority
from trioraft.core.errors import BadMessage, ConfigError
from trioraft.net import credentials, invitations
from trioraft.net.credentials import (
    SERVER_AUTH,
    Certificate,
    Evidence,
    PeerRule,
    matches,
    why_never_a_peer,
)
from trioraft.net.tls import TlsContexts, check_peer_names

KEY = b"nobody guesses this key"
DAY_S = 24 * 3600.0


@attrs.define
class Clock:
    """What time it is, in seconds since 1970."""

    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def for_peers(*names: str) -> Certificate:
    return Certificate(frozenset(names), frozenset({SERVER_AUTH}))


def unsaid(*names: str) -> Certificate:
    return Certificate(frozenset(names))


def rule(
    names: tuple[str, ...] | None = None,
    given: tuple[str, ...] = (),
    key: bytes | None = KEY,
    clock: Clock | None = None,
) -> PeerRule:
    return PeerRule(
        names=names, given=lambda: given, invite_key=key, now_s=Clock() if clock is None else clock
    )


def shown(invitation: str = "", disk: int = 7, named: int | None = None) -> Evidence:
    return Evidence("blue", invitation, disk, named)


def refuse(
    who: PeerRule, certificate: Certificate, what: Evidence, match: str, peer: str = "9"
) -> None:
    with pytest.raises(BadMessage, match=match) as refusal:
        who.check(peer, certificate, what)
    assert str(refusal.value).isprintable()


# -- certificates --------------------------------------------------------------------------


def test_any_name_in_a_peers_certificate_passes_where_none_are_named() -> None:
    rule().check("9", for_peers("9", "localhost"), shown())


def test_g1_a_certificate_for_clients_never_passes() -> None:
    """By no name that was given, and with no invitation."""
    clock = Clock()
    who = rule(("9",), ("9",), clock=clock)
    invitation = who.invite("9", DAY_S, cluster_id="blue")
    certificate = Certificate(frozenset({"9"}), frozenset({"1.3.6.1.5.5.7.3.2"}))
    refuse(who, certificate, shown(invitation), "'9' is not made for a peer")
    with pytest.raises(BadMessage, match="not made for a peer"):
        who.check_certificate("9", certificate)


def test_a_certificate_of_another_name() -> None:
    refuse(rule(), for_peers("2"), shown(), r"is for \['2'\], not for node '9'")


def test_a_certificate_that_says_no_purpose_needs_a_name_that_was_named() -> None:
    refuse(rule(), unsaid("9"), shown(), "'9' does not say what it is made for")
    rule(given=("9",)).check("9", unsaid("9"), shown())
    rule(("9",)).check("9", unsaid("9"), shown())
    refuse(rule(("8",), given=("9",)), unsaid("9"), shown(), "not among the names of peers")


def test_names_are_kept_to() -> None:
    who = rule(("node-*.example", "9"), given=("8",))
    who.check("node-1.example", for_peers("node-1.example"), shown())
    who.check("9", for_peers("9"), shown())
    refuse(who, for_peers("8"), shown(), "'8' is not among the names of peers; give its", "8")


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("node-1.example", "node-*.example", True),
        ("node-1.evil.example", "node-*.example", False),
        ("Node-1.example", "node-*.example", False),
        ("node-1.example", "*", False),
        ("9", "*", True),
        ("9", "?", True),
        ("10", "?", False),
    ],
)
def test_a_star_stands_for_one_label(name: str, pattern: str, expected: bool) -> None:
    assert matches(name, pattern) is expected


@pytest.mark.parametrize("names", [(), ("",), ("a b",), ("a..b",), ("[ab]",), "node"])
def test_patterns_that_match_nothing_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="give"):
        check_peer_names(names)


def test_contexts_bear_the_names(tmp_path: Path) -> None:
    contexts = Authority(tmp_path).contexts("0", peer_names=("0", "1"))
    assert contexts.peer_names == ("0", "1")
    with pytest.raises(ConfigError, match="is no pattern of names"):
        TlsContexts(contexts.server, contexts.client, peer_names=("a b",))


def test_without_cryptography_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"pip install 'trioraft\[tls\]'"):
        rule()


@pytest.mark.parametrize(
    ("purposes", "expected"),
    [(PEER, True), (UNSAID, True), (ANY, True), (CLIENT, False), (SERVER, False)],
)
def test_an_own_certificate_that_nobody_would_take_is_seen(
    purposes: tuple[object, ...], expected: bool, tmp_path: Path
) -> None:
    certificate, _ = Authority(tmp_path).issue("0", purposes)  # type: ignore[arg-type]  # its own
    assert (why_never_a_peer(certificate) == "") is expected


def test_of_a_file_that_is_no_certificate_nothing_is_said(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    for text in ("", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        garbage.write_text(text, encoding="ascii")
        assert why_never_a_peer(garbage) == ""


# -- invitations ---------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def others(clock: Clock) -> PeerRule:
    """A member that was told other names."""
    return rule(("1", "2"), clock=clock)


@pytest.fixture
def invitation(others: PeerRule) -> str:
    return others.invite("9", DAY_S, cluster_id="blue")


NINE = for_peers("9")


def test_an_invited_node_passes_and_again(others: PeerRule, invitation: str) -> None:
    others.check("9", NINE, shown(invitation))
    others.check("9", NINE, shown(invitation))
    others.check("9", NINE, shown(invitation, named=7))
    others.check("9", unsaid("9"), shown(invitation))


def test_every_member_with_the_key_takes_it(invitation: str, clock: Clock) -> None:
    rule(("1",), clock=clock).check("9", NINE, shown(invitation))
    refuse(rule(("1",), key=None), NINE, shown(invitation), "this node has no invitation key")
    other = rule(("1",), key=b"another key of the same kind")
    refuse(other, NINE, shown(invitation), "written with another invitation key")


def test_it_is_for_one_name_and_cluster(others: PeerRule, invitation: str) -> None:
    eight = for_peers("8")
    refuse(others, eight, shown(invitation), "is for node '9' of cluster 'blue', not for '8'", "8")
    refuse(others, for_peers("8"), shown(invitation), r"for \['8'\], not for node '9'")
    green = others.invite("9", DAY_S, cluster_id="green")
    refuse(others, NINE, shown(green), "cluster 'green', not for '9' of 'blue'")


def test_it_is_for_the_first_disk_that_shows_it(others: PeerRule, invitation: str) -> None:
    others.check("9", NINE, shown(invitation, disk=7))
    refuse(others, NINE, shown(invitation, disk=8), "is used up, by another disk")
    others.check("9", NINE, shown(invitation, disk=7))
    others.check("9", NINE, shown(others.invite("9", DAY_S, cluster_id="blue"), disk=8))


def test_where_the_id_is_bound_to_a_disk_only_that_one_may_use_it(
    others: PeerRule, invitation: str
) -> None:
    refuse(others, NINE, shown(invitation, disk=8, named=7), "has joined with another disk")
    others.check("9", NINE, shown(invitation, disk=7, named=7))


def test_it_expires_but_for_who_has_joined_with_it(
    others: PeerRule, invitation: str, clock: Clock
) -> None:
    others.check("9", NINE, shown(invitation))
    clock.now_s += DAY_S + 1
    refuse(others, NINE, shown(invitation), "has expired: invite it anew")
    refuse(others, NINE, shown(invitation, disk=8, named=7), "another disk")
    others.check("9", NINE, shown(invitation, named=7))


def test_an_altered_one_is_none(others: PeerRule, invitation: str) -> None:
    for at in range(len(invitation)):
        other = "A" if invitation[at] != "A" else "B"
        altered = invitation[:at] + other + invitation[at + 1 :]
        with pytest.raises(BadMessage, match="its invitation"):
            others.check("9", NINE, shown(altered))
    for text in (invitation[:-1], invitation + "A", invitation + "=", f"{invitation}.", "é.é.é"):
        refuse(others, NINE, shown(text), "its invitation")
    refuse(others, NINE, shown(invitation + "A" * 2000), "its invitation is none")
    others.check("9", NINE, shown(invitation))


def test_what_is_remembered_is_bounded(
    others: PeerRule, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "USED_MAX", 2)
    texts = [others.invite("9", DAY_S, cluster_id="blue") for _ in range(3)]
    others.check("9", NINE, shown(texts[0]))
    others.check("9", NINE, shown(texts[1]))
    refuse(others, NINE, shown(texts[2]), "2 invitations in use already")
    others.check("9", NINE, shown(texts[0]))
    clock.now_s += DAY_S + 1
    others.check("9", NINE, shown(others.invite("9", DAY_S, cluster_id="blue")))


def test_what_cannot_be_invited(others: PeerRule) -> None:
    with pytest.raises(ConfigError, match="has no invitation key: start every member"):
        rule(key=None).invite("9", DAY_S, cluster_id="blue")
    with pytest.raises(ConfigError, match="cannot be a DNS name"):
        others.invite("a b", DAY_S, cluster_id="blue")
    for valid_s in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="one is valid for 1 s to"):
            others.invite("9", valid_s, cluster_id="blue")
    with pytest.raises(ConfigError, match="an invitation key is 16 to 4096 bytes"):
        rule(key=b"short")


def test_the_longest_one_is_within_its_bound() -> None:
    name = ".".join(["n" * 63] * 3 + ["n" * 61])
    text = invitations.invite(KEY, cluster_id="c" * 128, node_id=name, expires_s=2**40)
    assert len(text) <= invitations.CHARS_MAX
    assert invitations.read(KEY, text).node_id == name
