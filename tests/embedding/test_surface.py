"""Whatever `Node` and its client have, asyncio programs and threads have too, with the same
arguments; and nothing is left out in silence."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import trioraft
from trioraft import Client, LocalClient, Node, aio, sync
from trioraft.testing import AsyncCluster, BlockingCluster, Cluster

FACES: list[Any] = [aio.AsyncNode, sync.BlockingNode]
LEFT_OUT = {
    "submit": "a pipeline in another thread is asyncio.gather, or threads, of `propose`",
    "expected_tasks": "names of Trio tasks, for the leak check in the node's own run",
    "open_backup": "a stream of pieces is `backup` into a file there",
    "before_leaving": "jobs under Trio; a body does its own at its end",
}
ADDED = {
    "run_in_trio": "the node itself, for what only Trio has",
    "run": "objects made by `through` a BlockingClient call it, and so through a BlockingNode",
    "lead": "LeaderLatch needs Trio",
    **dict.fromkeys(("call", "query", "watch"), "as LocalClient has them"),
}
MORE: dict[tuple[str, str], set[str]] = {
    ("BlockingNode", "wait"): {"timeout_s"},  # where nothing can be put around it
}
LEFT_OUT_OF_CLUSTERS = {
    *("network", "seed", "timing", "loses_messages"),  # told when it was opened
    *("run", "stop"),  # of whoever opened it
}


def public(cls: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(cls) if not name.startswith("_")}


def parameters(method: Any) -> dict[str, Any]:
    found = inspect.signature(method).parameters.values()
    return {each.name: (each.kind, each.default) for each in found if each.name != "self"}


@pytest.mark.parametrize("face", FACES)
def test_nothing_of_a_node_is_left_out(face: type) -> None:
    missing = public(Node).keys() - public(face).keys()
    assert missing == LEFT_OUT.keys()
    assert public(face).keys() - public(Node).keys() <= ADDED.keys()


@pytest.mark.parametrize("face", FACES)
def test_every_method_takes_what_the_node_s_takes(face: type) -> None:
    for name, method in public(Node).items():
        if name in LEFT_OUT or not callable(method):
            continue
        own = parameters(public(face)[name])
        more = MORE.get((face.__name__, name), set())
        assert {key: own[key] for key in own.keys() - more} == parameters(method), name


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", ["call", "query", "watch"])
def test_a_client_s_methods_take_what_a_local_client_s_take(face: type, name: str) -> None:
    assert parameters(getattr(face, name)) == parameters(getattr(LocalClient, name))
    assert parameters(getattr(face, name)).keys() <= parameters(getattr(Client, name)).keys()


@pytest.mark.parametrize("module", [aio, sync])
def test_opening_one_takes_what_trioraft_open_node_takes(module: Any) -> None:
    assert parameters(module.open_node) == parameters(trioraft.open_node)


@pytest.mark.parametrize("face", [AsyncCluster, BlockingCluster])
def test_nothing_of_a_cluster_is_left_out(face: type) -> None:
    assert public(Cluster).keys() - public(face).keys() <= LEFT_OUT_OF_CLUSTERS
    assert public(face).keys() - public(Cluster).keys() <= {"leader", "sleep", "machines", "ids"}
    for name in public(face).keys() & public(Cluster).keys() - {"wait", "nodes", "disconnected"}:
        assert parameters(getattr(face, name)) == parameters(getattr(Cluster, name)), name
