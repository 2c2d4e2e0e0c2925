"""What the sample project builds: votes, counted the same on every node."""

from __future__ import annotations

import msgspec

from trioraft import ReplicatedObject, command, query


class AlreadyVoted(Exception):  # noqa: N818 - what the voter is told
    """Each voter has one vote."""


class Votes(ReplicatedObject):
    """One vote for each voter."""

    votes: dict[str, str] = msgspec.field(default_factory=dict)

    @command
    def vote(self, voter: str, choice: str) -> int:
        """Give a vote; returns how many that choice has."""
        if voter in self.votes:
            raise AlreadyVoted(voter)
        self.votes[voter] = choice
        return sum(each == choice for each in self.votes.values())

    @query
    def result(self) -> dict[str, int]:
        """How many votes each choice has."""
        counted: dict[str, int] = {}
        for choice in self.votes.values():
            counted[choice] = counted.get(choice, 0) + 1
        return counted
