"""Roles: who may do what, at a real port; and the file that says so."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import trustme

from tests.client.service_support import HELLO, Appends, raw_client, serving
from tests.client.support import ends
from tests.client.test_tls import server_context
from tests.support import open_single
from trioraft import (
    BlockingClient,
    Client,
    ConfigError,
    DeadlineExceeded,
    HandshakeRefused,
    PermissionDenied,
    Roles,
    ServerTls,
    SessionMachine,
    UnknownCommand,
    open_service,
)
from trioraft.core.errors import RaftError
from trioraft.kv import ERROR_TYPES, KvClient, KvMachine
from trioraft.kv import commands as kv
from trioraft.machines.sessions import (
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from trioraft.rpc import protocol
from trioraft.rpc.failures import error_of, failure_of
from trioraft.rpc.protocol import ClientHello
from trioraft.service.roles import NEEDED, ClientRole, Credentials, Permission

TOKEN = "trioraft-a-token-of-tests"  # noqa: S105 - of tests
SHA256 = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Roles]:
    """Make roles of a file's text."""

    def roles(text: str) -> Roles:
        path = tmp_path / "roles.toml"
        path.write_text(text, encoding="utf-8")
        return Roles(path)

    return roles


Write = Callable[[str], Roles]


def token_section(role: str, further: str = "", name: str = "ci", token: str = TOKEN) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[tokens.{name}]\nsha256 = "{digest}"\nrole = "{role}"\n{further}\n'


def permission(roles: Roles, *names: str, token: str = "") -> Permission:
    return roles.permission_of(Credentials.of(names, token))


# -- who has which role --------------------------------------------------------------------


def test_the_closest_section_counts(write: Write) -> None:
    roles = write(
        '[certificates."*"]\nrole = "read"\n'
        '[certificates."app-*"]\nrole = "write"\n'
        '[certificates."app-one"]\nrole = "admin"\n' + token_section("read")
    )
    assert permission(roles, "app-one").grant.role is ClientRole.ADMIN
    assert permission(roles, "app-two").grant.role is ClientRole.WRITE
    assert permission(roles, "other").grant.role is ClientRole.READ
    assert permission(roles, "other", "app-one").grant.role is ClientRole.ADMIN
    assert permission(roles, "app-one", token=TOKEN).grant.role is ClientRole.READ


def test_who_is_in_no_section_has_no_role(write: Write) -> None:
    roles = write('[certificates."alice"]\nrole = "read"\n')
    for names, token, reason in (
        (("bob",), "", r"its certificate's names \('bob'\) are in no \[certificates"),
        (("alice2",), "", "names"),
        (("alice",), "guessed", r"its token is in no \[tokens"),
        ((), "", "no certificate and no token"),
    ):
        with pytest.raises(PermissionDenied, match=reason):
            permission(roles, *names, token=token)


def test_every_kind_of_request_needs_a_role_and_unknown_ones_the_highest() -> None:
    for kind in get_args(protocol.Request):
        needed = NEEDED.get(kind, ClientRole.ADMIN)
        assert needed is {
            "Propose": ClientRole.WRITE,
            **dict.fromkeys(
                ("Ping", "GetStatus", "Cancel", "Take", "WatchStatus", "Query", "Watch"),
                ClientRole.READ,
            ),
        }.get(kind.__name__, ClientRole.ADMIN)


# -- prefixes ------------------------------------------------------------------------------


def compare(key: bytes, *, is_prefix: bool = False, until: bytes | None = None) -> kv.Compare:
    by, how = kv.CompareBy.VERSION, kv.CompareHow.EQUAL
    return kv.Compare(key, by, how, 0, is_prefix, until)


COMMANDS: tuple[Callable[[bytes], kv.Command], ...] = (
    lambda key: kv.Put(key, b""),
    lambda key: kv.Append(key, b""),
    lambda key: kv.Cas(key, None, b""),
    kv.Delete,
    kv.Increment,
    kv.DeleteRange,
    lambda key: kv.DeleteRange(key, key + b"\x00"),
    lambda key: kv.Txn((compare(key),)),
    lambda key: kv.Txn((compare(key, is_prefix=True),)),
    lambda key: kv.Txn((compare(key, until=key + b"\x00"),)),
    lambda key: kv.Txn(then=(kv.Put(b"app/", b""), kv.Put(key, b""))),
    lambda key: kv.Txn(then=(kv.Look(kv.Range(key)),)),
    lambda key: kv.Txn(otherwise=(kv.Look(kv.Get(key)),)),
    lambda key: kv.GrantLease(1000, key),
    lambda key: kv.KeepAlive(7, key),
    lambda key: kv.Revoke(7, key),
)
QUERIES: tuple[Callable[[bytes], kv.Query], ...] = (
    kv.Get,
    kv.Range,
    lambda key: kv.Changes(1, key),
    lambda key: kv.Changes(1, key, until=key + b"\x00"),
    lambda key: kv.TimeToLive(7, key),
)


def test_all_kinds_are_tried() -> None:
    assert {type(make(b"")) for make in COMMANDS} == set(get_args(kv.Command)) - {kv.Expire}
    assert {type(make(b"")) for make in QUERIES} == set(get_args(kv.Query))


def kv_permission(roles: Roles) -> Permission:
    machine = SessionMachine(KvMachine())
    roles.serve(machine, machine.machine)
    return permission(roles, token=TOKEN)


@pytest.mark.parametrize("make", COMMANDS)
def test_a_command_beyond_the_prefixes_is_refused(
    write: Write, make: Callable[[bytes], kv.Command]
) -> None:
    allowed = kv_permission(write(token_section("write", 'prefixes = ["app/", "b/"]')))
    for wrap in (encode_plain, lambda data: encode_command(5, 1, data)):
        for key in (b"app/x", b"b/", b"app/"):
            allowed.check(protocol.Propose(1, wrap(kv.encode(make(key)))))
        for key in (b"app", b"", b"other", b"App/x", b"\xff"):
            with pytest.raises(PermissionDenied, match=r"prefixes in \[tokens\.ci\] of .*'app/'"):
                allowed.check(protocol.Propose(1, wrap(kv.encode(make(key)))))
    for data in (encode_open(bytes(16)), encode_close(5)):
        allowed.check(protocol.Propose(1, data))


@pytest.mark.parametrize("make", QUERIES)
def test_a_question_beyond_the_prefixes_is_refused(
    write: Write, make: Callable[[bytes], kv.Query]
) -> None:
    bounded = kv_permission(write(token_section("read", 'prefixes = ["app/"]')))
    free = kv_permission(write(token_section("write", 'prefixes = ["app/"]\nread_prefixes = [""]')))
    for kind in (protocol.Query, protocol.Watch):
        bounded.check(kind(1, kv.encode(make(b"app/x"))))
        free.check(kind(1, kv.encode(make(b"other"))))
        with pytest.raises(PermissionDenied, match="read_prefixes"):
            bounded.check(kind(1, kv.encode(make(b"ap"))))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x91", b"\xc1", b"\x01" + b"\x91" * 100_000])
def test_what_cannot_be_read_is_refused_by_who_has_prefixes(write: Write, data: bytes) -> None:
    bounded = kv_permission(write(token_section("write", 'prefixes = ["app/"]')))
    for request in (
        protocol.Propose(1, data),
        protocol.Propose(1, encode_plain(data)),
        protocol.Query(1, data),
    ):
        with pytest.raises((UnknownCommand, ConfigError)):
            bounded.check(request)


async def test_prefixes_need_a_machine_that_names_its_keys(write: Write) -> None:
    roles = write(token_section("write", 'prefixes = ["a"]'))
    async with open_single() as node:
        with pytest.raises(ConfigError, match="Appends has no method 'keys_written'"):
            async with open_service(node, Appends(), ("127.0.0.1", 0), roles=roles):
                pass


# -- at the port ---------------------------------------------------------------------------


async def test_a_role_bounds_what_a_token_may_do(write: Write) -> None:
    roles = write(token_section("read") + token_section("write", name="app", token="w" * 40))
    async with serving(roles=roles) as (_, service):
        async with Client([service.address], token=TOKEN) as reader:
            assert await ends(reader.query(b"0")) == b""
            assert (await ends(reader.status())).node_id == "0"
            for call in (reader.call(b"x"), reader.call(b"x", exactly_once=False)):
                with pytest.raises(
                    PermissionDenied,
                    match=r"needs role write, but the bearer of \[tokens\.ci\] has role read",
                ):
                    await ends(call)
        async with Client([service.address], token="w" * 40) as writer:
            assert await ends(writer.call(b"x")) == 1
            for administer in (writer.take_snapshot(), writer.remove("9"), writer.replace("9")):
                with pytest.raises(PermissionDenied, match="needs role admin"):
                    await ends(administer)


async def test_the_status_shows_what_sessions_use() -> None:
    async with serving() as (_, service), Client([service.address]) as client:
        await ends(client.call(b"x"))
        budgets = (await ends(client.status())).budgets
    assert budgets["sessions"] == (1, 10_000)
    assert budgets["results_bytes"] == (257, 64 * 1024 * 1024)


async def test_who_has_no_role_is_refused_in_the_handshake(write: Write) -> None:
    async with serving(roles=write(token_section("admin"))) as (_, service):
        for options in ({}, {"token": "guessed"}):
            client = Client([service.address], **options)  # type: ignore[arg-type]
            async with client:
                with pytest.raises(PermissionDenied, match="token") as refused:
                    await ends(client.call(b"x"))
                assert isinstance(refused.value, HandshakeRefused)
                assert refused.value.refusal == "no-role"
        async with raw_client(service.address, hello=False) as raw:
            await raw.send(HELLO, protocol.GetStatus(1))
            welcome = protocol.decode_welcome(await raw.payload() or b"")
            assert welcome.refused == "no-role"
            assert await raw.is_closed()


async def test_certificates_have_roles_by_their_names(write: Write) -> None:
    authority = trustme.CA()
    roles = write(
        '[certificates."app-*"]\nrole = "write"\nprefixes = ["app/"]\n'
        '[certificates."Alice"]\nrole = "admin"\n'
    )
    machine = SessionMachine(KvMachine(), error_types=ERROR_TYPES)

    def context(name: str, **options: Any) -> Any:
        made = ssl.create_default_context()
        authority.configure_trust(made)
        authority.issue_cert(name, **options).configure_cert(made)
        return made

    async with serving(
        machine, ssl_context=server_context(authority, "127.0.0.1"), roles=roles
    ) as (_, service):
        async with Client([service.address], ssl_context=context("app-1")) as client:
            app = KvClient(client)
            await ends(app.put("app/x", "1"))
            assert await ends(app.get("app/x")) == b"1"
            with pytest.raises(PermissionDenied, match=r"certificate 'app-1'.*beyond|beyond"):
                await ends(app.put("other", "1"))
            with pytest.raises(PermissionDenied):
                await ends(app.get("other"))
            with pytest.raises(PermissionDenied, match="needs role admin"):
                await ends(client.take_snapshot())
        by_common_name = context("x.example", common_name="Alice")
        async with Client([service.address], ssl_context=by_common_name) as client:
            await ends(client.take_snapshot())
        async with Client([service.address], ssl_context=context("mallory")) as client:
            with pytest.raises(PermissionDenied, match="'mallory'"):
                await ends(client.call(b"x"))


async def test_tokens_need_no_certificate(write: Write) -> None:
    authority = trustme.CA()
    server = server_context(authority, "127.0.0.1", asks=False)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        serving(ssl_context=server, roles=write(token_section("write"))) as (_, service),
        Client([service.address], ssl_context=trusting, token=TOKEN) as client,
    ):
        assert await ends(client.call(b"x")) == 1


async def test_where_certificates_are_known_tokens_need_none_all_the_same(
    write: Write, tmp_path: Path
) -> None:
    """Clients' certificates and tokens side by side, also after the files were read again; a
    certificate that is shown must be the authority's."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(certificate), append=number > 0)
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    tls = ServerTls.from_files(certificate=certificate, key=key, authority=ca, may_be_nameless=True)
    tls.reload()
    roles = write(token_section("write") + '[certificates."app-*"]\nrole = "write"\n')

    def trusting(signed_by: trustme.CA | None) -> ssl.SSLContext:
        made = ssl.create_default_context()
        authority.configure_trust(made)
        if signed_by is not None:
            signed_by.issue_cert("app-1").configure_cert(made)
        return made

    async with serving(ssl_context=tls, roles=roles) as (_, service):
        at = [service.address]
        async with Client(at, ssl_context=trusting(None), token=TOKEN) as client:
            assert await ends(client.call(b"x")) == 1
        async with Client(at, ssl_context=trusting(authority)) as client:
            assert await ends(client.call(b"x")) == 2
        async with Client(at, ssl_context=trusting(None)) as client:
            with pytest.raises(PermissionDenied, match="no certificate and no token"):
                await ends(client.call(b"x"))
        async with Client(at, ssl_context=trusting(trustme.CA()), token=TOKEN) as client:
            with pytest.raises(DeadlineExceeded):
                await ends(client.call(b"x", timeout_s=0.3))


async def test_reloading_parts_with_whose_rights_changed(write: Write) -> None:
    other = token_section("write", name="app", token="w" * 40)
    roles = write(token_section("write") + other)
    async with (
        serving(roles=roles) as (_, service),
        Client([service.address], token=TOKEN) as demoted,
        Client([service.address], token="w" * 40) as same,
    ):
        assert await ends(demoted.call(b"x")) == 1
        assert await ends(same.call(b"x")) == 2
        roles.path.write_text("[tokens.ci]", encoding="utf-8")
        with pytest.raises(ConfigError, match="needs"):
            await service.reload_roles()
        assert await ends(demoted.call(b"x")) == 3
        write(token_section("read") + other)
        assert await service.reload_roles() == 1
        with pytest.raises(PermissionDenied, match="has role read"):
            await ends(demoted.call(b"x"))
        assert await ends(demoted.query(b"0")) == b""
        assert await ends(same.call(b"x")) == 4
        write(other)
        assert await service.reload_roles() == 1
        with pytest.raises(PermissionDenied, match="its token is in no"):
            await ends(demoted.query(b"0"))
        assert await service.reload_roles() == 0


def test_a_token_is_never_shown() -> None:
    hello = ClientHello("m", 1, "c", token=TOKEN)
    client = Client([("127.0.0.1", 1)], token=TOKEN)
    blocking = BlockingClient([("127.0.0.1", 1)], token=TOKEN)
    shown = [repr(hello), str(hello), repr(client), repr(client._dialer)]
    shown += [repr(blocking), repr(blocking._make), repr(Credentials.of((), TOKEN))]
    assert not any(TOKEN in text for text in shown)


def test_a_token_goes_nowhere_where_it_would_be_read() -> None:
    with pytest.raises(ConfigError, match="another machine"):
        Client([("10.0.0.1", 1)], token=TOKEN)
    Client([("10.0.0.1", 1)], token=TOKEN, insecure=True)
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConfigError, match="does not verify servers"):
        Client([("10.0.0.1", 1)], token=TOKEN, ssl_context=unverified)
    for token in ("", " x", "x\n", "é", "x" * 257):
        with pytest.raises(ConfigError, match="token") as refused:
            Client([("127.0.0.1", 1)], token=token)
        assert not token.strip() or token.strip() not in str(refused.value) or len(token) < 3


# -- the file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = [" * 100_000, "nested too deep|not a TOML file"),
        ("[certificates", "is not a TOML file"),
        ("certificates = 3", "certificates is no table"),
        ("[certificates]\nalice = 3", "is no section"),
        ("[users.alice]", "'users' is nothing known"),
        ("[certificates.alice]", r"\[certificates.\"alice\"\] needs a role"),
        ('[certificates.alice]\nrole = "root"', "give one of read, write, admin"),
        ('[certificates.alice]\nrole = "none"', "give one of read, write, admin"),
        ('[certificates.alice]\nrole = ["read"]', "needs a role"),
        ('[certificates.alice]\nrole = "read"\nprefix = "a"', "'prefix', which means nothing"),
        ('[certificates.alice]\nrole = "read"\nprefixes = "a"', "no list of texts"),
        ('[certificates.alice]\nrole = "read"\nprefixes = [1]', "no list of texts"),
        ('[certificates."*a"]\nrole = "read"', "with \\* at its end"),
        ('[certificates.""]\nrole = "read"', "give a name"),
        ('[tokens.ci]\nrole = "read"', "needs sha256"),
        ('[tokens.ci]\nrole = "read"\nsha256 = "zz"', "64 hexadecimal"),
        (token_section("read") + token_section("read", name="b"), "the token of another section"),
        ("#" * 2**20 + "\n", "is larger than"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_one_sentence(
    write: Write, text: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        write(text)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Roles(tmp_path / "none.toml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a TOML file"):
        Roles(tmp_path / "bytes")


def test_an_error_of_permission_crosses_the_wire_as_itself() -> None:
    error = error_of(failure_of(1, PermissionDenied("no")), {})
    assert type(error) is PermissionDenied
    assert isinstance(error, RaftError)
    assert str(error) == "no"
