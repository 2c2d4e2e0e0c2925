"""A raftlog of any length, made by rule: what the page's speed is measured on.

Rules of this file: the same length gives the same lines; they read like those of a real cluster of
five: heartbeats and entries with their replies, some lost, elections, a node cut off now and then.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Final

NODES: Final = 5
HEARTBEAT_US: Final = 50_000
ROUNDS_PER_TERM: Final = 60


def raftlog_lines(count: int, *, seed: int = 1) -> Iterator[str]:
    """A header, `count` entries and a verdict.

    Args:
        count: entries, all of them with a time.
        seed: of the delays and losses.
    """
    yield "=== RUN   benchmark"
    yield from islice(_Cluster(random.Random(seed)).entries(), count)
    yield "--- PASS: benchmark (1.00s)"


class _Cluster:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now_us = 0
        self._term = 0
        self._last_index = 0
        self._lines: list[tuple[int, str]] = []

    def entries(self) -> Iterator[str]:
        while True:
            leader = self._term % NODES
            self._elect(leader)
            yield from self._flush()
            for round_number in range(ROUNDS_PER_TERM):
                self._replicate(leader, carries=round_number % 3 == 0)
                yield from self._flush()
            self._say(self._now_us, "TEST", f"Disconnect {leader}")
            self._say(self._now_us + 400_000, "TEST", f"Reconnect {leader}")
            self._now_us += 150_000

    def _say(self, at_us: int, who: int | str, text: str) -> None:
        self._lines.append((at_us, f"[{who}] {text}"))

    def _flush(self) -> Iterator[str]:
        """What was said up to now, in the order of the clock; the rest waits."""
        self._lines.sort()
        due = [line for line in self._lines if line[0] <= self._now_us]
        self._lines = self._lines[len(due) :]
        for at_us, text in due:
            seconds, us = divmod(at_us, 1_000_000)
            clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{us:06}"
            yield f"{clock} {text}"

    def _elect(self, winner: int) -> None:
        self._term += 1
        term, start = self._term, self._now_us
        self._say(start, winner, f"becomes Candidate (currentTerm={term}); log=[]")
        for other in self._others(winner):
            ask = f"{{Term:{term} CandidateId:{winner} LastLogIndex:0 LastLogTerm:0}}"
            self._say(start + 10, winner, f"sending RequestVote to {other}: {ask}")
            arrival = start + self._rng.randrange(1_000, 9_000)
            known = f"[currentTerm={term - 1}, votedFor=-1]"
            self._say(arrival, other, f"RequestVote: {ask} {known}")
            self._say(arrival + 20, other, f"becomes Follower with term={term}; log=[]")
            reply = f"{{Term:{term} VoteGranted:true}}"
            self._say(arrival + 40, other, f"... RequestVote reply: &{reply}")
            timeout_ms = self._rng.randrange(150, 300)
            self._say(arrival + 60, other, f"election timer started ({timeout_ms}ms), term={term}")
            back = arrival + self._rng.randrange(1_000, 9_000)
            self._say(back, winner, f"received RequestVoteReply {reply}")
        self._now_us = start + 20_000
        self._say(self._now_us, winner, f"becomes Leader; term={term}, log=[]")

    def _replicate(self, leader: int, *, carries: bool) -> None:
        start = self._now_us
        index = self._last_index
        entries = f"{{Term:{self._term} Index:{index + 1}}}" if carries else ""
        self._last_index += carries
        for other in self._others(leader):
            args = (
                f"{{Term:{self._term} LeaderId:{leader} PrevLogIndex:{index} "
                f"PrevLogTerm:{self._term} Entries:[{entries}] LeaderCommit:{index}}}"
            )
            self._say(
                start, leader, f"sending AppendEntries to {other}: ni={index + 1}, args={args}"
            )
            if self._rng.random() < 0.02:
                continue  # lost
            arrival = start + self._rng.randrange(800, 12_000)
            self._say(arrival, other, f"AppendEntries: {args}")
            reply = f"{{Term:{self._term} Success:true}}"
            self._say(arrival + 30, other, f"AppendEntries reply: {reply}")
            back = arrival + self._rng.randrange(800, 12_000)
            self._say(back, leader, f"received AppendEntriesReply {reply}")
        if carries:
            self._say(start + 26_000, leader, f"commit index advances to {self._last_index}")
        self._now_us = start + HEARTBEAT_US

    def _others(self, node: int) -> list[int]:
        return [other for other in range(NODES) if other != node]
