"""What a client does when servers are away, wrong, slow or silent; on streams in memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client.support import (
    FakeServer,
    Hang,
    HangUp,
    address_of,
    echo,
    ends,
    failure,
    open_client,
    result,
)
from trioraft import (
    Client,
    ClientClosed,
    ConfigError,
    ConfigurationConflict,
    DeadlineExceeded,
    HandshakeRefused,
    OutcomeUnknown,
    PermissionDenied,
    ServerLost,
    SessionExpired,
)
from trioraft.machines.sessions import (
    CloseSession,
    CommandFailed,
    OpenSession,
    SessionCommand,
    encode_plain,
)
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    Answer,
    Cancel,
    Propose,
    Query,
    Request,
    TransferLeadership,
    Welcome,
)


def three(leader: int = 1, **options: Any) -> list[FakeServer]:
    return [
        FakeServer(str(number), "Leader" if number == leader else "Follower", **options)
        for number in range(3)
    ]


def once(kind: str, **fields: Any) -> Any:
    """A handler that fails the first session command, and is a good one from then on."""
    failed: list[Request] = []

    def handler(server: FakeServer, request: Request) -> Answer:
        is_command = bool(server.session_commands()) and isinstance(request, Propose)
        if is_command and not failed:
            failed.append(request)
            if kind == "hang up":
                raise HangUp
            if kind == "hang":
                raise Hang
            return failure(request, kind, **fields)
        return echo(server, request)

    return handler


# -- finding the leader --------------------------------------------------------------------


async def test_a_call_finds_the_leader_among_the_servers(autojump_clock: MockClock) -> None:
    servers = three()
    async with open_client(*servers) as client:
        assert await ends(client.call(b"one")) == b"one"
        assert await ends(client.call(b"two")) == b"two"
    assert [command.data for command in servers[1].session_commands()] == [b"one", b"two"]
    assert servers[0].commands == servers[2].commands == []


async def test_one_given_address_of_a_follower_is_enough(autojump_clock: MockClock) -> None:
    servers = three()
    servers[0].client_addresses = {server.node_id: address_of(server) for server in servers}
    async with open_client(*servers, given=(servers[0],)) as client:
        assert await ends(client.call(b"one")) == b"one"


async def test_a_redirect_to_an_address_that_nobody_gave_is_followed(
    autojump_clock: MockClock,
) -> None:
    """The old leader does not know yet that it is none when it is asked for its status."""
    old, new = FakeServer("0", "Leader", term=1), FakeServer("1", "Leader", term=2)

    def deposed(server: FakeServer, request: Request) -> Answer:
        return failure(request, "not-leader", leader_id="1", leader_address=address_of(new))

    old.handler = deposed
    async with open_client(old, new, given=(old,)) as client:
        assert await ends(client.call(b"one")) == b"one"


async def test_a_leader_of_an_older_term_is_not_believed_again(autojump_clock: MockClock) -> None:
    old, new = FakeServer("0", "Leader", term=1), FakeServer("1", "Leader", term=2)
    async with open_client(old, new, given=(new,)) as client:
        await ends(client.call(b"one"))
        assert (await ends(client.status(address_of(old)))).role == "Leader"
        new.is_down = True
        new.hang_up()
        with pytest.raises(DeadlineExceeded):
            await client.call(b"two", timeout_s=1.0)
    assert old.commands == []


async def test_an_election_is_waited_out_by_one_search(autojump_clock: MockClock) -> None:
    servers = three(leader=-1)
    async with (
        open_client(*servers, sessions=False) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(100):
            nursery.start_soon(ends, client.call(encode_plain(b"x")))
        await trio.sleep(1.0)
        asked = len(servers[0].requests)
        servers[2].role = "Leader"
    assert 4 <= asked <= 30  # not a hundred times as much
    assert len(servers[2].commands) == 100


async def test_nothing_is_searched_for_when_nobody_waits(autojump_clock: MockClock) -> None:
    servers = three(leader=-1)
    async with open_client(*servers) as client:
        with pytest.raises(DeadlineExceeded):
            await client.call(b"x", timeout_s=0.5)
        await trio.sleep(0.5)
        asked = len(servers[0].requests)
        await trio.sleep(60)
        assert len(servers[0].requests) == asked


async def test_a_server_that_goes_away_is_left_at_once(autojump_clock: MockClock) -> None:
    servers = three(leader=0)
    async with open_client(*servers) as client:
        await ends(client.call(b"one"))
        servers[1].role, servers[1].term = "Leader", 2
        await servers[0].tell()
        await trio.testing.wait_all_tasks_blocked()
        assert await ends(client.call(b"two")) == b"two"
    assert [command.data for command in servers[1].session_commands()] == [b"two"]


# -- trying again --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["not-leader", "dropped", "overloaded", "dead", "leaving", "unknown", "hang up"]
)
async def test_in_a_session_a_command_is_sent_again_with_its_number(
    kind: str, autojump_clock: MockClock
) -> None:
    server = FakeServer("0", "Leader", handler=once(kind))
    async with open_client(server) as client:
        assert await ends(client.call(b"one")) == b"one"
        assert await ends(client.call(b"two")) == b"two"
    numbers = [(command.sequence, command.data) for command in server.session_commands()]
    assert numbers == [(1, b"one"), (1, b"one"), (2, b"two")]


async def test_a_command_says_which_answers_have_come(autojump_clock: MockClock) -> None:
    server = FakeServer("0", "Leader")
    async with open_client(server) as client:
        for _ in range(3):
            await client.call(b"x")
    assert [command.acknowledged_below for command in server.session_commands()] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["not-leader", "dropped", "overloaded", "dead", "leaving"])
async def test_without_a_session_what_was_not_taken_is_sent_again(
    kind: str, autojump_clock: MockClock
) -> None:
    answers = [kind, "fine"]

    def handler(server: FakeServer, request: Request) -> Answer:
        answer = answers.pop(0)
        return result(request, b"done") if answer == "fine" else failure(request, answer)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server, sessions=False) as client:
        assert await ends(client.call(b"one")) == b"done"


@pytest.mark.parametrize("kind", ["unknown", "hang up"])
async def test_without_a_session_an_unknown_outcome_is_told(
    kind: str, autojump_clock: MockClock
) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        if kind == "hang up":
            raise HangUp
        return failure(request, kind)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server, sessions=False) as client:
        with pytest.raises(OutcomeUnknown, match="may or may not be applied"):
            await client.call(b"one")
    assert len([r for r in server.requests if isinstance(r, Propose)]) == 1


async def test_what_waited_for_its_turn_was_not_sent_and_goes_elsewhere(
    autojump_clock: MockClock,
) -> None:
    """Without a session: the one that was sent is lost, the one behind it is not."""
    outcomes: dict[bytes, Any] = {}

    def handler(server: FakeServer, request: Request) -> Answer:
        if isinstance(request, Propose) and request.data == b"sent":
            raise Hang
        return result(request, b"done")

    async def call(client: Client, data: bytes) -> None:
        try:
            outcomes[data] = await client.call(data)
        except OutcomeUnknown as error:
            outcomes[data] = error

    server = FakeServer("0", "Leader", handler=handler, requests_max=1)
    async with (
        open_client(server, sessions=False, silence_s=100.0) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(call, client, b"sent")
        await trio.sleep(0.1)
        nursery.start_soon(call, client, b"waits")
        await trio.sleep(0.1)
        server.hang_up()
    assert isinstance(outcomes[b"sent"], OutcomeUnknown)
    assert outcomes[b"waits"] == b"done"


# -- deadlines -----------------------------------------------------------------------------


async def test_a_deadline_without_any_server_says_that_nothing_was_applied(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", is_down=True)
    async with open_client(server) as client:
        started = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="nothing was applied") as caught:
            await client.call(b"x", timeout_s=2.0)
        assert trio.current_time() - started == pytest.approx(2.0)
    assert "Connection refused" in str(caught.value)
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_deadline_with_the_command_under_way_is_an_unknown_outcome(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader", handler=once("hang"))
    async with open_client(server, silence_s=100.0) as client:
        with pytest.raises(DeadlineExceeded, match="may or may not") as caught:
            await client.call(b"x", timeout_s=2.0)
        assert isinstance(caught.value, OutcomeUnknown)
        assert await ends(client.call(b"y")) == b"y"
    numbers = [(c.sequence, c.acknowledged_below) for c in server.session_commands()]
    assert numbers == [(1, 1), (2, 2)]  # the first will not be sent again


async def test_an_earlier_unknown_outcome_is_remembered_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        if server.session_commands():
            server.is_down = True
            raise HangUp
        return echo(server, request)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server) as client:
        with pytest.raises(OutcomeUnknown):
            await client.call(b"x", timeout_s=2.0)


async def test_a_refusal_that_repeats_until_the_deadline_is_a_known_outcome(
    autojump_clock: MockClock,
) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        if server.session_commands():
            return failure(request, "overloaded", "no room")
        return echo(server, request)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server) as client:
        with pytest.raises(DeadlineExceeded, match="no room") as caught:
            await client.call(b"x", timeout_s=2.0)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert len(server.session_commands()) < 30  # the pauses grow


# -- sessions ------------------------------------------------------------------------------


def expiring(*, hang_up_first: bool) -> Any:
    """A handler that has forgotten the first session."""
    opened = 0
    hung_up = False

    def handler(server: FakeServer, request: Request) -> Answer:
        nonlocal opened, hung_up
        command = server.commands[-1]
        if isinstance(command, OpenSession):
            opened += 1
            return result(request, opened)
        if isinstance(command, SessionCommand) and command.session_id == 1:
            if hang_up_first and not hung_up:
                hung_up = True
                raise HangUp
            return failure(request, "expired", "gone")
        return echo(server, request)

    return handler


async def test_a_new_session_is_opened_if_the_old_one_never_had_the_command(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader", handler=expiring(hang_up_first=False))
    async with open_client(server) as client:
        assert await ends(client.call(b"x")) == b"x"
    assert [(c.session_id, c.sequence) for c in server.session_commands()] == [(1, 1), (2, 1)]
    ids = [c.client_id for c in server.commands if isinstance(c, OpenSession)]
    assert len(set(ids)) == 2


async def test_an_expired_session_with_an_unknown_outcome_is_told(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader", handler=expiring(hang_up_first=True))
    async with open_client(server) as client:
        with pytest.raises(SessionExpired, match="gone"):
            await ends(client.call(b"x"))
        assert await ends(client.call(b"y")) == b"y"  # in a new one


async def test_a_denial_after_an_unknown_outcome_does_not_say_that_nothing_was_applied(
    autojump_clock: MockClock,
) -> None:
    """Its role may have been taken away between the two."""
    sent: list[Request] = []

    def handler(server: FakeServer, request: Request) -> Answer:
        if not isinstance(server.commands[-1], SessionCommand):
            return echo(server, request)
        sent.append(request)
        if len(sent) == 1:
            raise HangUp
        return failure(request, "denied", "no role any more")

    async with open_client(FakeServer("0", "Leader", handler=handler)) as client:
        with pytest.raises(OutcomeUnknown, match="no role any more; the command may be applied"):
            await ends(client.call(b"x"))
        with pytest.raises(PermissionDenied, match="no role any more"):
            await ends(client.call(b"y"))
    assert len(sent) == 3  # a denied command is not sent again


async def test_many_first_calls_open_one_session_and_leaving_closes_it(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    async with open_client(server) as client, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ends, client.call(b"x"))
    assert len([c for c in server.commands if isinstance(c, OpenSession)]) == 1
    assert isinstance(server.commands[-1], CloseSession)
    assert sorted(c.sequence for c in server.session_commands()) == list(range(1, 21))


async def test_whoever_gives_up_opening_a_session_leaves_it_to_the_next(
    autojump_clock: MockClock,
) -> None:
    """With the same client id: the servers open no second session."""
    silent = True

    def handler(server: FakeServer, request: Request) -> Answer:
        if silent:
            raise Hang
        return echo(server, request)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server) as client:
        with pytest.raises(DeadlineExceeded, match="nothing was applied"):
            await client.call(b"x", timeout_s=0.5)
        silent = False
        assert await ends(client.call(b"y")) == b"y"
    ids = [c.client_id for c in server.commands if isinstance(c, OpenSession)]
    assert len(ids) == 2
    assert len(set(ids)) == 1


# -- many at a time ------------------------------------------------------------------------


async def test_answers_in_any_order_go_to_those_who_asked(autojump_clock: MockClock) -> None:
    held: list[Request] = []

    def handler(server: FakeServer, request: Request) -> Answer:
        if server.session_commands():
            held.append(request)
            raise Hang
        return echo(server, request)

    server = FakeServer("0", "Leader", handler=handler)
    results: dict[bytes, Any] = {}

    async def call(client: Client, data: bytes) -> None:
        results[data] = await ends(client.call(data))

    async with open_client(server) as client, trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(call, client, b"%d" % number)
        await trio.sleep(0.1)
        assert len(held) == 10
        server.handler = None
        for request in random.Random(1).sample(held, 10):
            await server.tell(echo(server, request))
    assert results == {b"%d" % number: b"%d" % number for number in range(10)}


async def test_cancelling_one_call_leaves_the_others(autojump_clock: MockClock) -> None:
    server = FakeServer("0", "Leader", handler=once("hang"))
    async with open_client(server) as client:
        with trio.move_on_after(0.1) as given_up:
            await client.call(b"one")
        assert given_up.cancelled_caught
        assert await ends(client.call(b"two")) == b"two"
    assert len(server.hellos) == 1


async def test_no_more_is_sent_than_the_server_reads(autojump_clock: MockClock) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        raise Hang

    server = FakeServer("0", "Leader", handler=handler, requests_max=8)
    async with (
        open_client(server, sessions=False, silence_s=100.0) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(50):
            nursery.start_soon(client.call, b"x")
        await trio.sleep(1.0)
        assert len([r for r in server.requests if isinstance(r, Propose)]) == 8
        nursery.cancel_scope.cancel()


# -- errors --------------------------------------------------------------------------------


class NotEnough(Exception):  # noqa: N818 - a user's own
    """What a machine raises."""


async def test_what_the_machine_raised_is_raised(autojump_clock: MockClock) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        return failure(request, "command", "3 < 5", type_name="NotEnough")

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server, sessions=False, error_types=[NotEnough]) as client:
        with pytest.raises(NotEnough, match="3 < 5"):
            await client.call(b"x")
    async with open_client(server, sessions=False) as client:
        with pytest.raises(CommandFailed, match="NotEnough: 3 < 5") as caught:
            await client.call(b"x")
        assert caught.value.type_name == "NotEnough"


async def test_a_result_of_another_type_is_told(autojump_clock: MockClock) -> None:
    async with open_client(FakeServer("0", "Leader")) as client:
        with pytest.raises(ConfigError, match="the server did as asked"):
            await client.call(b"x", result_type=int)


async def test_a_command_that_is_no_bytes_or_too_large_is_refused(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    server.welcome = Welcome(MAGIC, PROTOCOL_VERSION, node_id="0", frame_bytes_max=100)
    async with open_client(server) as client:
        with pytest.raises(ConfigError, match="a command is bytes"):
            await client.call("text")  # type: ignore[call-overload] # that is the point
        with pytest.raises(ConfigError, match="larger than the server reads"):
            await client.call(bytes(200))
        assert await ends(client.call(b"small")) == b"small"


@pytest.mark.parametrize(
    ("welcome", "refusal"),
    [
        (Welcome(MAGIC, PROTOCOL_VERSION, "cluster", "another cluster"), "cluster"),
        (Welcome(MAGIC, 99), "version"),
        (Welcome("trioraft", 1), "not-a-client"),
    ],
)
async def test_a_client_that_no_server_wants_is_told_at_once(
    welcome: Welcome, refusal: str, autojump_clock: MockClock
) -> None:
    servers = three(welcome=welcome)
    async with open_client(*servers) as client:
        with pytest.raises(HandshakeRefused) as caught:
            await ends(client.call(b"x"))
        assert caught.value.refusal == refusal
        with pytest.raises(HandshakeRefused):
            await ends(client.query(b"x", consistency="stale"))


async def test_one_wrong_address_among_good_ones_does_no_harm(autojump_clock: MockClock) -> None:
    servers = three()
    servers[0].welcome = Welcome("trioraft", 1)
    async with open_client(*servers) as client:
        assert await ends(client.call(b"x")) == b"x"


async def test_a_client_that_is_not_open_says_so() -> None:
    client = Client([("127.0.0.1", 1)])
    with pytest.raises(ClientClosed):
        await client.call(b"x")
    async with client:
        with pytest.raises(ClientClosed, match="open already"):
            await client.__aenter__()
    with pytest.raises(ClientClosed):
        await client.call(b"x")


async def test_closing_ends_what_is_under_way(autojump_clock: MockClock) -> None:
    server = FakeServer("0", "Leader", handler=once("hang"))
    outcomes: list[BaseException] = []

    async def call(client: Client) -> None:
        try:
            await client.call(b"x")
        except (OutcomeUnknown, ClientClosed) as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery, open_client(server) as client:
        nursery.start_soon(call, client)
        await trio.sleep(0.1)
    assert isinstance(outcomes[0], OutcomeUnknown)


async def test_the_body_s_own_error_is_not_wrapped() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with Client([("127.0.0.1", 1)]):
            raise KeyError("mine")


async def test_being_cancelled_ends_the_client_without_a_goodbye(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    with trio.move_on_after(1.0) as scope:
        async with open_client(server) as client:
            await ends(client.call(b"x"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not any(isinstance(command, CloseSession) for command in server.commands)


@pytest.mark.parametrize(
    ("addresses", "options", "message"),
    [
        ([], {}, "no address"),
        ("127.0.0.1:1", {}, "is the string"),
        ([("127.0.0.1", 0)], {}, "port 0"),
        ([("127.0.0.1",)], {}, "give .host, port."),
        ([("", 1)], {}, "host ''"),
        ([("10.0.0.1", 1)], {}, "insecure=True"),
        ([("example.org", 1)], {}, "insecure=True"),
        ([("127.0.0.1", 1)], {"timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_given(
    addresses: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Client(addresses, **options)


# -- queries, and the cluster --------------------------------------------------------------


def answering(server: FakeServer, request: Request) -> Answer:
    if isinstance(request, Query):
        return result(request, [server.node_id, request.consistency])
    return echo(server, request)


async def test_a_query_goes_to_the_leader_or_to_whom_it_says(autojump_clock: MockClock) -> None:
    servers = three(handler=answering)
    async with open_client(*servers) as client:
        assert await ends(client.query(b"?")) == ["1", "linearizable"]
        assert await ends(client.query(b"?", consistency="lease")) == ["1", "lease"]
        assert await ends(client.query(b"?", at="2")) == ["2", "linearizable"]
        assert await ends(client.query(b"?", at=address_of(servers[0]))) == ["0", "linearizable"]
        servers[1].role = "Follower"
        assert (await ends(client.query(b"?", consistency="stale")))[1] == "stale"


async def test_a_query_that_is_not_answered_in_time_is_asked_again_and_called_back(
    autojump_clock: MockClock,
) -> None:
    asked = 0

    def handler(server: FakeServer, request: Request) -> Answer:
        nonlocal asked
        if isinstance(request, Query):
            asked += 1
            if asked == 1:
                raise Hang
        if isinstance(request, Cancel):
            raise Hang
        return answering(server, request)

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server, read_patience_s=0.7) as client:
        assert await ends(client.query(b"?")) == ["0", "linearizable"]
    query = next(request for request in server.requests if isinstance(request, Query))
    assert Cancel(query.id) in server.requests


async def test_one_certain_server_that_is_away_is_told(autojump_clock: MockClock) -> None:
    servers = three()
    servers[0].is_down = True
    async with open_client(*servers) as client:
        with pytest.raises(ServerLost, match="Connection refused"):
            await client.status(address_of(servers[0]))
        with pytest.raises(ServerLost, match="nobody knows where"):
            await client.status("9")
        statuses = await client.statuses()
    assert isinstance(statuses[address_of(servers[0])], ServerLost)
    roles = [getattr(status, "role", None) for status in statuses.values()]
    assert roles == [None, "Leader", "Follower"]


async def test_a_change_is_not_asked_for_twice(autojump_clock: MockClock) -> None:
    def handler(server: FakeServer, request: Request) -> Answer:
        raise HangUp

    server = FakeServer("0", "Leader", handler=handler)
    async with open_client(server) as client:
        with pytest.raises(OutcomeUnknown):
            await client.transfer_leadership("1")
    assert len([r for r in server.requests if isinstance(r, TransferLeadership)]) == 1


async def test_a_change_follows_the_leader(autojump_clock: MockClock) -> None:
    old, new = FakeServer("0", "Leader"), FakeServer("1", "Leader", term=2)
    old.handler = lambda _, request: failure(
        request, "not-leader", leader_id="1", leader_address=address_of(new)
    )
    new.handler = lambda _, request: result(request, 7)
    async with open_client(old, new, given=(old,)) as client:
        assert await ends(client.add_learner("2", ("127.0.0.1", 1))) == 7
        assert await ends(client.change_voters(["0", "2"], expected_index=7)) == 7
        assert await ends(client.remove("0")) == 7


async def test_errors_of_a_change_arrive_as_themselves(autojump_clock: MockClock) -> None:
    server = FakeServer(
        "0", "Leader", handler=lambda _, r: failure(r, "conflict", "another change")
    )
    async with open_client(server) as client:
        with pytest.raises(ConfigurationConflict, match="another change"):
            await client.remove("1")
