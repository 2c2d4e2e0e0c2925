"""Space: all states that a few real cores can reach, each looked at once.

Rules of this file:

* A state is what each node is and what its disk holds, the messages under way, the time, and what
  may still happen (`Budget`). A message under way may arrive at any later moment, or never.
* A write is durable at once: what a crash can lose is what was never written. (The simulator has
  disks that take their time.)
* A node is kept as bytes, and what an input makes of it is computed once: hundreds of thousands of
  states of the whole are made of a few hundred of single nodes. Equal bytes are the same node;
  unequal bytes of the same node cost time, and nothing else. So what only counts begins anew after
  each step, and chance always draws the lower bound.
* What is true of a whole run goes with the state: who led which term, what was committed where, and
  what was committed when a read was asked.
"""

from __future__ import annotations

import io
import pickle  # of cores of this very process, to branch from: nothing of it is ever stored or sent
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import attrs

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import InvariantViolation, RaftError
from trioraft.core.messages import (
    AppendEntriesReply,
    Message,
    RequestPreVoteReply,
    RequestVoteReply,
)
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready, join_writes
from trioraft.core.reconfiguration import ChangeVoters
from trioraft.core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    Term,
)

LIMITS: Final = Limits()
TERM_BOUND: Final = (AppendEntriesReply, RequestVoteReply, RequestPreVoteReply)
LONG_AGO: Final = float("-inf")
Action: TypeAlias = Callable[[Raft, float], object]


class _Lowest(random.Random):
    """Chance that always draws the lower bound, and has no state."""

    def uniform(self, a: float, b: float) -> float:
        return a

    def getrandbits(self, k: int, /) -> int:
        return 0


_RNG: Final = _Lowest(0)


class Budget(NamedTuple):
    """What may still happen, how often."""

    timeouts: int = 0
    heartbeats: int = 0
    proposals: int = 0
    reads: int = 0
    crashes: int = 0
    transfers: int = 0
    changes: int = 0
    sleeps: int = 0
    ticks: int = 0

    def less(self, name: str) -> Budget:
        """One of these less."""
        return self._replace(**{name: getattr(self, name) - 1})


class Past(NamedTuple):
    """What was seen on the way here."""

    leaders: tuple[tuple[Term, NodeId], ...] = ()
    committed: tuple[Term, ...] = ()
    """The terms of all entries that anybody ever took for committed."""
    asked: tuple[tuple[NodeId, int, LogIndex], ...] = ()
    """Reads without an answer: by whom, its number, and how much was committed then."""


class State(NamedTuple):
    """One state of the whole: nodes in the order of the space's, by the numbers of their bytes."""

    nodes: tuple[int, ...]
    slept: tuple[int, ...]
    """For how many ticks each node's clock has stood still."""
    asleep: tuple[bool, ...]
    bag: tuple[int, ...]
    """Messages under way, by number, sorted."""
    budget: Budget
    past: Past
    tick: int = 0


@attrs.frozen
class Node:
    """A node as bytes, and what is looked at without waking it."""

    frozen: bytes
    hard_state: HardState
    entries: tuple[Entry, ...]
    term: Term
    leads: bool
    terms: tuple[Term, ...]
    """Of its log."""
    commit_index: LogIndex
    deadline: float | None


@attrs.frozen
class Outcome:
    """What an input makes of a node."""

    node: int
    said: tuple[int, ...]
    reads: tuple[tuple[int, LogIndex], ...]
    number: int | None
    """Of the read that was asked."""


class WrongError(Exception):
    """A rule is broken in a state that can be reached."""


@attrs.frozen
class Report:
    """What exploring a space came to."""

    states: int
    nodes: int
    """Different states of single nodes among them."""
    depth: int
    """Steps to the furthest of them."""
    failure: str | None = None
    path: tuple[str, ...] = ()
    """How to come to the failure."""
    is_whole: bool = True
    """Every state was looked at."""


@attrs.define(eq=False)
class Space:
    """A few nodes, how they begin, and what may happen.

    Where `tick_s` is 0, time stands still: a timeout may come at any moment, and whoever is asked
    for a vote has lost patience, too. Otherwise time goes on tick by tick, on each node's clock by
    its rate; timers are due when they are due, and may be late.
    """

    ids: tuple[NodeId, ...]
    timing: Timing
    budget: Budget
    leader: NodeId | None = None
    """Who leads at the start, heard by all."""
    timings: Mapping[NodeId, Timing] = {}
    """Of nodes that go by another."""
    tick_s: float = 0.0
    rates: Mapping[NodeId, float] = {}
    change_to: tuple[NodeId, ...] = ()
    patience: tuple[NodeId, ...] = ()
    """Who times out, in this order; anybody if empty."""
    actors: tuple[NodeId, ...] = ()
    """Who may be asked to read, crashes or sleeps; anybody if empty."""
    limits: Limits = LIMITS
    next_life: Timing | None = None
    """By what a node goes after a crash, if not by the same."""
    make_core: Callable[..., Raft] = Raft
    _nodes: list[Node] = attrs.field(factory=list, init=False)
    _numbers: dict[tuple[bytes, HardState, tuple[Entry, ...]], int] = attrs.field(
        factory=dict, init=False
    )
    _messages: list[Message] = attrs.field(factory=list, init=False)
    _message_numbers: dict[bytes, int] = attrs.field(factory=dict, init=False)
    _outcomes: dict[tuple[int, str, float], Outcome | Exception] = attrs.field(
        factory=dict, init=False
    )

    # -- single nodes -------------------------------------------------------------------------

    def _born(
        self,
        place: int,
        hard_state: HardState,
        entries: tuple[Entry, ...],
        now: float,
        timing: Timing,
    ) -> Outcome:
        recovered = Recovered(hard_state, entries, Configuration(self.ids))
        raft = self.make_core(self.ids[place], recovered, timing, self.limits, _RNG)
        raft.start(now)
        return self._settled(raft, hard_state, entries, now, None)

    def _input(self, number: int, name: str, action: Action, now: float) -> Outcome:
        """What this input makes of this node; computed once."""
        key = (number, name, now)
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = self._computed(number, action, now)
        if isinstance(known, Exception):
            raise known
        return known

    def _computed(self, number: int, action: Action, now: float) -> Outcome | Exception:
        node = self._nodes[number]
        raft: Raft = _Unpickler(io.BytesIO(node.frozen), self.limits).load()
        result: object = None
        try:
            result = action(raft, now)
        except InvariantViolation as error:
            return error
        except RaftError:
            pass  # it was refused
        read = result if isinstance(result, int) else None
        try:
            return self._settled(raft, node.hard_state, node.entries, now, read)
        except InvariantViolation as error:
            return error

    def _settled(
        self,
        raft: Raft,
        hard_state: HardState,
        entries: tuple[Entry, ...],
        now: float,
        read: int | None,
    ) -> Outcome:
        """All that the core wants done, done at once."""
        said: list[Message] = []
        reads: list[tuple[int, LogIndex]] = []
        while (ready := raft.ready()) is not None:
            hard_state, entries = _written(hard_state, entries, ready)
            said += (*ready.messages, *ready.messages_after_persist)
            if ready.awaits_persist:
                raft.on_persisted(ready.number, now)
            if ready.committed:
                raft.on_applied(ready.committed[-1].index)
            reads += [(confirmed.number, confirmed.index) for confirmed in ready.reads]
        number = self._number_of(raft, hard_state, entries)
        return Outcome(number, tuple(map(self._message, said)), tuple(reads), read)

    def _number_of(self, raft: Raft, hard_state: HardState, entries: tuple[Entry, ...]) -> int:
        out = raft._out
        out._number = out._durable_number = out._hard_state_number = out._install_number = 0
        if not self.tick_s:
            raft._now = 0.0
        buffer = io.BytesIO()
        _Pickler(buffer, self.limits).dump(raft)
        frozen, log = buffer.getvalue(), raft.log
        number = self._numbers.setdefault((frozen, hard_state, entries), len(self._nodes))
        if number == len(self._nodes):
            terms = tuple(log.term_at(index) or 0 for index in range(1, log.last_index + 1))
            leads = raft.role is Role.LEADER
            node = Node(
                frozen,
                hard_state,
                entries,
                raft.term,
                leads,
                terms,
                log.commit_index,
                raft.deadline,
            )
            self._nodes.append(node)
        return number

    def _message(self, message: Message) -> int:
        packed = pickle.dumps(message)
        number = self._message_numbers.setdefault(packed, len(self._messages))
        if number == len(self._messages):
            self._messages.append(message)
        return number

    # -- the beginning ------------------------------------------------------------------------

    def first(self) -> State:
        """Everybody starts; whoever shall lead is elected, and heard by all."""
        count = len(self.ids)
        born = [
            self._born(place, HardState(), (), 0.0, self.timings.get(node, self.timing)).node
            for place, node in enumerate(self.ids)
        ]
        state = State(tuple(born), (0,) * count, (False,) * count, (), self.budget, Past())
        if self.leader is not None:
            place = self.ids.index(self.leader)
            for name, action in (("elect", _lose_patience), ("beat", _beat)):
                state = self._do(state, place, name, action)
                while state.bag:
                    state = self._deliver(state, 0)
        return state

    def clock(self, state: State, place: int) -> float:
        """What this node's clock shows."""
        ticks = state.tick - state.slept[place]
        return ticks * self.tick_s * self.rates.get(self.ids[place], 1.0)

    # -- what may happen ----------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Every state that can come next, and by what."""
        before = -1
        for position, number in enumerate(state.bag):
            message = self._messages[number]
            if number != before and not state.asleep[self.ids.index(message.receiver)]:
                yield _short(message), self._deliver(state, position)
            before = number
        for place, node in enumerate(self.ids):
            if state.asleep[place]:
                yield f"{node} wakes", self._woken(state, place)
            else:
                yield from self._of_node(state, place, node)
        if state.budget.ticks:
            slept = tuple(
                s + is_asleep for s, is_asleep in zip(state.slept, state.asleep, strict=True)
            )
            later = state._replace(
                tick=state.tick + 1, slept=slept, budget=state.budget.less("ticks")
            )
            self._check_leases(later)
            yield "a tick", later

    def _of_node(self, state: State, place: int, node: NodeId) -> Iterator[tuple[str, State]]:
        budget, known = state.budget, self._nodes[state.nodes[place]]
        moves: list[tuple[str, Action]] = []
        if budget.timeouts and self._may_time_out(state, place, known):
            moves.append(("timeouts", _on_timeout if self.tick_s else _lose_patience))
        is_actor = not self.actors or node in self.actors
        if budget.reads and is_actor:
            moves.append(("reads", _read))
        if known.leads:
            moves.append(("heartbeats", _beat))
            moves.append(("proposals", _propose))
            moves.append(("transfers", _transfer))
            moves.append(("changes", partial(_change, self.change_to)))
        for name, action in moves:
            if getattr(budget, name):
                less = state._replace(budget=budget.less(name))
                yield f"{node}: {name}", self._do(less, place, name, action)
        if budget.crashes and is_actor:
            yield f"{node}: crashes", self._crashed(state, place)
        if budget.sleeps and is_actor:
            asleep = _put(state.asleep, place, True)
            yield f"{node}: sleeps", state._replace(asleep=asleep, budget=budget.less("sleeps"))

    def _may_time_out(self, state: State, place: int, known: Node) -> bool:
        if self.patience:
            turn = self.budget.timeouts - state.budget.timeouts
            if self.patience[turn] != self.ids[place]:
                return False
        if not self.tick_s:
            return not known.leads
        return known.deadline is not None and known.deadline <= self.clock(state, place)

    def _woken(self, state: State, place: int) -> State:
        awake = state._replace(asleep=_put(state.asleep, place, False))
        return self._do(awake, place, "wakes", _wake)

    def _crashed(self, state: State, place: int) -> State:
        known = self._nodes[state.nodes[place]]
        timing = self.next_life or self.timings.get(self.ids[place], self.timing)
        outcome = self._born(
            place, known.hard_state, known.entries, self.clock(state, place), timing
        )
        asked = tuple(a for a in state.past.asked if a[0] != self.ids[place])
        past = state.past._replace(asked=asked)
        state = state._replace(past=past, budget=state.budget.less("crashes"))
        return self._after(state, place, outcome)

    def _deliver(self, state: State, position: int) -> State:
        number = state.bag[position]
        message = self._messages[number]
        bag = state.bag[:position] + state.bag[position + 1 :]
        place = self.ids.index(message.receiver)
        step = partial(_step, message, is_timed=bool(self.tick_s))
        return self._do(state._replace(bag=bag), place, f"message {number}", step)

    def _do(self, state: State, place: int, name: str, action: Action) -> State:
        outcome = self._input(state.nodes[place], name, action, self.clock(state, place))
        if outcome.number is not None:
            asked = (self.ids[place], outcome.number, len(state.past.committed))
            past = state.past._replace(asked=(*state.past.asked, asked))
            state = state._replace(past=past)
        return self._after(state, place, outcome)

    def _after(self, state: State, place: int, outcome: Outcome) -> State:
        past = _seen(state.past, self.ids[place], self._nodes[outcome.node])
        for number, index in outcome.reads:
            past = _answered(past, self.ids[place], number, index)
        nodes, before = _put(state.nodes, place, outcome.node), state.nodes[place]
        bag = (*state.bag, *outcome.said)
        if outcome.said or self._nodes[outcome.node].term != self._nodes[before].term:
            bag = tuple(sorted(number for number in bag if not self._is_void(number, nodes)))
        state = state._replace(nodes=nodes, bag=bag, past=past)
        self._check_leases(state)
        return state

    def _is_void(self, number: int, nodes: tuple[int, ...]) -> bool:
        """Answers of an earlier term are looked at by nobody, ever: terms do not go back."""
        message = self._messages[number]
        receiver = self._nodes[nodes[self.ids.index(message.receiver)]]
        return message.term < receiver.term and isinstance(message, TERM_BOUND)

    def _check_leases(self, state: State) -> None:
        """Whoever may read by a lease now must know of all that is committed."""
        if not self.tick_s:
            return
        for place, number in enumerate(state.nodes):
            node, committed = self._nodes[number], len(state.past.committed)
            if not node.leads or node.commit_index >= committed or state.asleep[place]:
                continue
            if self._input(number, "lease?", _has_lease, self.clock(state, place)).number:
                raise WrongError(
                    f"{self.ids[place]} would read by its lease at {node.commit_index}, and "
                    f"{committed} entries are committed"
                )

    # -- all of it ----------------------------------------------------------------------------

    def explore(self, *, states_max: int = 20_000_000) -> Report:
        """Look at every state that can be reached, nearest first; stop at the first wrong one."""
        first = self.first()
        came_from: dict[State, tuple[State, str] | None] = {first: None}
        wave, depth = [first], 0
        while wave:
            following: list[State] = []
            for state in wave:
                try:
                    for how, after in self.steps(state):
                        if after not in came_from:
                            came_from[after] = (state, how)
                            following.append(after)
                except (WrongError, InvariantViolation) as error:
                    path = _path(came_from, state)
                    return Report(len(came_from), len(self._nodes), depth, str(error), path)
                if len(came_from) > states_max:
                    return Report(len(came_from), len(self._nodes), depth, is_whole=False)
            wave = following
            depth += bool(wave)
        return Report(len(came_from), len(self._nodes), depth)


def _path(came_from: Mapping[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    how: list[str] = []
    while (link := came_from[state]) is not None:
        state, word = link
        how.append(word)
    return tuple(reversed(how))


def _put(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _written(
    hard_state: HardState, entries: tuple[Entry, ...], ready: Ready
) -> tuple[HardState, tuple[Entry, ...]]:
    write = join_writes([ready])
    if write is None:
        return hard_state, entries
    if write.replace_from is not None:
        entries = entries[: write.replace_from - 1] + write.entries
    return (hard_state if write.hard_state is None else write.hard_state), entries


def _seen(past: Past, node_id: NodeId, node: Node) -> Past:
    """What this node takes for true must go with what anybody took for true before (paper, figure
    3)."""
    if node.leads:
        leader = dict(past.leaders).get(node.term)
        if leader is None:
            past = past._replace(leaders=tuple(sorted((*past.leaders, (node.term, node_id)))))
        elif leader != node_id:
            raise WrongError(f"{leader} and {node_id} both lead term {node.term}")
    committed, known = node.terms[: node.commit_index], past.committed
    shared = min(len(committed), len(known))
    if committed[:shared] != known[:shared]:
        raise WrongError(f"{node_id} takes {committed} for committed, and {known} was")
    if node.leads and known and node.term > known[-1] and node.terms[: len(known)] != known:
        raise WrongError(f"{node_id} leads term {node.term} and lacks what is committed: {known}")
    return past._replace(committed=committed) if len(committed) > len(known) else past


def _answered(past: Past, node_id: NodeId, number: int, index: LogIndex) -> Past:
    left = []
    for asked in past.asked:
        if asked[:2] != (node_id, number):
            left.append(asked)
        elif index < asked[2]:
            raise WrongError(
                f"{node_id} reads at {index}, and {asked[2]} was committed when it was asked"
            )
    return past._replace(asked=tuple(left))


# -- inputs ------------------------------------------------------------------------------------


def _lose_patience(raft: Raft, now: float) -> None:
    raft._contact.heard_s = LONG_AGO
    raft._timer.deadline = now
    raft.on_timeout(now)


def _on_timeout(raft: Raft, now: float) -> None:
    raft.on_timeout(now)


def _beat(raft: Raft, now: float) -> None:
    if raft.leadership is not None:
        raft.leadership.heartbeat_deadline = now
    raft.on_heartbeat_due(now)


def _step(message: Message, raft: Raft, now: float, *, is_timed: bool) -> None:
    if not is_timed:
        raft._contact.heard_s = LONG_AGO
    raft.step(message, now)


def _propose(raft: Raft, now: float) -> None:
    raft.propose(b"x", now)


def _read(raft: Raft, now: float) -> int:
    return raft.read(now)


def _transfer(raft: Raft, now: float) -> None:
    raft.transfer(None, now, patience_s=9.0)


def _change(voters: tuple[NodeId, ...], raft: Raft, now: float) -> None:
    raft.change_members(ChangeVoters(voters), now)


def _wake(raft: Raft, now: float) -> None:
    raft.on_woken(now)


def _has_lease(raft: Raft, now: float) -> int:
    leadership = raft.leadership
    return leadership is not None and (
        raft._has_committed_own_term() and leadership.has_lease(raft.configuration, now)
    )


def _short(message: Message) -> str:
    return f"{message.sender}->{message.receiver} {type(message).__name__} of term {message.term}"


class _Pickler(pickle.Pickler):
    """Chance and limits are the same for all."""

    def __init__(self, file: io.BytesIO, limits: Limits) -> None:
        super().__init__(file)
        self._limits = limits

    def persistent_id(self, obj: object) -> object:
        return "rng" if obj is _RNG else "limits" if obj is self._limits else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, limits: Limits) -> None:
        super().__init__(file)
        self._limits = limits

    def persistent_load(self, pid: object) -> object:
        return _RNG if pid == "rng" else self._limits
