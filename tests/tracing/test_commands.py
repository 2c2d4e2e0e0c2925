"""A command from its caller to the state machine, as spans: on a leader, through a follower, from a
client; and that nobody pays who does not trace.

Rules of this file: virtual time. Ports are real sockets, so time there waits a moment for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from trio.testing import MockClock

from tests.tracing.support import (
    Counter,
    Nodes,
    Traces,
    attribute,
    id_of,
    links_of,
    trace_of,
    traced_nodes,
)
from trioraft import Client, LocalClient, OutcomeUnknown, open_service
from trioraft.machines.sessions import SessionMachine

SOCKETS_S = 0.05
"""How long virtual time waits for what is on its way in a socket."""


@asynccontextmanager
async def traced_service(traces: Traces) -> AsyncIterator[tuple[Nodes, list[tuple[str, int]]]]:
    """Three nodes with ports; and where these are."""
    async with (
        traced_nodes(traces.tracer, lambda: SessionMachine(Counter())) as nodes,
        AsyncExitStack() as stack,
    ):
        addresses = []
        for node_id, node in nodes.nodes.items():
            machine, at = nodes.machines[node_id], ("127.0.0.1", 0)
            opened = open_service(node, machine, at, tracer=traces.tracer())
            addresses.append((await stack.enter_async_context(opened)).address)
        yield nodes, addresses


async def test_on_the_leader(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader = await nodes.leader()
        assert await leader.propose(b"one") == 1
    assert traces.tree() == [
        f"propose at {leader.id}",
        f"  commit at {leader.id}",
        f"    write at {leader.id}",
        f"  apply at {leader.id}",
    ]
    (commit,), (apply,) = traces.named("trioraft.commit"), traces.named("trioraft.apply")
    assert attribute(commit, "index") == attribute(apply, "index") == 2
    assert attribute(commit, "term") == leader.status.term
    assert commit.end_time is not None
    assert apply.start_time is not None
    assert commit.end_time <= apply.start_time
    assert len({trace_of(span) for span in traces.spans}) == 1


async def test_through_a_follower_it_is_one_trace(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader, follower = await nodes.leader(), await nodes.follower()
        with trace.use_span(traces.tracer().start_span("shop"), end_on_exit=True):
            assert await follower.forward(b"one") == 1
        await leader.wait(lambda status: status.applied_index == 2)
    assert traces.tree() == [
        "shop",
        f"  forward at {follower.id}",
        f"    take at {leader.id}",
        f"      commit at {leader.id}",
        f"        write at {leader.id}",
        f"      apply at {leader.id}",
        f"    apply at {follower.id}",
    ]


async def test_by_the_node_of_this_process(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer, lambda: SessionMachine(Counter())) as nodes:
        leader = await nodes.leader()
        client = LocalClient(leader, nodes.machines[leader.id])
        assert await client.call(b"first") == 1
        traces.clear()
        assert await client.call(b"second") == 2
    assert traces.tree()[0] == f"forward at {leader.id}"
    assert f"  apply at {leader.id}" in traces.tree()


async def test_from_a_client(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = SOCKETS_S
    traces = Traces()
    async with traced_service(traces) as (nodes, addresses):
        leader = await nodes.leader()
        async with Client(addresses, tracer=traces.tracer()) as client:
            assert await client.call(b"opens a session") == 1
            traces.clear()
            assert await client.call(b"one") == 2
            assert await client.query(b"how many?") == 2
            tree = traces.tree()
    assert tree == [
        "call",
        f"  propose at {leader.id}",
        f"    commit at {leader.id}",
        f"      write at {leader.id}",
        f"    apply at {leader.id}",
        "query",
        f"  query at {leader.id}",
    ]
    assert all(span.status.status_code is not StatusCode.ERROR for span in traces.spans)


async def test_commands_of_one_write_share_its_span_by_links(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader = await nodes.leader()
        for _ in range(2):  # the first of all is taken to be alone; then they come in one go
            traces.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(leader.propose, b"one")
    (write,) = traces.named("trioraft.write")
    commits = {id_of(span) for span in traces.named("trioraft.commit")}
    assert len(commits) == 5
    assert write.parent is not None
    assert links_of(write) | {write.parent.span_id} == commits
    assert attribute(write, "entries") == 5
    assert len({trace_of(span) for span in traces.spans}) == 5


async def test_what_a_command_raises_is_told(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader = await nodes.leader()
        with pytest.raises(KeyError):
            await leader.propose(b"raise")
    states = {span.name: span.status.status_code for span in traces.spans}
    assert states["trioraft.apply"] is states["trioraft.propose"] is StatusCode.ERROR
    assert states["trioraft.commit"] is not StatusCode.ERROR, "it is committed all the same"


async def test_a_node_that_dies_leaves_no_span_open(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader = await nodes.leader()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def propose() -> None:
                with pytest.raises(OutcomeUnknown):
                    await leader.propose(b"one")

            await trio.testing.wait_all_tasks_blocked()
            leader.kill()
    (commit,) = traces.named("trioraft.commit")
    assert commit.status.status_code is StatusCode.ERROR
    assert "OutcomeUnknown" in str(commit.status.description)


async def test_the_state_machine_does_not_see_who_traces(autojump_clock: MockClock) -> None:
    """What it computes must not depend on that."""

    class Looks(Counter):
        seen: bool | None = None

        def apply(self, index: int, data: bytes) -> int:
            self.seen = trace.get_current_span().get_span_context().is_valid
            return super().apply(index, data)

    traces = Traces()
    async with traced_nodes(traces.tracer, Looks) as nodes:
        leader = await nodes.leader()
        await leader.propose(b"one")
        assert nodes.machines[leader.id].seen is False


@pytest.mark.parametrize("who", ["nobody has a tracer", "nothing is sampled"])
async def test_where_nobody_traces_there_is_nothing(who: str, autojump_clock: MockClock) -> None:
    traces = Traces(ALWAYS_OFF)
    tracer = traces.tracer if who == "nothing is sampled" else lambda: None
    async with traced_nodes(tracer) as nodes:
        leader, follower = await nodes.leader(), await nodes.follower()
        await leader.propose(b"one")
        await follower.forward(b"two")
        member, traced = leader._runner.member, leader._runner.traced
        assert member is not None
        assert member.applies.around is None
        assert traced is None or not traced.uncommitted
    assert traces.spans == []


async def test_nothing_is_kept_of_what_is_over(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with traced_nodes(traces.tracer) as nodes:
        leader, follower = await nodes.leader(), await nodes.follower()
        for number in range(20):
            await (leader.propose if number % 2 else follower.forward)(b"one")
        await trio.sleep(1)
        for node in (leader, follower):
            traced = node._runner.traced
            assert traced is not None
            assert not traced.uncommitted
            assert not traced.spans.open
