"""What happens in a node, told to who watches it from elsewhere: some of it, and the same on all
nodes."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from tests.client.service_support import client_of, serving, until
from tests.client.support import PATIENCE_S
from trioraft.core.events import (
    CommitAdvanced,
    ElectionTimerStarted,
    MessageReceived,
    MessageSent,
    TraceEvent,
)
from trioraft.core.messages import AppendEntries, AppendEntriesReply, Message, RequestVote
from trioraft.core.types import Entry, Role
from trioraft.rpc.protocol import EventsNews, StatusNews
from trioraft.service import event_feed
from trioraft.service.event_feed import EventSampler


def sent(message: Message, at_s: float) -> TraceEvent:
    return MessageSent(at_s, message)


def received(message: Message, at_s: float) -> TraceEvent:
    return MessageReceived(at_s, message, 1, None, Role.FOLLOWER)


def traffic(rounds: int) -> Iterator[tuple[float, AppendEntries, AppendEntriesReply]]:
    """Heartbeats, and in some rounds several messages with entries, as a leader sends them."""
    index = 0
    for number in range(rounds):
        at_s = number * 0.05
        yield at_s, *exchange(number, index, 0)
        for _ in range(number % 3):
            yield at_s, *exchange(number, index, 2)
            index += 2


def exchange(number: int, index: int, size: int) -> tuple[AppendEntries, AppendEntriesReply]:
    entries = tuple(Entry(index + 1 + i, 1, b"x") for i in range(size))
    request = AppendEntries("0", "1", 1, index, 1, entries, index, round=number)
    return request, AppendEntriesReply("1", "0", 1, True, index + size, round=number)


def test_both_ends_of_a_message_choose_the_same_ones() -> None:
    leader, follower = EventSampler(8, 0.0), EventSampler(8, 0.0)
    told: list[list[Message]] = [[], []]
    for at_s, request, answer in traffic(400):
        for message in (request, answer):
            is_request = message is request
            for sampler, mine, is_sender in (
                (leader, told[0], is_request),
                (follower, told[1], not is_request),
            ):
                event = sent(message, at_s) if is_sender else received(message, at_s)
                if sampler.keep(event):
                    mine.append(message)
    assert told[0] == told[1]
    beats = [each for each in told[0] if isinstance(each, AppendEntries) and not each.entries]
    assert {each.round % 8 for each in beats} == {0}
    assert len(beats) == 50
    with_entries = [each for each in told[0] if isinstance(each, AppendEntries) and each.entries]
    assert len(with_entries) > len(beats)
    assert len(told[0]) < 400


def test_what_is_rare_is_all_told_and_what_is_counted_is_all_counted() -> None:
    sampler = EventSampler(100, 0.0)
    for number in range(1, 50):
        request, _ = exchange(number, 0, 0)
        assert not sampler.keep(sent(request, 0.0))
    assert sampler.keep(sent(RequestVote("0", "1", 2, 0, 0), 0.0))
    assert sampler.keep(ElectionTimerStarted(0.0, 0.2, 2))
    assert sampler.messages == {"AppendEntries": 49, "RequestVote": 1}


def test_no_more_is_told_in_a_second_than_the_bound_says() -> None:
    sampler = EventSampler(1, 0.0)
    kept = sum(sampler.keep(ElectionTimerStarted(at / 1000, 0.2, 1)) for at in range(10_000))
    assert kept <= event_feed.TOLD_AT_ONCE + 10 * event_feed.TOLD_PER_S + 1
    assert sampler.left_out == 10_000 - kept


def test_of_commits_the_last_one_is_enough() -> None:
    sampler = EventSampler(1, 0.0)
    assert not any(sampler.keep(CommitAdvanced(0.0, index)) for index in range(100))
    assert sampler.commit is not None
    assert sampler.commit.commit_index == 99


async def test_who_asks_for_events_gets_them_and_who_leaves_costs_nothing() -> None:
    async with serving() as (node, service), client_of(service) as client:
        assert not node._runner.raft.tracing  # type: ignore[union-attr] # it runs
        with trio.fail_after(PATIENCE_S):
            async with client.watch_status(interval_s=0.02, events_every=4) as stream:
                commits: list[int] = []
                await client.call(b"a")
                async for news in stream:
                    if isinstance(news, EventsNews):
                        assert news.node_id == node.id
                        commits += [
                            event.fields["commit_index"]
                            for event in news.events
                            if event.event == "commit_advanced"
                        ]
                        if commits and commits[-1] >= node.status.commit_index:
                            break
                assert node._runner.raft.tracing  # type: ignore[union-attr] # it runs
        await until(lambda: not node._runner.raft.tracing)  # type: ignore[union-attr] # it runs


async def test_who_does_not_ask_for_events_gets_none() -> None:
    async with serving() as (_, service), client_of(service) as client:
        with trio.fail_after(PATIENCE_S):
            async with client.watch_status(interval_s=0.02) as stream:
                for number in range(20):
                    await client.call(b"%d" % number)
                    assert isinstance(await anext(stream), StatusNews)
