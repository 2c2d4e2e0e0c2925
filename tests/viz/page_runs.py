"""Runs for the tests of the pages, from a few lines of log each.

Rules of this file: read by the real reader, so that pages are tested on what it makes.
"""

from __future__ import annotations

from collections.abc import Sequence

from trioraft.viz.analysis import analyse_lines
from trioraft.viz.model import Run

ELECTION = """\
=== RUN   TestElection
10:00:00.000000 [0] election timer started (150ms), term=0
10:00:00.000100 [1] election timer started (250ms), term=0
10:00:00.000200 [2] election timer started (280ms), term=0
10:00:00.150000 [0] becomes Candidate (currentTerm=1); log=[]
10:00:00.150100 [0] sending RequestVote to 1: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0}
10:00:00.150200 [0] sending RequestVote to 2: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0}
10:00:00.153000 [1] RequestVote: {Term:1 CandidateId:0 LastLogIndex:0 LastLogTerm:0} \
[currentTerm=0, votedFor=-1]
10:00:00.153100 [1] ... term out of date in RequestVote
10:00:00.153200 [1] becomes Follower with term=1; log=[]
10:00:00.153300 [1] ... RequestVote reply: &{Term:1 VoteGranted:true}
10:00:00.156000 [0] received RequestVoteReply {Term:1 VoteGranted:true}
10:00:00.156100 [0] wins election with 2 votes
10:00:00.156200 [0] becomes Leader; term=1, log=[]
10:00:00.160000 [0] sending AppendEntries to 1: ni=1, args={Term:1 LeaderId:0 PrevLogIndex:0 \
PrevLogTerm:0 Entries:[{Term:1 Index:1}] LeaderCommit:0}
10:00:00.161000 [1] AppendEntries: {Term:1 LeaderId:0 PrevLogIndex:0 PrevLogTerm:0 \
Entries:[{Term:1 Index:1}] LeaderCommit:0}
10:00:00.161100 [1] AppendEntries reply: {Term:1 Success:true}
10:00:00.162000 [0] received AppendEntriesReply {Term:1 Success:true}
10:00:00.162100 [0] commit index advances to 1
10:00:00.200000 [TEST] Disconnect 0
10:00:00.400000 [TEST] Reconnect 0
--- PASS: TestElection (0.41s)
"""


def run_of(text: str, source: str = "raft.log") -> Run:
    """The one run that these lines make."""
    runs = runs_of(text, source)
    if len(runs) != 1:
        raise ValueError(f"{len(runs)} runs, where one was meant")
    return runs[0]


def runs_of(text: str, source: str = "raft.log") -> Sequence[Run]:
    """The runs that these lines make."""
    return analyse_lines(text.splitlines(), source)
