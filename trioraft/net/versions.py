"""Versions of a protocol: each side says from which to which it speaks; the highest common one is
spoken on that connection (docs/upgrading.md).

A program of before there were ranges says one number, which is read as a range of one.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Versions: TypeAlias = tuple[int, int]
"""The lowest and the highest, both included."""

MORE: Final = "docs/upgrading.md"


def said_by(lowest: int, highest: int) -> Versions:
    """What stands in a handshake; 0 for the highest: there is no other one."""
    return lowest, max(lowest, highest)


def common(ours: Versions, theirs: Versions) -> int | None:
    """What is spoken: the highest that both know; None: there is none."""
    highest = min(ours[1], theirs[1])
    return highest if highest >= max(ours[0], theirs[0]) else None


def shown(versions: Versions) -> str:
    """In words."""
    lowest, highest = versions
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"


def why_none(what: str, ours: Versions, theirs: Versions, who: str) -> str:
    """The sentence with which a connection is refused.

    Args:
        what: the protocol, as "protocol version".
        ours: what we speak.
        theirs: what was offered.
        who: we, as "this node".
    """
    behind = "the other side" if theirs[1] < ours[0] else "this side"
    return (
        f"{what} {shown(theirs)} was offered, {who} speaks {shown(ours)}: run a later release on "
        f"{behind}, one that speaks both ({MORE})"
    )
