"""Plays a scenario on a backend: finds out who is meant, does it, and looks.

Rules of this file:

* It awaits nothing but its backend, so that it runs wherever that does: in virtual time, over
  sockets, or on the simulator's heap of events.
* A wait names its condition, and fails with what was seen instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, final

from ..core.quorum import majority
from ..core.types import NodeId, Role, Term
from .backend import Answer, Backend, NodeView
from .grammar import Needs
from .model import Scenario, Step, Who
from .parsing import ScenarioError

ROLES: Final[Mapping[str, tuple[Role | None, ...]]] = {
    "leader": (Role.LEADER,),
    "follower": (Role.FOLLOWER,),
    "candidate": (Role.CANDIDATE, Role.PRE_CANDIDATE),
    "down": (None, Role.DEAD),
}
DEFAULT_CLIENT: Final = "client"


class ScenarioFailed(AssertionError):  # noqa: N818 - what happened to it
    """A scenario expected something that did not happen.

    Fault: of the cluster, or of whoever expected it.
    Remedy: the message says which line, what was seen, and how to get the picture.

    Attributes:
        source: the scenario's file.
        line: of the expectation, counted from 1.
        expected: what it says.
        seen: what was there instead.
        picture: how to get the picture; empty: there is none.
    """

    def __init__(self, source: str, line: int, expected: str, seen: str, picture: str = "") -> None:
        super().__init__(source, line, expected, seen, picture)
        self.source = source
        self.line = line
        self.expected = expected
        self.seen = seen
        self.picture = picture

    def __str__(self) -> str:
        message = f"{self.source}:{self.line}: {self.expected}\nseen instead: {self.seen}"
        return f"{message}\npicture: {self.picture}" if self.picture else message


async def play(
    scenario: Scenario,
    backend: Backend,
    *,
    on_step: Callable[[Step], Awaitable[None]] | None = None,
) -> None:
    """Play all of a scenario.

    Args:
        scenario: what to play.
        backend: on what; opened with the scenario's settings.
        on_step: called before each step.

    Raises:
        ScenarioError: the backend cannot do what a line asks for; nothing was done.
        ScenarioFailed: an expectation did not come true.

    Cancelling it leaves the cluster as the scenario had it by then.
    """
    check_playable(scenario, backend.missing, backend.name)
    await _Player(scenario, backend, on_step).play()


def check_playable(scenario: Scenario, missing: Mapping[Needs, str], name: str) -> None:
    """Whether a backend can do all that a scenario asks for.

    Args:
        scenario: what is to be played.
        missing: what the backend cannot do, and why.
        name: of the backend, for the error.

    Raises:
        ScenarioError: it cannot; the message says which line, and why.
    """
    for need, step in scenario.needs():
        if need in missing:
            raise ScenarioError(
                scenario.source,
                step.line,
                step.column,
                f"{step.text!r} needs {need}, which {name} has not: {missing[need]}",
            )


@final
class _Player:
    def __init__(
        self,
        scenario: Scenario,
        backend: Backend,
        on_step: Callable[[Step], Awaitable[None]] | None,
    ) -> None:
        self._scenario = scenario
        self._backend = backend
        self._on_step = on_step
        self._step: Step
        self._isolated: set[NodeId] = set()
        self._cuts: set[frozenset[NodeId]] = set()
        self._crashed: list[NodeId] = []
        self._paused: list[NodeId] = []
        self._it: tuple[NodeId, ...] = ()
        self._called: dict[str, tuple[NodeId, ...]] = {}
        self._leaders: list[NodeId] = []
        """Those that were seen to lead, each once in a row."""
        self._leader_of: dict[Term, NodeId] = {}
        self._terms: dict[NodeId, Term] = {}
        """Of each node, before the last action."""
        self._term: Term = 0
        """The highest of connected nodes, before the last action."""
        self._broken: ScenarioFailed | None = None
        self._answers: dict[str, Answer] = {}
        self._writes: dict[str, Answer] = {}

    async def play(self) -> None:
        for step in self._scenario.steps:
            self._step = step
            if self._on_step is not None:
                await self._on_step(step)
            await _HANDLERS[step.phrase.pattern](self, step)

    # -- failing -----------------------------------------------------------------------------

    def _failed(self, seen: str) -> ScenarioFailed:
        views = self._backend.views()
        lines = [seen] if seen else []
        for node_id, view in views.items():
            away = ", disconnected" if node_id in self._isolated else ""
            away += ", paused" if node_id in self._paused else ""
            lines.append(f"  {view}{away}")
        scenario, backend = self._scenario, self._backend
        step, seen = self._step, "\n".join(lines)
        return ScenarioFailed(scenario.source, step.line, step.text, seen, backend.picture)

    async def _wait(self, holds: Callable[[], bool], what: Callable[[], str]) -> None:
        limit_s: float | None = self._step.values.get("duration")
        limit_s = self._backend.patience_s if limit_s is None else limit_s
        came_true = await self._until(holds, limit_s)
        if not came_true:
            raise self._failed(f"{what()} (waited for {limit_s:g} s)")

    async def _until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        came_true = await self._backend.until(lambda: self._looks(holds), limit_s)
        if self._broken is not None:
            raise self._broken
        return came_true

    def _looks(self, holds: Callable[[], bool]) -> bool:
        """With a look at what must hold always: one leader in a term (paper, section 5.2). It is
        called from within the cluster, so it raises nothing: what is broken ends the wait."""
        try:
            for node_id, view in self._backend.views().items():
                if view.role is Role.LEADER:
                    leader = self._leader_of.setdefault(view.term, node_id)
                    if leader != node_id:
                        raise self._failed(f"{leader} and {node_id} both led term {view.term}")
            return holds()
        except ScenarioFailed as failure:
            self._broken = failure
            return True

    # -- who is there ------------------------------------------------------------------------

    def _up(self) -> list[NodeView]:
        return [
            view for view in self._backend.views().values() if view.role not in (None, Role.DEAD)
        ]

    def _connected(self) -> list[NodeView]:
        away = {*self._isolated, *self._paused}
        return [view for view in self._up() if view.node_id not in away]

    def _reaching(self) -> list[NodeView]:
        """Connected nodes that hear a majority of the voters."""
        voters = self._voters()
        return [
            view
            for view in self._connected()
            if view.node_id in voters and self._hears_majority(view.node_id, voters)
        ]

    def _voters(self) -> tuple[NodeId, ...]:
        known = [view for view in self._up() if view.voters]
        newest = max(known, key=lambda view: view.configuration_index, default=None)
        return self._scenario.settings.ids if newest is None else newest.voters

    def _hears_majority(self, node_id: NodeId, voters: Sequence[NodeId]) -> bool:
        reached = {
            view.node_id
            for view in self._connected()
            if view.node_id in voters and frozenset((node_id, view.node_id)) not in self._cuts
        }
        return len(reached) >= majority(len(voters))

    def _single_leader(self) -> NodeView | None:
        """The one that leads, and that all who reach a majority follow."""
        views = self._reaching()
        leaders = [view for view in views if view.role is Role.LEADER]
        if len(leaders) != 1:
            return None
        leader = leaders[0]
        agree = all((view.leader_id, view.term) == (leader.node_id, leader.term) for view in views)
        return leader if agree else None

    def _note_leader(self, node_id: NodeId) -> None:
        if not self._leaders or self._leaders[-1] != node_id:
            self._leaders.append(node_id)

    def _highest_term(self) -> Term:
        return max((view.term for view in self._connected()), default=0)

    async def _one_leader(self, is_right: Callable[[NodeId], bool] = lambda _: True) -> None:
        def found() -> bool:
            leader = self._single_leader()
            return leader is not None and is_right(leader.node_id)

        await self._wait(found, self._who_leads)
        leader = self._single_leader()
        if leader is None:
            raise self._failed("the leader was gone at once")
        self._note_leader(leader.node_id)

    def _who_leads(self) -> str:
        leader = self._single_leader()
        if leader is not None:
            return f"node {leader.node_id} leads term {leader.term}"
        leading = self._leading(self._connected())
        if not leading:
            return "nobody leads"
        return f"{_names(leading)} {'leads' if len(leading) == 1 else 'lead'}, and not all follow"

    # -- who is meant ------------------------------------------------------------------------

    async def _who(self, key: str = "who", named: Sequence[NodeId] = ()) -> tuple[NodeId, ...]:
        """The nodes of this slot, in its order; waits for a leader where one is spoken of."""
        meant: list[NodeId] = list(named)
        skip = len(meant)
        for who in self._step.values[key]:
            for node_id in await self._meant(who, meant):
                if node_id not in meant:
                    meant.append(node_id)
        return tuple(meant[skip:])

    async def _meant(self, who: Who, named: Sequence[NodeId]) -> Iterable[NodeId]:
        ids = list(self._backend.views())
        match who.kind:
            case "node":
                return [who.name]
            case "name":
                return self._called[who.name]
            case "it":
                if not self._it:
                    raise self._failed("nothing was done to anybody before: who is meant?")
                return self._it
            case "everyone":
                return ids
            case "all others":
                return [node_id for node_id in ids if node_id not in named]
            case "old leader":
                if len(self._leaders) < 2:
                    raise self._failed("no other node was seen to lead before this one")
                return [self._leaders[-2]]
        leader = await self._leader()
        if who.kind == "leader":
            return [leader]
        start = ids.index(leader)
        connected = {view.node_id for view in self._connected()}
        order = [ids[(start + step) % len(ids)] for step in range(1, len(ids))]
        followers = [node_id for node_id in order if node_id in connected]
        if who.kind == "followers":
            return followers
        barred = {*named, *self._it} if who.kind == "another follower" else {*named}
        chosen = [node_id for node_id in followers if node_id not in barred]
        if not chosen:
            raise self._failed("there is no such follower")
        return chosen[:1]

    async def _leader(self) -> NodeId:
        leader = self._single_leader()
        if leader is None:
            limit_s = self._backend.patience_s
            if not await self._until(lambda: self._single_leader() is not None, limit_s):
                raise self._failed(f"there is no leader to speak of (waited for {limit_s:g} s)")
            leader = self._single_leader()
        if leader is None:
            raise self._failed("the leader was gone at once")
        self._note_leader(leader.node_id)
        return leader.node_id

    def _before_action(self) -> None:
        """Remember how it was: what is expected later is compared with that."""
        self._terms = {node_id: view.term for node_id, view in self._backend.views().items()}
        self._term = self._highest_term()

    # -- moments -------------------------------------------------------------------------------

    async def at(self, step: Step) -> None:
        left_s = step.values["duration"] - self._backend.now_s()
        if left_s > 0:
            await self._backend.sleep(left_s)

    async def after(self, step: Step) -> None:
        await self._backend.sleep(step.values["duration"])

    async def when_elected(self, step: Step) -> None:
        await self._one_leader()

    async def when_leads(self, step: Step) -> None:
        who = await self._who()
        await self._wait(lambda: self._is(who, "leader"), self._who_leads)
        self._note_leader(who[-1])

    async def when_steps_down(self, step: Step) -> None:
        who = await self._who()
        await self._wait(
            lambda: not any(self._is([each], "leader") for each in who), self._who_leads
        )

    async def when_committed(self, step: Step) -> None:
        word = step.values["word"]
        await self._wait(
            lambda: bool(self._places_of(word)), lambda: f"no node has applied {word!r}"
        )

    # -- actions -------------------------------------------------------------------------------

    async def disconnect(self, step: Step) -> None:
        who = await self._act_on()
        for node_id in who:
            self._isolated.add(node_id)
            await self._backend.disconnect(node_id)

    async def reconnect(self, step: Step) -> None:
        for node_id in await self._act_on_or(sorted(self._isolated)):
            self._isolated.discard(node_id)
            await self._backend.reconnect(node_id)

    async def cut(self, step: Step) -> None:
        these = await self._who()
        those = await self._who("who2", these)
        self._before_action()
        self._it = these
        for one in these:
            for other in those:
                self._cuts.add(frozenset((one, other)))
                await self._backend.cut(one, other)

    async def heal(self, step: Step) -> None:
        self._before_action()
        self._isolated.clear()
        self._cuts.clear()
        await self._backend.heal()

    async def crash(self, step: Step) -> None:
        who = await self._act_on()
        for node_id in who:
            if self._backend.views()[node_id].role in (None, Role.DEAD):
                raise self._failed(f"node {node_id} is down already")
            self._crashed.append(node_id)
            await self._backend.crash(node_id)

    async def restart(self, step: Step) -> None:
        for node_id in await self._act_on_or(self._crashed):
            if node_id not in self._crashed:
                raise self._failed(f"node {node_id} has not crashed")
            self._crashed.remove(node_id)
            await self._backend.restart(node_id)

    async def pause(self, step: Step) -> None:
        for node_id in await self._act_on():
            self._paused.append(node_id)
            await self._backend.pause(node_id)

    async def resume(self, step: Step) -> None:
        for node_id in await self._act_on_or(self._paused):
            if node_id in self._paused:
                self._paused.remove(node_id)
            await self._backend.resume(node_id)

    async def _act_on(self) -> tuple[NodeId, ...]:
        who = await self._who()
        self._before_action()
        self._it = who
        return who

    async def _act_on_or(self, all_of_them: Sequence[NodeId]) -> tuple[NodeId, ...]:
        if "who" in self._step.values:
            return await self._act_on()
        self._before_action()
        self._it = tuple(all_of_them)
        return self._it

    async def delay(self, step: Step) -> None:
        low = step.values["duration"]
        await self._backend.set_network((low, step.values.get("duration2", low)), None)

    async def lose(self, step: Step) -> None:
        await self._backend.set_network(None, step.values["percent"])

    async def propose(self, step: Step) -> None:
        word, at = step.values["word"], None
        if "who" in step.values:
            (at, *more) = await self._who()
            if more:
                raise self._failed("a command is brought to one node")
        self._before_action()
        self._answers[word] = await self._backend.propose(word, at)

    async def transfer(self, step: Step) -> None:
        leader = await self._leader()
        (target, *more) = await self._act_on()
        if more:
            raise self._failed("leadership goes to one node")
        await self._backend.transfer(leader, target)

    async def add(self, step: Step) -> None:
        self._before_action()
        node_id = str(step.values["number"])
        self._it = (node_id,)
        await self._backend.add(node_id)

    async def remove(self, step: Step) -> None:
        for node_id in await self._act_on():
            await self._backend.remove(node_id)

    async def call(self, step: Step) -> None:
        self._called[step.values["name"]] = await self._who()

    # -- keys and values -------------------------------------------------------------------

    async def write(self, step: Step) -> None:
        values = step.values
        given = [values[key] for key in ("value", "value2") if key in values]
        call = step.phrase.pattern.partition(" ")[0]
        client, through = await self._client()
        self._before_action()
        self._writes[client] = await self._backend.ask(client, through, call, values["key"], *given)

    async def _client(self) -> tuple[str, NodeId | None]:
        client = self._step.values.get("client", DEFAULT_CLIENT)
        if "who" not in self._step.values:
            return client, None
        return client, (await self._who())[0]

    async def hold(self, step: Step) -> None:
        for node_id in await self._act_on():
            await self._backend.hold_answers(node_id)

    async def release(self, step: Step) -> None:
        for node_id in await self._act_on():
            await self._backend.release_answers(node_id)

    # -- expectations ----------------------------------------------------------------------

    async def expect_leader(self, step: Step) -> None:
        await self._one_leader()

    async def expect_another_leader(self, step: Step) -> None:
        before = self._leaders[-1] if self._leaders else None
        await self._one_leader(lambda leader: leader != before)

    async def expect_same_leader(self, step: Step) -> None:
        if not self._leaders:
            raise self._failed("nobody was seen to lead before")
        before = self._leaders[-1]
        await self._one_leader(lambda leader: leader == before or self._backend.loses_messages)

    async def expect_no_leader(self, step: Step) -> None:
        is_anywhere = step.chose("anywhere")

        def nobody() -> bool:
            return not self._leading(self._up() if is_anywhere else self._connected())

        def who() -> str:
            return f"{_names(self._leading(self._up()))} led" if is_anywhere else self._who_leads()

        await self._hold(nobody, who)

    def _leading(self, views: Iterable[NodeView]) -> list[NodeId]:
        return [view.node_id for view in views if view.role is Role.LEADER]

    async def _hold(self, holds: Callable[[], bool], what: Callable[[], str]) -> None:
        """Now, or (`for`) all the time."""
        duration_s = self._step.values.get("duration")
        if not self._looks(holds):
            raise self._failed(what())
        if duration_s is None:
            return
        begun_s = self._backend.now_s()
        is_held = await self._backend.while_holds(lambda: self._looks(holds), duration_s)
        if self._broken is not None:
            raise self._broken
        if not is_held:
            after_s = self._backend.now_s() - begun_s
            raise self._failed(f"after {after_s * 1000:.0f} ms, {what()}")

    async def expect_role(self, step: Step) -> None:
        who = await self._who()
        (wanted,) = {*ROLES, "removed"} & step.values["words"]
        is_not = step.chose("not")

        def holds() -> bool:
            if is_not:
                return not any(self._is([node_id], wanted) for node_id in who)
            return self._is(who, wanted)

        await self._wait(holds, lambda: self._roles(who))

    def _roles(self, who: Iterable[NodeId]) -> str:
        views = self._backend.views()
        roles = [(node_id, views[node_id].role) for node_id in who]
        return ", ".join(
            f"node {node_id} is {'down' if role is None else role.value}" for node_id, role in roles
        )

    def _is(self, who: Iterable[NodeId], wanted: str) -> bool:
        views = self._backend.views()
        if wanted == "removed":
            return all(views[node_id].is_removed for node_id in who)
        return all(views[node_id].role in ROLES[wanted] for node_id in who)

    async def expect_term_change(self, step: Step) -> None:
        now, before = self._highest_term(), self._term
        self._check_change(step, now > before, now != before, f"it was {before}, and is {now}")

    async def expect_term_of(self, step: Step) -> None:
        who, views = await self._who(), self._backend.views()
        pairs = [(self._terms.get(node_id, 0), views[node_id].term) for node_id in who]
        seen = ", ".join(
            f"node {node_id} had {before} and has {now}"
            for node_id, (before, now) in zip(who, pairs, strict=True)
        )
        has_risen = any(now > before for before, now in pairs)
        self._check_change(step, has_risen, any(now != before for before, now in pairs), seen)

    def _check_change(self, step: Step, has_risen: bool, has_changed: bool, seen: str) -> None:
        if step.chose("rises"):
            is_well = has_risen
        else:
            is_well = not has_changed or self._backend.loses_messages
        if not is_well:
            raise self._failed(seen)

    async def expect_term(self, step: Step) -> None:
        now = self._highest_term()
        if now != step.values["number"] and not self._backend.loses_messages:
            raise self._failed(f"the term is {now}")

    async def expect_committed(self, step: Step) -> None:
        word = step.values["word"]

        def has_it() -> bool:
            places = self._places_of(word)
            return bool(places) and all(view.node_id in places for view in self._reaching())

        await self._wait(has_it, lambda: self._where(word))
        self._check_logs()
        places, count = self._places_of(word), step.values.get("count")
        if "count" in step.values and len(places) != (count or len(self._backend.views())):
            raise self._failed(self._where(word))

    def _places_of(self, word: str) -> dict[NodeId, int]:
        found: dict[NodeId, int] = {}
        for node_id, applied in self._backend.applied().items():
            places = [index for index, data in applied if data == word]
            if len(places) > 1:
                raise self._failed(f"node {node_id} has applied {word!r} at each of {places}")
            if places:
                found[node_id] = places[0]
        return found

    def _where(self, word: str) -> str:
        places = self._places_of(word)
        if not places:
            return f"no node has applied {word!r}"
        return f"{word!r} is applied on {_names(places)}"

    def _check_logs(self) -> None:
        at: dict[int, tuple[NodeId, str]] = {}
        for node_id, applied in self._backend.applied().items():
            for index, data in applied:
                other, theirs = at.setdefault(index, (node_id, data))
                if theirs != data:
                    raise self._failed(
                        f"at {index}, node {other} has applied {theirs!r} and node {node_id} "
                        f"{data!r}"
                    )

    async def expect_not_committed(self, step: Step) -> None:
        word = step.values["word"]
        await self._hold(lambda: not self._places_of(word), lambda: self._where(word))

    async def expect_outcome(self, step: Step) -> None:
        word = step.values["word"]
        if word not in self._answers:
            raise self._failed(f"{word!r} was not proposed")
        answer = self._answers[word]
        (wanted,) = {"applied", "refused", "unknown"} & step.values["words"]
        await self._wait(
            lambda: answer.outcome is not None, lambda: f"there is no answer to {word!r} yet"
        )
        if (answer.outcome == wanted) == step.chose("not"):
            raise self._failed(f"the answer to {word!r} is {answer.outcome}")

    async def expect_logs(self, step: Step) -> None:
        self._check_logs()

    async def expect_get(self, step: Step) -> None:
        key, wanted = step.values["key"], step.values["value"]
        client, through = await self._client()
        answer = await self._backend.ask(client, through, "get", key)
        await self._wait(lambda: answer.outcome is not None, lambda: f"{client} has no answer yet")
        if answer.outcome != "done":
            raise self._failed(f"{client} was told: {answer.outcome}")
        if answer.value != wanted:
            raise self._failed(f"{client} reads {_shown(answer.value)}")

    async def expect_value_on(self, step: Step) -> None:
        key, wanted, count = (step.values[name] for name in ("key", "value", "count"))

        def holders() -> list[NodeId]:
            return [
                view.node_id
                for view in self._up()
                if self._backend.value_at(view.node_id, key) == wanted
            ]

        await self._wait(
            lambda: len(holders()) == (len(self._up()) if count is None else count),
            lambda: self._values(key),
        )

    async def expect_value_at(self, step: Step) -> None:
        key, wanted, who = step.values["key"], step.values["value"], await self._who()
        await self._wait(
            lambda: all(self._backend.value_at(node_id, key) == wanted for node_id in who),
            lambda: self._values(key),
        )

    def _values(self, key: str) -> str:
        return f"{key} is " + ", ".join(
            f"{_shown(self._backend.value_at(view.node_id, key))} on node {view.node_id}"
            for view in self._up()
        )

    async def expect_answer(self, step: Step) -> None:
        client = step.values.get("client", DEFAULT_CLIENT)
        if client not in self._writes:
            raise self._failed(f"{client} has asked for nothing")
        answer = self._writes[client]
        await self._wait(lambda: answer.outcome is not None, lambda: f"{client} has no answer yet")
        if answer.outcome != "done":
            raise self._failed(f"{client} was told: {answer.outcome}")
        if answer.value != step.values["value"]:
            raise self._failed(f"the answer is {_shown(answer.value)}")


def _names(nodes: Iterable[NodeId]) -> str:
    named = list(nodes)
    return f"node{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _shown(value: str | None) -> str:
    return "nothing" if value is None else repr(value)


_HANDLERS: Final[Mapping[str, Callable[[_Player, Step], Awaitable[None]]]] = {
    "at DURATION": _Player.at,
    "after DURATION": _Player.after,
    "when a leader is elected [within DURATION]": _Player.when_elected,
    "when WHO leads [within DURATION]": _Player.when_leads,
    "when WHO steps|step down [within DURATION]": _Player.when_steps_down,
    "when WORD is committed [within DURATION]": _Player.when_committed,
    "disconnect WHO": _Player.disconnect,
    "reconnect [WHO]": _Player.reconnect,
    "cut WHO from WHO": _Player.cut,
    "heal": _Player.heal,
    "crash WHO": _Player.crash,
    "restart [WHO]": _Player.restart,
    "pause WHO": _Player.pause,
    "resume [WHO]": _Player.resume,
    "network delay DURATION [to DURATION]": _Player.delay,
    "network loss PERCENT": _Player.lose,
    "propose WORD [at WHO]": _Player.propose,
    "transfer leadership to WHO": _Player.transfer,
    "add node NUMBER": _Player.add,
    "remove WHO": _Player.remove,
    "call WHO NAME": _Player.call,
    "put KEY VALUE [as CLIENT] [through WHO]": _Player.write,
    "append KEY VALUE [as CLIENT] [through WHO]": _Player.write,
    "delete KEY [as CLIENT] [through WHO]": _Player.write,
    "swap KEY from VALUE to VALUE [as CLIENT] [through WHO]": _Player.write,
    "hold answers of WHO": _Player.hold,
    "release answers of WHO": _Player.release,
    "expect one leader [within DURATION]": _Player.expect_leader,
    "expect another leader [within DURATION]": _Player.expect_another_leader,
    "expect the same leader [within DURATION]": _Player.expect_same_leader,
    "expect no leader [anywhere] [for DURATION]": _Player.expect_no_leader,
    "expect WHO is|are [not] leader|follower|candidate|down|removed [within DURATION]": (
        _Player.expect_role
    ),
    "expect term unchanged|rises": _Player.expect_term_change,
    "expect term of WHO unchanged|rises": _Player.expect_term_of,
    "expect term is NUMBER": _Player.expect_term,
    "expect committed WORD [on COUNT nodes|node] [within DURATION]": _Player.expect_committed,
    "expect not committed WORD [for DURATION]": _Player.expect_not_committed,
    "expect answer to WORD is [not] applied|refused|unknown [within DURATION]": (
        _Player.expect_outcome
    ),
    "expect logs agree": _Player.expect_logs,
    "expect get KEY is VALUE [as CLIENT] [through WHO] [within DURATION]": _Player.expect_get,
    "expect value of KEY is VALUE on COUNT nodes|node [within DURATION]": _Player.expect_value_on,
    "expect value of KEY is VALUE at WHO [within DURATION]": _Player.expect_value_at,
    "expect answer is VALUE [as CLIENT] [within DURATION]": _Player.expect_answer,
}
