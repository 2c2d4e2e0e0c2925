"""What can be written in a scenario: one table, from which everything else follows.

Rules of this file:

* A pattern is words and slots. `one|other`: either of the words; `[…]`: may be left out, and begins
  with a word of its own unless it ends the phrase; a word in capitals is a slot.
* A word stands for itself everywhere: none means two things.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, final

import attrs


class Kind(enum.StrEnum):
    """What a phrase is for."""

    SETTING = "setting"
    MOMENT = "moment"
    ACTION = "action"
    EXPECTATION = "expectation"
    BLOCK = "block"


class Needs(enum.StrEnum):
    """What not every backend can do."""

    KV = "keys and values"
    COMMANDS = "commands"
    PAUSE = "pausing a node"
    NETWORK = "a network whose delay and loss can be set"
    CUTS = "cutting single lines"
    MEMBERS = "changing members"
    TRANSFER = "transferring leadership"
    ANSWERS = "holding back answers"
    TIMING = "timing of the scenario's own"


@final
@attrs.frozen
class Phrase:
    """One thing that can be said."""

    kind: Kind
    pattern: str
    meaning: str
    """One line of docs/scenarios.md."""
    needs: Needs | None = None


def _settings() -> tuple[Phrase, ...]:
    def setting(pattern: str, meaning: str, needs: Needs | None = None) -> Phrase:
        return Phrase(Kind.SETTING, pattern, meaning, needs)

    timing = Needs.TIMING
    return (
        setting("NUMBER nodes|node", "How many there are, called 0, 1, …; 3 if nothing is said."),
        setting("seed NUMBER", "Of all chance: the same seed, the same run, in virtual time."),
        setting(
            "election timeout DURATION [to DURATION]",
            "The range from which followers draw their patience; 150ms to 300ms by default.",
            timing,
        ),
        setting("heartbeat DURATION", "How often a leader is heard; 50ms by default.", timing),
        setting("pre-vote on|off", "Ask whether an election could be won before the term rises."),
        setting("check-quorum on|off", "A leader that no majority answers steps down.", timing),
        setting("fast-failover on|off", "A closed connection to the leader is a hint.", timing),
        setting(
            "widening on|off", "Elections that nobody won make candidates more patient.", timing
        ),
    )


def _moments() -> tuple[Phrase, ...]:
    def moment(pattern: str, meaning: str, needs: Needs | None = None) -> Phrase:
        return Phrase(Kind.MOMENT, pattern, meaning, needs)

    return (
        moment("at DURATION", "So long after the beginning; at once, if that is past."),
        moment("after DURATION", "So long after what stands before."),
        moment(
            "when a leader is elected [within DURATION]",
            "As soon as one node leads and all that can reach a majority follow it.",
        ),
        moment("when WHO leads [within DURATION]", "As soon as it leads."),
        moment(
            "when WHO steps|step down [within DURATION]", "As soon as it does not lead any more."
        ),
        moment(
            "when WORD is committed [within DURATION]",
            "As soon as some node has applied this command.",
            Needs.COMMANDS,
        ),
    )


def _actions() -> tuple[Phrase, ...]:
    def action(pattern: str, meaning: str, needs: Needs | None = None) -> Phrase:
        return Phrase(Kind.ACTION, pattern, meaning, needs)

    kv = Needs.KV
    return (
        action("disconnect WHO", "Nothing reaches it, nothing leaves it, and nobody is told."),
        action(
            "reconnect [WHO]", "Undo that; of nobody in particular: for all that are disconnected."
        ),
        action("cut WHO from WHO", "These do not hear those, nor those these.", Needs.CUTS),
        action("heal", "Undo every `disconnect` and every `cut`."),
        action("crash WHO", "Kill it; what it has stored stays."),
        action("restart [WHO]", "Start it again; of nobody in particular: all that have crashed."),
        action(
            "pause WHO",
            "It stands still, as a process that is stopped; it loses nothing.",
            Needs.PAUSE,
        ),
        action(
            "resume [WHO]", "It goes on; of nobody in particular: all that are paused.", Needs.PAUSE
        ),
        action(
            "network delay DURATION [to DURATION]",
            "How long a message travels; 1ms to 5ms by default.",
            Needs.NETWORK,
        ),
        action("network loss PERCENT", "How many messages get lost.", Needs.NETWORK),
        action(
            "propose WORD [at WHO]",
            "Bring a command to whoever leads, until it is taken; or to this node, once.",
            Needs.COMMANDS,
        ),
        action(
            "transfer leadership to WHO",
            "The leader asks this node to take over.",
            Needs.TRANSFER,
        ),
        action("add node NUMBER", "A new node joins, and is made a voter.", Needs.MEMBERS),
        action("remove WHO", "It is no member any more.", Needs.MEMBERS),
        action("call WHO NAME", "Give it a name, for later."),
        action("put KEY VALUE [as CLIENT] [through WHO]", "A client writes.", kv),
        action(
            "append KEY VALUE [as CLIENT] [through WHO]",
            "A client writes behind what is there.",
            kv,
        ),
        action("delete KEY [as CLIENT] [through WHO]", "A client deletes.", kv),
        action(
            "swap KEY from VALUE to VALUE [as CLIENT] [through WHO]",
            "A client writes if it finds the first value; `nothing` stands for none.",
            kv,
        ),
        action("hold answers of WHO", "What it says to clients stays on the wire.", Needs.ANSWERS),
        action("release answers of WHO", "That arrives.", Needs.ANSWERS),
    )


def _expectations() -> tuple[Phrase, ...]:
    def expect(pattern: str, meaning: str, needs: Needs | None = None) -> Phrase:
        return Phrase(Kind.EXPECTATION, f"expect {pattern}", meaning, needs)

    commands, kv = Needs.COMMANDS, Needs.KV
    return (
        expect(
            "one leader [within DURATION]", "One leads, and all that reach a majority follow it."
        ),
        expect("another leader [within DURATION]", "One leads, and not the one that led before."),
        expect("the same leader [within DURATION]", "The one that led before leads."),
        expect(
            "no leader [anywhere] [for DURATION]", "None that is connected leads; or none at all."
        ),
        expect(
            "WHO is|are [not] leader|follower|candidate|down|removed [within DURATION]",
            "What a node is.",
        ),
        expect(
            "term unchanged|rises",
            "The highest term of connected nodes, against before the last action.",
        ),
        expect("term of WHO unchanged|rises", "Of these nodes; `rises`: of one of them."),
        expect("term is NUMBER", "The highest term of connected nodes."),
        expect(
            "committed WORD [on COUNT nodes|node] [within DURATION]",
            "All that reach a majority have applied this command, once and at one place; so many "
            "have it in all.",
            commands,
        ),
        expect("not committed WORD [for DURATION]", "No node has applied this command.", commands),
        expect(
            "answer to WORD is [not] applied|refused|unknown [within DURATION]",
            "What whoever proposed it was told: applied; refused, so certainly not; or unknown.",
            commands,
        ),
        expect("logs agree", "What two nodes applied at one place is the same.", commands),
        expect(
            "get KEY is VALUE [as CLIENT] [through WHO] [within DURATION]",
            "A client reads this, after what it has asked for before; `nothing`: no value.",
            kv,
        ),
        expect(
            "value of KEY is VALUE on COUNT nodes|node [within DURATION]",
            "So many nodes have applied this value.",
            kv,
        ),
        expect("value of KEY is VALUE at WHO [within DURATION]", "These nodes have.", kv),
        expect(
            "answer is VALUE [as CLIENT] [within DURATION]",
            "What the client's last write replaced; of a swap: done or refused.",
            kv,
        ),
    )


PHRASES: Final[tuple[Phrase, ...]] = (
    *_settings(),
    *_moments(),
    *_actions(),
    *_expectations(),
    Phrase(Kind.BLOCK, "repeat NUMBER times", "What follows, so often."),
    Phrase(Kind.BLOCK, "end", "The end of what is repeated."),
)

WHO: Final[Mapping[str, str]] = {
    "leader": "whoever leads; one is waited for",
    "old leader": "whoever led before the present one",
    "a follower": "the next one after the leader that is connected",
    "another follower": "the next one that was not named yet, here or in the last action",
    "followers": "all but the leader that are connected",
    "all others": "everybody that this phrase has not named yet",
    "everyone": "all nodes",
    "it": "those of the last action; them means the same",
    "node 0": "this one; the number alone is enough",
    "NAME": "whoever was given this name by `call`",
}
"""Who may stand for WHO; several with `and` or commas. A `the` may stand before any."""

SLOTS: Final[Mapping[str, str]] = {
    "NUMBER": "a number",
    "COUNT": "a number, or all",
    "DURATION": "a time, as 150ms or 2s",
    "PERCENT": "a share, as 10%",
    "WHO": "who (leader, old leader, a follower, another follower, followers, all others, "
    "everyone, it, node 0)",
    "WORD": 'a command, as x or "two words"',
    "NAME": "a new name",
    "KEY": "a key",
    "VALUE": "a value, or nothing",
    "CLIENT": "a client's name",
}
"""What a slot takes, for errors and for docs/scenarios.md."""
