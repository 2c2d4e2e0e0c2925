"""A log written by hand, in the words of a story: who says what, and when.

Rules of this file: times are in milliseconds since the start; lines are as the Go project writes
them, unless a test says otherwise.
"""

from __future__ import annotations

import attrs

from trioraft.viz.analysis import analyse_lines
from trioraft.viz.model import Finding, Run


@attrs.define
class Script:
    """Lines of one run."""

    name: str = "TestStory"
    lines: list[str] = attrs.Factory(list)

    def say(self, at_ms: float, who: object, text: str) -> None:
        """An entry."""
        minutes, seconds = divmod(at_ms / 1000, 60)
        self.lines.append(f"10:{int(minutes):02d}:{seconds:09.6f} [{who}] {text}")

    def test(self, at_ms: float, text: str) -> None:
        """The test does something."""
        self.say(at_ms, "TEST", text)

    def timer(self, at_ms: float, node: int, timeout_ms: int, term: int) -> None:
        """An election timer starts."""
        self.say(at_ms, node, f"election timer started ({timeout_ms}ms), term={term}")

    def bails(self, at_ms: float, node: int, term: int) -> None:
        """An election timer notices that the term has changed."""
        text = f"in election timer term changed from {term} to {term + 1}, bailing out"
        self.say(at_ms, node, text)

    def candidate(self, at_ms: float, node: int, term: int) -> None:
        """It asks for votes; whom is said apart."""
        self.say(at_ms, node, f"becomes Candidate (currentTerm={term}); log=[]")

    def leader(self, at_ms: float, node: int, term: int) -> None:
        """It takes office."""
        self.say(at_ms, node, f"becomes Leader; term={term}, log=[]")

    def follower(self, at_ms: float, node: int, term: int) -> None:
        """It follows."""
        self.say(at_ms, node, f"becomes Follower with term={term}; log=[]")

    def asks(self, at_ms: float, candidate: int, voter: int, term: int) -> None:
        """A request for a vote leaves."""
        self.say(at_ms, candidate, f"sending RequestVote to {voter}: {_request(candidate, term)}")

    def answers(
        self, at_ms: float, voter: int, candidate: int, term: int, *, granted: bool = True
    ) -> None:
        """The request arrives, and is answered at once."""
        request = _request(candidate, term)
        self.say(at_ms, voter, f"RequestVote: {request} [currentTerm={term}, votedFor=-1]")
        self.say(at_ms, voter, f"... RequestVote reply: &{_vote(term, granted)}")

    def hears_vote(self, at_ms: float, candidate: int, term: int, *, granted: bool = True) -> None:
        """The answer arrives."""
        self.say(at_ms, candidate, f"received RequestVoteReply {_vote(term, granted)}")

    def heartbeat(
        self, at_ms: float, leader: int, follower: int, term: int, *, arrives: bool = True
    ) -> None:
        """A heartbeat, and its answer, a millisecond on each way."""
        body = _heartbeat(leader, term)
        self.say(at_ms, leader, f"sending AppendEntries to {follower}: ni=0, args={body}")
        if arrives:
            self.say(at_ms + 1, follower, f"AppendEntries: {body}")
            self.say(at_ms + 1, follower, f"AppendEntries reply: {{Term:{term} Success:true}}")

    def elected(self, at_ms: float, leader: int, term: int, size: int = 3) -> None:
        """An election without any trouble, over in two milliseconds."""
        self.candidate(at_ms, leader, term)
        voters = [node for node in range(size) if node != leader]
        for voter in voters:
            self.asks(at_ms, leader, voter, term)
        for voter in voters:
            self.follower(at_ms + 1, voter, term)
            self.answers(at_ms + 1, voter, leader, term)
        for _ in voters:
            self.hears_vote(at_ms + 2, leader, term)
        self.leader(at_ms + 2, leader, term)

    def reigns(
        self, start_ms: float, end_ms: float, leader: int, term: int, *, followers: tuple[int, ...]
    ) -> None:
        """Heartbeats every 50 ms."""
        at_ms = start_ms
        while at_ms < end_ms:
            for follower in followers:
                self.heartbeat(at_ms, leader, follower, term)
            at_ms += 50

    def run(self) -> Run:
        """The run, analysed."""
        (run,) = analyse_lines([f"=== RUN   {self.name}", *self.lines], "story.log")
        return run

    def findings(self, kind: str) -> list[Finding]:
        """What is found of this kind."""
        return [finding for finding in self.run().findings if finding.kind == kind]


def _request(candidate: int, term: int) -> str:
    return f"{{Term:{term} CandidateId:{candidate} LastLogIndex:0 LastLogTerm:0}}"


def _vote(term: int, granted: bool) -> str:
    return f"{{Term:{term} VoteGranted:{'true' if granted else 'false'}}}"


def _heartbeat(leader: int, term: int) -> str:
    return (
        f"{{Term:{term} LeaderId:{leader} PrevLogIndex:0 PrevLogTerm:0 Entries:[] LeaderCommit:0}}"
    )


def three_nodes() -> Script:
    """Node 0 of three leads term 1 since 202 ms."""
    script = Script()
    for node, timeout_ms in ((0, 200), (1, 250), (2, 290)):
        script.timer(0, node, timeout_ms, 0)
    script.elected(200, 0, 1)
    return script
