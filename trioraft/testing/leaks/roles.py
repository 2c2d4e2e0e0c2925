"""Two tasks of one role in a live node: the leak that no test's end shows.

Rules of this file:

* A node's tasks are known by their names: `raft[ID]` is its life, `raft[ID].ROLE` a role.
* A role has one task. A node leads one term: leaders of two terms are two of one role.
* A task that is cancelled is on its way out and does not count.
* How many connections a node has is for its peers to decide, a snapshot is written now and then,
  and where many wait for a status it is looked at a little later: such tasks are never "no others",
  but two of one name are two all the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping

import trio
from trio.lowlevel import Task

from trioleaks import (
    Leak,
    LeakError,
    LeakKind,
    describe_task,
    is_cancelled,
    started_at,
    walk_tasks,
)

ROLE = LeakKind("role", "cancel a role's tasks with the role, before the next role starts its own")


_NODE = re.compile(r"raft\[[^\]]*\]")
_LEADER = re.compile(r"leader\(term=[^)]*\)")


def check_roles(*, expected: Mapping[str, Collection[str]] | None = None) -> None:
    """Raise if a live node of this Trio run has two tasks of one role. Use it mid-test.

    Args:
        expected: which tasks each node must have now, all of them and no others, by the name
            of the node's own task: `{"raft[0]": node.expected_tasks()}`. The node's own task
            may be among them; its connections' tasks, and those that write a snapshot or look at a
            status later, need not be. A role that began in this very moment has not started all of
            its tasks: `await trio.testing.wait_all_tasks_blocked()` first. Nodes that are
            not mentioned are only checked for doubles.

    Raises:
        LeakError: a role has two tasks, or a node has not just the expected ones.
    """
    __tracebackhide__ = True
    leaks = role_leaks(expected)
    if leaks:
        raise LeakError(leaks)


def role_leaks(expected: Mapping[str, Collection[str]] | None = None) -> list[Leak]:
    """The same, as a list."""
    expected = expected or {}
    root = trio.lowlevel.current_root_task()
    if root is None:
        return []
    nodes = [
        task for task in walk_tasks(root) if _NODE.fullmatch(task.name) and not is_cancelled(task)
    ]
    leaks = []
    for node in nodes:
        roles = _roles(node)
        leaks += _doubles(node.name, roles)
        if node.name in expected:
            leaks += _differences(node, roles, expected[node.name])
    alive = {node.name for node in nodes}
    for name in sorted(expected.keys() - alive):
        if expected[name]:
            leaks.append(Leak(ROLE, name, detail="this node is not alive"))
    return leaks


def _roles(node: Task) -> dict[str, list[Task]]:
    """The node's tasks that are not on their way out, by name."""
    roles: dict[str, list[Task]] = defaultdict(list)
    for task in walk_tasks(node):
        if task.name.startswith(f"{node.name}.") and not is_cancelled(task):
            roles[task.name].append(task)
    return roles


def _optional(node: Task) -> set[str]:
    """Names of tasks that the node may have or not, whatever its role: see the rules above."""
    return {
        f"{node.name}.snapshot",
        f"{node.name}.waits",
        *(
            task.name
            for transport in walk_tasks(node)
            if transport.name == f"{node.name}.transport"
            for task in walk_tasks(transport)
            if task is not transport
        ),
    }


def _doubles(node: str, roles: Mapping[str, list[Task]]) -> list[Leak]:
    doubles = {name: tasks for name, tasks in roles.items() if len(tasks) > 1}
    leaders = [name for name in roles if _LEADER.fullmatch(name.removeprefix(f"{node}."))]
    if len(leaders) > 1:
        doubles |= {name: roles[name] for name in leaders}
    return [
        Leak(
            ROLE,
            task.name,
            spawned_at=started_at(task),
            await_chain=describe_task(task),
            detail=f"one of {_count(name, tasks, leaders)} that {node} has at once",
        )
        for name, tasks in doubles.items()
        for task in tasks
    ]


def _count(name: str, tasks: list[Task], leaders: list[str]) -> str:
    if name in leaders and len(leaders) > 1:
        return f"{len(leaders)} leader tasks"
    return f"{len(tasks)} tasks of this role"


def _differences(
    node: Task, roles: Mapping[str, list[Task]], expected: Collection[str]
) -> list[Leak]:
    wanted = set(expected) - {node.name}
    # A timer whose deadline has just passed looks cancelled, and is there all the same.
    present = {task.name for task in walk_tasks(node)}
    extra = [
        Leak(
            ROLE,
            name,
            spawned_at=started_at(roles[name][0]),
            await_chain=describe_task(roles[name][0]),
            detail=f"{node.name} should have no such task now",
        )
        for name in sorted(roles.keys() - wanted - _optional(node))
    ]
    missing = [
        Leak(ROLE, name, detail=f"{node.name} should have this task now, and has not")
        for name in sorted(wanted - present)
    ]
    return extra + missing
