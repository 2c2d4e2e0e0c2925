"""Reconfiguration: the configurations that stand in the log, and the way from one to another.

Rules of this file (paper, section 6):

* The newest configuration in the log counts, committed or not (hazards M2, M6). One that is
  truncated is undone, whichever it was (hazard M5).
* A configuration bears the index of its entry: two of them are the same exactly if equal.
* Voters change through a joint configuration, always; learners alone change in one step, since no
  majority has to do with them.
* A change exists within a leadership only, and ends with it (hazard T1). What is joint by then is
  finished by whoever leads next (hazard M3).
* What is switched on stays on, through whatever change of the members (hazard U3).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

import attrs
import msgspec

from .decoding import UNREADABLE
from .errors import BadMessage, ConfigError
from .types import (
    ID_BYTES_MAX,
    MEMBERS_MAX,
    Address,
    Configuration,
    Entry,
    EntryKind,
    Incarnation,
    LogIndex,
    NodeId,
    Term,
)

T = TypeVar("T")
_CONFIGURATION: Final = int(EntryKind.CONFIGURATION)  # comparing with an enum costs more
_WITH_FEATURES: Final = int(EntryKind.CONFIGURATION_WITH_FEATURES)
CONFIGURATIONS: Final = (_CONFIGURATION, _WITH_FEATURES)
"""The kinds of entries that hold a configuration."""
_FIELDS_WITHOUT_FEATURES: Final = 7
_decoder = msgspec.msgpack.Decoder(Configuration)


# -- in the log ------------------------------------------------------------------------------


def configuration_entry(configuration: Configuration, index: LogIndex, term: Term) -> Entry:
    """The log entry that makes this configuration count."""
    placed = msgspec.structs.replace(configuration, index=index)
    if placed.features:
        return Entry(index, term, msgspec.msgpack.encode(placed), _WITH_FEATURES)
    fields = msgspec.structs.astuple(placed)[:_FIELDS_WITHOUT_FEATURES]
    return Entry(index, term, msgspec.msgpack.encode(fields), _CONFIGURATION)


def configuration_of(entry: Entry) -> Configuration:
    """What a configuration entry holds.

    Raises:
        BadMessage: it is not a configuration, or not one that belongs at this index.
    """
    try:
        configuration = _decoder.decode(entry.data)
    except UNREADABLE as error:
        raise BadMessage(f"entry {entry.index} holds no configuration: {error}") from None
    problem = problem_with(configuration)
    if problem is None and configuration.index != entry.index:
        problem = f"it was made for index {configuration.index}"
    if problem is None and bool(configuration.features) != (entry.kind == _WITH_FEATURES):
        problem = f"an entry of kind {entry.kind} has the features {configuration.features}"
    if problem is not None:
        raise BadMessage(f"entry {entry.index} holds a wrong configuration: {problem}")
    return configuration


def problem_with(configuration: Configuration) -> str | None:
    """Why no cluster can have this configuration; None if one can."""
    if not configuration.voters:
        return "it has no voters"
    for name, ids in (
        ("voters", configuration.voters),
        ("outgoing", configuration.outgoing),
        ("learners", configuration.learners),
    ):
        if len(set(ids)) != len(ids):
            return f"{name} names a node twice: {ids}"
        if any(not 0 < len(node.encode()) <= ID_BYTES_MAX for node in ids):
            return f"{name} holds an id that is empty or longer than {ID_BYTES_MAX} bytes"
    if not set(configuration.returning) <= set(configuration.members) - set(configuration.voters):
        return f"{configuration.returning} are to be voters again, and are voters or no members"
    if not set(configuration.disks) <= set(configuration.members):
        return f"it names disks of {sorted(configuration.disks)}, who are not all members"
    if any(configuration.is_voter(learner) for learner in configuration.learners):
        return f"learners {configuration.learners} are voters too"
    if len(set(configuration.features)) != len(configuration.features):
        return f"it has a feature switched on twice: {configuration.features}"
    if len(configuration.members) > MEMBERS_MAX:
        return f"it has {len(configuration.members)} members, more than {MEMBERS_MAX}"
    return None


class Membership:
    """The configurations from the last snapshot on, oldest first."""

    __slots__ = ("_base", "_later")

    def __init__(self, base: Configuration, entries: Iterable[Entry] = ()) -> None:
        """
        Args:
            base: in force before `entries`: of the snapshot, or the bootstrap configuration.
            entries: what follows in the log.
        """
        self._base = base
        self._later: list[Configuration] = []
        self.on_appended(entries)

    @property
    def current(self) -> Configuration:
        """The one that counts."""
        return self._later[-1] if self._later else self._base

    def at(self, index: LogIndex) -> Configuration:
        """The one that counted when the log ended at `index`."""
        for configuration in reversed(self._later):
            if configuration.index <= index:
                return configuration
        return self._base

    def may_vote_since(self, node_id: NodeId, disk: Incarnation, commit_index: LogIndex) -> bool:
        """Whether a disk is a voter by the committed configuration or by any later one.

        A node that a later one takes out must be able to campaign until that is committed: it may
        be the only one left that holds it, if the leader crashed before its own disk had it.
        """
        later = (known for known in self._later if known.index > commit_index)
        return any(
            known.is_voter(node_id) and known.disk_of(node_id) == disk
            for known in (self.at(commit_index), *later)
        )

    def on_formed(self, base: Configuration) -> None:
        """This is the configuration before the first entry."""
        if self._base.index == 0:
            self._base = base

    def before(self, configuration: Configuration) -> Configuration:
        """The one that counted before this one, as far as it is still known."""
        earlier = self._base
        for known in self._later:
            if known.index >= configuration.index:
                break
            earlier = known
        return earlier

    def on_appended(self, entries: Iterable[Entry]) -> bool:
        """These stand in the log now, perhaps did so before. True if the current one changed."""
        before = self.current.index
        for entry in entries:
            if not entry.kind:
                continue  # a command; most are
            if entry.kind in CONFIGURATIONS and entry.index > self.current.index:
                self._later.append(configuration_of(entry))
        return self.current.index != before

    def on_truncated(self, first_removed: LogIndex) -> bool:
        """The log was cut from here on. True if the current one changed."""
        before = len(self._later)
        self._later = [known for known in self._later if known.index < first_removed]
        return len(self._later) != before

    def on_compacted(self, index: LogIndex) -> None:
        """A snapshot stands for everything up to here."""
        self._base = self.at(index)
        self._later = [known for known in self._later if known.index > index]

    def on_installed(self, base: Configuration, index: LogIndex, *, keeps_rest: bool) -> None:
        """A snapshot took the place of the log up to here."""
        self._base = base
        self._later = [known for known in self._later if keeps_rest and known.index > index]


# -- what is asked for, and the steps to it --------------------------------------------------


@attrs.frozen
class AddLearner:
    """Let a node have the log, without a vote; or say where a member is reached now."""

    node_id: NodeId
    address: Address | None = None


@attrs.frozen
class ChangeVoters:
    """Make these the voters. Nodes that are no members yet join as learners first."""

    voters: tuple[NodeId, ...]
    addresses: Mapping[NodeId, Address] = attrs.field(factory=dict)


@attrs.frozen
class Remove:
    """Take a node out of the cluster, voter or learner."""

    node_id: NodeId


@attrs.frozen
class Replace:
    """A voter's disk is gone and it is there with an empty one: take its vote away, feed the new
    disk, and make it a voter again. Whoever leads goes on with it, from wherever it stands."""

    node_id: NodeId


@attrs.frozen
class SwitchOn:
    """Have all members do this from here on. They must have said that they can: `Raft` looks."""

    features: tuple[str, ...]


Change: TypeAlias = AddLearner | ChangeVoters | Remove | Replace | SwitchOn


def goal_of(change: Change, current: Configuration) -> Configuration:
    """What the cluster shall be when the change is through; `current` is not joint.

    Raises:
        ConfigError: it asks for what cannot be.
    """
    if isinstance(change, SwitchOn):
        on = tuple(dict.fromkeys((*current.features, *change.features)))
        return msgspec.structs.replace(current, features=on)
    voters, learners = set(current.voters), set(current.learners)
    returning = set(current.returning)
    addresses = dict(current.addresses)
    match change:
        case AddLearner(node_id, address):
            if address is not None:
                addresses[node_id] = address
            if node_id not in voters:
                learners.add(node_id)
        case ChangeVoters(ids, new_addresses):
            if len(set(ids)) != len(ids):
                raise ConfigError(f"voters {list(ids)} names a node twice; name each node once")
            voters = set(ids)
            learners -= voters
            addresses.update(new_addresses)
        case Remove(node_id):
            if node_id not in current.members:
                raise ConfigError(
                    f"{node_id!r} is no member of the cluster, which has {list(current.members)}"
                )
            voters.discard(node_id)
            learners.discard(node_id)
        case Replace(node_id):
            voters.discard(node_id)
            learners.add(node_id)
            returning.add(node_id)
    if not voters:
        raise ConfigError("no voter would be left; a cluster needs at least one")
    members = voters | learners
    if len(members) > MEMBERS_MAX:
        raise ConfigError(
            f"the cluster would have {len(members)} members; the most is {MEMBERS_MAX}"
        )
    meanwhile = members | set(current.members)  # a joint configuration holds both
    if len(meanwhile) > MEMBERS_MAX:
        raise ConfigError(
            f"while it changes the cluster would have {len(meanwhile)} members, those that join "
            f"and those that leave; the most is {MEMBERS_MAX}: replace fewer at a time"
        )
    return Configuration(
        voters=tuple(sorted(voters)),
        learners=tuple(sorted(learners)),
        addresses=_known(addresses, sorted(members)),
        disks=_known(current.disks, sorted(members)),
        returning=tuple(sorted(returning & learners)),
        features=current.features,
    )


def joining_by(change: Change, current: Configuration) -> tuple[NodeId, ...]:
    """Who is no member yet, or not with the disk it has, and shall be by this change."""
    match change:
        case AddLearner(node_id):
            named: tuple[NodeId, ...] = (node_id,)
        case ChangeVoters(ids):
            named = ids
        case Replace(node_id):
            return (node_id,)
        case _:
            return ()
    return tuple(node_id for node_id in named if node_id not in current.members)


def next_step(goal: Configuration, current: Configuration) -> Configuration:
    """The next configuration on the way from `current` to `goal`; `goal` itself is the last.

    Nodes that join as voters are learners first; voters then change through a joint
    configuration, which is left for the goal once it is committed (paper, section 6).
    """
    if current.outgoing:
        return goal
    joining = [node for node in goal.voters if node not in current.members]
    if joining:
        return msgspec.structs.replace(
            current,
            learners=tuple(sorted({*current.learners, *joining})),
            addresses={**current.addresses, **_known(goal.addresses, joining)},
        )
    if goal.voters == current.voters:
        return goal
    leaving = [node for node in current.voters if node not in goal.voters]
    return msgspec.structs.replace(
        goal,
        outgoing=current.voters,
        learners=tuple(node for node in goal.learners if node not in current.voters),
        addresses={**_known(current.addresses, leaving), **goal.addresses},
        disks={**_known(current.disks, leaving), **goal.disks},
    )


def without_outgoing(joint: Configuration) -> Configuration:
    """What a joint configuration is left for, by whoever leads then (hazard M3)."""
    learners = {*joint.learners, *joint.returning}
    members = {*joint.voters, *learners}
    return msgspec.structs.replace(
        joint,
        outgoing=(),
        learners=tuple(sorted(learners)),
        addresses=_known(joint.addresses, sorted(members)),
        disks=_known(joint.disks, sorted(members)),
    )


def _known(values: Mapping[NodeId, T], ids: Iterable[NodeId]) -> dict[NodeId, T]:
    return {node: values[node] for node in ids if node in values}


def _are_same(one: Configuration, other: Configuration) -> bool:
    return msgspec.structs.replace(one, index=0) == msgspec.structs.replace(other, index=0)


# -- a change on its way ---------------------------------------------------------------------


class Stage(enum.Enum):
    """How far a change has come."""

    ADDING = "adding learners"
    CATCHING_UP = "catching up"
    JOINT = "joint"
    FINAL = "final"
    DONE = "done"
    ABANDONED = "abandoned"


@attrs.define
class CatchUp:
    """One joining node's way to the end of the log, in rounds.

    It has caught up once it takes a whole election timeout's worth of entries in less than an
    election timeout (dissertation 4.2.1): only then does it get a vote.
    """

    target_index: LogIndex
    """The end of the log when the round began."""
    started_s: float
    is_done: bool = False

    def on_matched(
        self, match_index: LogIndex, last_index: LogIndex, now: float, patience_s: float
    ) -> None:
        """The node holds everything up to `match_index`."""
        if self.is_done or match_index < self.target_index:
            return
        if match_index >= last_index or now - self.started_s <= patience_s:
            self.is_done = True
        else:
            self.target_index, self.started_s = last_index, now


@attrs.define(eq=False)
class MembershipChange:
    """A change on its way; whoever asked for it holds this object too, and sees its end."""

    goal: Configuration
    """What the cluster shall be; its `index` is set when it is appended."""
    stage: Stage = Stage.ADDING
    joining: dict[NodeId, CatchUp] = attrs.field(factory=dict)
    """The future voters that have to catch up first."""
    is_own: bool = False
    """Whether the leader began it by itself: nobody waits for it, and nobody gives it up."""

    @classmethod
    def begin(cls, change: Change, current: Configuration) -> MembershipChange:
        """A change from `current`, which is not joint; it is done if there is nothing to do.

        Raises:
            ConfigError: it asks for what cannot be.
        """
        goal = goal_of(change, current)
        return cls(current, Stage.DONE) if _are_same(goal, current) else cls(goal)

    @property
    def has_ended(self) -> bool:
        """Whether its outcome is known."""
        return self.stage in (Stage.DONE, Stage.ABANDONED)

    @property
    def can_be_abandoned(self) -> bool:
        """Whether no voter has changed yet."""
        return self.stage in (Stage.ADDING, Stage.CATCHING_UP)

    def must_catch_up(self, current: Configuration) -> bool:
        """Whether future voters that are learners already have to catch up first."""
        return bool(next_step(self.goal, current).outgoing and self._not_voting(current))

    def begin_catching_up(self, current: Configuration, last_index: LogIndex, now: float) -> None:
        """The future voters are learners: the next step waits until they hold the log."""
        self.stage = Stage.CATCHING_UP
        for node in self._not_voting(current):
            self.joining[node] = CatchUp(last_index, now)

    def _not_voting(self, current: Configuration) -> list[NodeId]:
        return [node for node in self.goal.voters if node not in current.voters]

    def awaits(self, node: NodeId) -> bool:
        """Whether the next step waits for this node to catch up."""
        return self.stage is Stage.CATCHING_UP and node in self.joining

    def has_caught_up(self, has_heard_lately: Callable[[NodeId], bool]) -> bool:
        """Whether all future voters have caught up. A node that holds everything and does not
        answer any more gets no vote: it would be one of those that the next commit waits for."""
        return all(way.is_done and has_heard_lately(node) for node, way in self.joining.items())

    def advance(self, current: Configuration) -> Configuration:
        """The configuration to append next, on the way from `current` to the goal."""
        # Disks may have been named meanwhile.
        disks = _known(current.disks, self.goal.members)
        self.goal = msgspec.structs.replace(self.goal, disks=disks)
        step = next_step(self.goal, current)
        if step is self.goal:
            self.stage = Stage.FINAL
        else:
            self.stage = Stage.JOINT if step.outgoing else Stage.ADDING
        return step

    def on_appended(self, configuration: Configuration) -> None:
        """The last step stands in the log, at an index of its own."""
        if self.stage is Stage.FINAL:
            self.goal = configuration
