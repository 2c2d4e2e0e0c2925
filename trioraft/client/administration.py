"""What a client asks of the cluster itself: who is what, who leads, who is a member."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import msgspec

from ..core.errors import ConfigError, OutcomeUnknown, RaftError
from ..core.types import Address, LogIndex, NodeId
from ..rpc.errors import DeadlineOutcomeUnknown, ServerLost
from ..rpc.protocol import (
    SWITCHES_ON,
    AddLearnerRequest,
    ChangeVotersRequest,
    GetStatus,
    InviteNode,
    MoveNode,
    RemoveNode,
    ReplaceNode,
    ServerStatus,
    SwitchOnRequest,
    TakeSnapshot,
    TransferLeadership,
)
from ..tasks.event_loop import EVENT_LOOPS, EventLoop, require_event_loop
from .attempts import MAYBE_TAKEN, NOT_TAKEN, Attempt, Backoff, failed, pause
from .connection import NotSent
from .servers import Servers

STATUS_TIMEOUT_S = 2.0
"""How long `statuses` waits for a server, in seconds, unless said otherwise."""

INVITATION_VALID_S = 24 * 3600.0
"""How long an invitation is valid unless said otherwise, in seconds."""


class ClusterAdministration:
    """The part of `Client` that is not about the state machine.

    Args:
        servers: whom to ask.
        timeout_s: deadline of a call that gives none, in seconds.
        rng: jitter.
    """

    def __init__(self, servers: Servers, timeout_s: float, rng: random.Random) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._rng = rng
        self._decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
        self._opened_under: EventLoop | None = None

    @property
    def addresses(self) -> list[Address]:
        """Where servers take clients, as far as this client knows: the given addresses first."""
        return self._servers.addresses

    async def status(
        self, at: NodeId | Address | None = None, *, timeout_s: float | None = None
    ) -> ServerStatus:
        """What a server is at this moment.

        Args:
            at: which one, by id or address; default: the leader.
            timeout_s: when to give up, in seconds; default: the client's.

        Raises:
            DeadlineExceeded: time is up.
            ServerLost: with `at`: it cannot be reached.
            HandshakeRefused, ClientClosed: as `call`.

        Cancelling the wait disturbs nobody.
        """
        value = await self._to_server(at, timeout_s, GetStatus)
        status: ServerStatus = self._decoded(value, ServerStatus)
        self._servers.learn_from(status)
        return status

    async def statuses(
        self, *, timeout_s: float = STATUS_TIMEOUT_S
    ) -> dict[Address, ServerStatus | RaftError]:
        """What every known server says of itself, or why it does not, asked at the same time.

        By address: one of each server that answers. A name that leads to several addresses is told
        as these. Of a server that answers elsewhere, an address that others announce is left out.

        Args:
            timeout_s: when to give one up, in seconds.

        Cancelling the wait disturbs nobody.
        """
        self._check_event_loop()
        answers: dict[Address, ServerStatus | RaftError] = {}
        with anyio.move_on_after(timeout_s):
            await self._servers.look_up()
        todo = set(self.addresses)
        while todo:  # answers may name servers that were not known
            async with anyio.create_task_group() as asking:
                for address in todo:
                    asking.start_soon(self._keep_status, address, timeout_s, answers)
            todo = set(self.addresses) - set(answers)
        return self._without_doubles(answers)

    def _without_doubles(
        self, answers: dict[Address, ServerStatus | RaftError]
    ) -> dict[Address, ServerStatus | RaftError]:
        servers = self._servers
        told: dict[Address, ServerStatus | RaftError] = {}
        who: set[NodeId] = set()
        answered = {
            servers.given_for(address)
            for address, answer in answers.items()
            if isinstance(answer, ServerStatus)
        }
        for address in self.addresses:
            answer = answers.get(address)
            if isinstance(answer, ServerStatus) and answer.node_id not in who:
                who.add(answer.node_id)
                told[address] = answer
        for address in self.addresses:
            answer, given = answers.get(address), servers.given_for(address)
            is_elsewhere = given is None and servers.announced_for(address) in who
            is_one_of_many = given is not None and given in answered
            if isinstance(answer, RaftError) and not is_elsewhere and not is_one_of_many:
                told[address] = answer
        return {address: told[address] for address in self.addresses if address in told}

    async def _keep_status(
        self, address: Address, timeout_s: float, answers: dict[Address, ServerStatus | RaftError]
    ) -> None:
        try:
            answers[address] = await self.status(address, timeout_s=timeout_s)
        except RaftError as error:
            answers[address] = error

    async def transfer_leadership(
        self, to: NodeId | None = None, *, timeout_s: float | None = None
    ) -> NodeId:
        """Have the leader transfer its leadership; `Node.transfer_leadership`.

        Args:
            to: one of the other voters; None for the one that can take over soonest.
            timeout_s: when to give up, in seconds; default: the client's.

        Returns:
            The new leader's id.

        Raises:
            TransferFailed: the old one leads on.
            DeadlineExceeded, OutcomeUnknown, ConfigError, …: as `call` without a session.

        Cancelling the wait takes nothing back: it may still be done.
        """
        value = await self._administer(timeout_s, TransferLeadership, to)
        return str(self._decoded(value, str))

    async def add_learner(
        self,
        node_id: NodeId,
        address: Address | None = None,
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """Add a node that gets the log and does not vote; `Node.add_learner`.

        Args:
            node_id: its name.
            address: where *peers* reach it.
            expected_index: refuse unless this is the configuration's index.
            timeout_s: when to give up, in seconds; default: the client's.

        Returns:
            The new configuration's index.

        Raises:
            ConfigurationConflict: another change is under way, or `expected_index` is old.
            OutcomeUnknown: it may or may not have happened: look at `status()`.
            DeadlineExceeded, ConfigError, …: as `call` without a session.

        Cancelling the wait takes nothing back: it may still be done.
        """
        value = await self._administer(
            timeout_s, AddLearnerRequest, node_id, address, expected_index
        )
        return int(self._decoded(value, int))

    async def change_voters(
        self,
        ids: Iterable[NodeId],
        *,
        addresses: Mapping[NodeId, Address] | None = None,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """Say who shall vote from now on; `Node.change_voters`. Otherwise as `add_learner`.

        Args:
            ids: the names of all voters that shall be.
            addresses: where joining nodes are reached.

        Cancelling the wait takes nothing back: it may still be done.
        """
        value = await self._administer(
            timeout_s,
            ChangeVotersRequest,
            tuple(ids),
            None if addresses is None else dict(addresses),
            expected_index,
        )
        return int(self._decoded(value, int))

    async def remove(
        self,
        node_id: NodeId,
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """Remove a node from the cluster; `Node.remove`. Otherwise as `add_learner`.

        Cancelling the wait takes nothing back: it may still be done.
        """
        value = await self._administer(timeout_s, RemoveNode, node_id, expected_index)
        return int(self._decoded(value, int))

    async def move(
        self,
        node_id: NodeId,
        address: Address,
        *,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """Say in the log where peers reach a member from now on; `Node.move`.

        Args:
            node_id: its name.
            address: where *peers* reach it.
            force: without asking first whether it answers there.
            timeout_s: when to give up, in seconds; default: the client's.

        Returns:
            The index of the configuration with that address.

        Raises:
            Unreachable: it does not answer there, as the leader finds; nothing was changed.
            ConfigError: it is no member, or the address cannot be one.
            ConfigurationConflict, OutcomeUnknown, DeadlineExceeded, …: as `add_learner`.

        Cancelling the wait takes nothing back: it may still be done.
        """
        value = await self._administer(timeout_s, MoveNode, node_id, address, force)
        return int(self._decoded(value, int))

    async def replace(self, node_id: NodeId, *, timeout_s: float | None = None) -> LogIndex:
        """Make a voter whose disk was lost a voter again, with the empty disk that it has now;
        `Node.replace`. What has begun goes on without us, under whichever leader: so a leader that
        is lost meanwhile is no error, and the next one is asked.

        Args:
            node_id: its name; it runs, with an empty data directory.
            timeout_s: when to give up waiting, in seconds; default: the client's.

        Returns:
            The index of the configuration by which it is a voter again.

        Raises:
            ConfigError: there is nothing to replace, or no majority would be left.
            ConfigurationConflict: another change is under way, or came between.
            DeadlineExceeded, …: as `call` without a session. What has begun goes on.

        Cancelling the wait takes nothing back: it may still be done.
        """
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        give_up_s = anyio.current_time() + timeout_s
        has_begun = False
        while True:
            left_s = give_up_s - anyio.current_time()
            try:
                value = await self._administer(left_s, ReplaceNode, node_id)
                return int(self._decoded(value, int))
            except DeadlineOutcomeUnknown as error:
                raise DeadlineOutcomeUnknown(
                    f"{node_id} is no voter again within {timeout_s:g} s; what has begun goes on "
                    "by itself: look at the status, or ask for the same again to wait for the rest"
                ) from error
            except OutcomeUnknown:
                has_begun = True
            except ConfigError:
                status = await self.status(timeout_s=max(0.0, give_up_s - anyio.current_time()))
                if not has_begun or node_id not in status.configuration.voters:
                    raise
                return status.configuration_index  # nothing is left to do

    async def switch_on(
        self,
        features: Iterable[str],
        *,
        expected_index: LogIndex | None = None,
        timeout_s: float | None = None,
    ) -> LogIndex:
        """Switch features on, for good, on every member at one entry of the log; `Node.switch_on`.

        Args:
            features: their names (`status().can` has who can do what).
            expected_index: refuse unless the configuration stands at this index.
            timeout_s: when to give up waiting, in seconds; default: the client's.

        Returns:
            The index of the configuration from which on they are on.

        Raises:
            ConfigError: some member cannot, or is not there to say so; or the leader's server is of
                a release that cannot be asked.
            ConfigurationConflict, OutcomeUnknown, DeadlineExceeded, …: as `add_learner`.

        Cancelling the wait takes nothing back: it may still be done.
        """
        names = tuple(features)
        value = await self._administer(
            timeout_s, SwitchOnRequest, names, expected_index, needs_version=SWITCHES_ON
        )
        return int(self._decoded(value, int))

    async def take_snapshot(
        self, at: NodeId | Address | None = None, *, timeout_s: float | None = None
    ) -> LogIndex:
        """Have a server (default: the leader) take a snapshot; returns the index it stands for.

        Args:
            at: which server, by id or address; default: the leader.
            timeout_s: when to give up, in seconds; default: the client's.

        Cancelling the wait does not stop the snapshot.
        """
        return int(self._decoded(await self._to_server(at, timeout_s, TakeSnapshot), int))

    async def invite(
        self,
        node_id: NodeId,
        valid_s: float = INVITATION_VALID_S,
        *,
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Have a server write an invitation for a node that joins; `Node.invite`.

        Args:
            node_id: the new node's name, which its certificate bears.
            valid_s: for how long, in seconds.
            at: which server, by id or address; default: the leader. Any that has the key can.
            timeout_s: when to give up, in seconds; default: the client's.

        Returns:
            The text to start the new node with.

        Raises:
            ConfigError: the server has no invitation key, or its peers ask nobody for one.
            DeadlineExceeded, ServerLost, …: as `status`.

        Cancelling the wait leaves nothing: an invitation is no more than its text.
        """
        value = await self._to_server(at, timeout_s, InviteNode, node_id, valid_s)
        return str(self._decoded(value, str))

    async def _to_server(
        self, at: NodeId | Address | None, timeout_s: float | None, kind: Any, *fields: Any
    ) -> msgspec.Raw:
        """Ask one server something harmless; only the leader may become another one meanwhile."""
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        backoff = Backoff(self._rng, skip_first=True)
        with anyio.move_on_after(timeout_s):
            while True:
                server = await (self._servers.leader() if at is None else self._servers.at(at))
                try:
                    return await server.request(kind, *fields)
                except (*NOT_TAKEN, *MAYBE_TAKEN) as error:
                    self._servers.forget(server, error)
                    if at is not None and not isinstance(error, NotSent):
                        raise
                await pause(backoff)
        raise Attempt().deadline_error(timeout_s, self._servers.last_problem)

    async def _administer(
        self, timeout_s: float | None, kind: Any, *fields: Any, needs_version: int = 0
    ) -> msgspec.Raw:
        """Have the leader change the cluster; not tried again if it may have happened."""
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        attempt = Attempt()
        backoff = Backoff(self._rng, skip_first=True)
        with anyio.move_on_after(timeout_s):
            while True:
                server = await self._servers.leader()
                if server.version < needs_version:
                    raise ConfigError(
                        f"the leader {server.node_id} speaks version {server.version} of the "
                        f"clients' protocol, and this asks for {needs_version}: run a later "
                        "release there (docs/upgrading.md); nothing was changed"
                    )
                attempt.is_underway = True
                try:
                    return await server.request(kind, *fields)
                except NOT_TAKEN as error:
                    failed(attempt, error)
                    self._servers.forget(server, error)
                except ServerLost as error:
                    raise OutcomeUnknown(f"{error}; it may or may not have happened") from error
                await pause(backoff)
        raise attempt.deadline_error(timeout_s, self._servers.last_problem)

    def _check_event_loop(self) -> None:
        """Refuse a call from anywhere but where the client was opened."""
        if self._opened_under is None:
            require_event_loop("Client", *EVENT_LOOPS)
        else:
            require_event_loop(
                f"this Client, opened under {self._opened_under},", self._opened_under
            )

    def _decoder(self, value_type: Any) -> msgspec.msgpack.Decoder[Any]:
        decoder = self._decoders.get(value_type)
        if decoder is None:
            decoder = self._decoders[value_type] = msgspec.msgpack.Decoder(value_type)
        return decoder

    def _decoded(self, value: msgspec.Raw, value_type: Any) -> Any:
        try:
            return self._decoder(value_type).decode(value)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"the server did as asked, but what it returned is no {value_type!r}: {error}; "
                "give the type that the state machine returns"
            ) from error
