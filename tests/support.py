"""What several test modules need: a small way to open nodes, and to look at this process."""

from __future__ import annotations

import os
import random
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from trioraft import MemoryNetwork, MemoryStorage, Node, Timing, open_node
from trioraft.core.messages import Introduction
from trioraft.core.types import NodeId
from trioraft.testing.cluster import CommandLog


def open_single(
    node_id: str = "0", voters: tuple[str, ...] = ("0",), **options: Any
) -> AbstractAsyncContextManager[Node]:
    """A node on a memory network; by default the only voter, so it leads at once."""
    options.setdefault("machine", CommandLog())
    options.setdefault("storage", MemoryStorage())
    options.setdefault("timing", Timing())
    options.setdefault("rng", random.Random(0))
    if "transport" not in options:
        options["transport"] = MemoryNetwork(random.Random(0)).transport(node_id)
    return open_node(node_id, voters=voters, **options)


def introduction(sender: NodeId, receiver: NodeId, **said: Any) -> Introduction:
    """What a node with an empty disk says of itself that belongs to no cluster yet."""
    return Introduction(sender, receiver, 0, said.pop("incarnation", 1), **said)


def raft_tasks() -> list[str]:
    """Names of all live tasks that belong to a node or its connections."""
    root = trio.lowlevel.current_root_task()
    names: list[str] = []
    todo = [root] if root is not None else []
    while todo:
        task = todo.pop()
        if task.name.startswith("raft["):
            names.append(task.name)
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)
    return sorted(names)


def descriptors() -> set[str]:
    """This process's open descriptors."""
    return set(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
