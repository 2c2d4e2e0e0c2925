"""What a node says of itself, and what it is asked to change, crosses the wire whole.

Rules of this file: every field is filled with a value of its own, so that one that is left out, or
put in another's place, is seen; a new field without a way over the wire fails.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import msgspec
import pytest

from trioraft.core.reconfiguration import AddLearner, ChangeVoters, Remove
from trioraft.core.types import Configuration, Role
from trioraft.logs.loggers import TraceLogger
from trioraft.member.status import ChangeProgress, PeerProgress, Status
from trioraft.rpc.protocol import (
    AddLearnerRequest,
    ChangeStatus,
    ChangeVotersRequest,
    InviteNode,
    MoveNode,
    PeerStatus,
    RemoveNode,
    ReplaceNode,
    ServerStatus,
    TakeSnapshot,
    TransferLeadership,
)
from trioraft.service.context import ServiceContext, ServiceLimits
from trioraft.service.conversation import administer

STATUS = Status(
    node_id="1",
    role=Role.LEADER,
    term=2,
    leader_id="3",
    last_index=9,
    commit_index=8,
    applied_index=7,
    configuration=Configuration(("1", "4"), learners=("5",), index=6),
    progress={"4": PeerProgress(10, 11, "probe"), "5": PeerProgress(12, 13, "snapshot")},
    last_role_change="elected",  # type: ignore[arg-type]  # any reason is text in the end
    links={"4": True, "5": False},
    is_removed=True,
    change=ChangeProgress("joint", ("1", "6"), ("6",)),
    waiting_for=("7",),
    problems={"7": "away"},
    differing={"5": 4},
    uuid="8",
    incarnation=15,
    peer_certificate_expires_s=16.0,
    client_addresses={"4": ("announced", 17), "5": ("0.0.0.0", 18)},
    can={"4": ("entry-checksums",)},
)


def context_of(**fields: Any) -> ServiceContext:
    nothing: Any = None
    node: Any = SimpleNamespace(
        budgets=lambda: {"of_the_node": (16, 17)}, address_of=lambda _: ("host-of-peers", 1)
    )
    given = {"cluster_id": "the cluster", "client_addresses": {"4": ("host", 14)}, **fields}
    return ServiceContext(
        node=node,
        machine=nothing,
        limits=ServiceLimits(),
        tls=None,
        has_sessions=True,
        log=TraceLogger(None, "1"),
        **given,
    )


async def test_a_status_arrives_whole() -> None:
    context = context_of()
    sent = context.server_status(STATUS)
    arrived = msgspec.to_builtins(
        msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=ServerStatus)
    )
    expected = attrs.asdict(STATUS) | {
        "role": "Leader",
        "configuration": msgspec.to_builtins(STATUS.configuration),
        "configuration_index": 6,
        "cluster_id": "the cluster",
        "client_addresses": {"4": ("announced", 17), "5": ("host-of-peers", 18)},
        "other_client_addresses": {"4": (("host", 14),)},
        "connections": 0,
        "budgets": context.budgets(),
        "turned_away": 0,
        "rejected": 0,
        "client_certificate_expires_s": None,
    }
    assert msgspec.json.encode(arrived, order="sorted") == msgspec.json.encode(
        expected, order="sorted"
    )


def test_every_field_of_the_example_has_a_value_of_its_own() -> None:
    for field in attrs.fields(Status):
        assert getattr(STATUS, field.name) not in (None, field.default, 0, "", {})


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(Status, ServerStatus), (PeerProgress, PeerStatus), (ChangeProgress, ChangeStatus)],
)
def test_every_field_has_a_place_on_the_wire(inside: Any, outside: Any) -> None:
    names = {field.name for field in attrs.fields(inside)}
    assert names <= set(outside.__struct_fields__)


async def test_a_new_field_without_a_place_on_the_wire_is_an_error() -> None:
    @attrs.frozen
    class LaterStatus(Status):
        mood: str = "calm"

    later = LaterStatus(**{f.name: getattr(STATUS, f.name) for f in attrs.fields(Status)})
    with pytest.raises(TypeError, match="mood"):
        context_of().server_status(later)


# -- requests ------------------------------------------------------------------------------


class Asked:
    """A node that remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any, **kwargs: Any) -> None:
            self.calls.append((name, args, kwargs))

        return method


WHERE = ("host", 4)
REQUESTS: list[tuple[Any, str, tuple[Any, ...], dict[str, Any]]] = [
    (TransferLeadership(1, "2", 0.5), "transfer_leadership", ("2",), {"timeout_s": 0.5}),
    (AddLearnerRequest(1, "2", WHERE, 3), "add_learner", ("2", WHERE), {"expected_index": 3}),
    (
        ChangeVotersRequest(1, ("2", "5"), {"2": WHERE}, 3),
        "change_voters",
        (("2", "5"),),
        {"addresses": {"2": WHERE}, "expected_index": 3},
    ),
    (RemoveNode(1, "2", 3), "remove", ("2",), {"expected_index": 3}),
    (ReplaceNode(1, "2"), "replace", ("2",), {}),
    (MoveNode(1, "2", WHERE, True), "move", ("2", WHERE), {"force": True}),
    (InviteNode(1, "4", 60.0), "invite", ("4", 60.0), {}),
    (TakeSnapshot(1), "take_snapshot", (), {}),
]


@pytest.mark.parametrize(("request_", "name", "args", "options"), REQUESTS, ids=lambda v: str(v))
async def test_a_request_reaches_the_node_whole(
    request_: Any, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    node: Any = Asked()
    await administer(node, request_)
    assert node.calls == [(name, args, options)]
    assert len(args) + len(options) == len(request_.__struct_fields__) - 1  # all but its id


@pytest.mark.parametrize(
    ("change", "request_", "renamed"),
    [
        (AddLearner, AddLearnerRequest, {}),
        (ChangeVoters, ChangeVotersRequest, {"voters": "ids"}),
        (Remove, RemoveNode, {}),
    ],
)
def test_a_change_of_members_can_be_asked_for_whole(
    change: Any, request_: Any, renamed: dict[str, str]
) -> None:
    names = {renamed.get(field.name, field.name) for field in attrs.fields(change)}
    assert {*names, "id", "expected_index"} == set(request_.__struct_fields__)
