"""Two tasks of one role in a live node are found, at the end and in the middle of a test."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trioraft.testing.leaks import ROLE, LeakError, LeakKind, check_roles, no_leaks

ROLES = ("driver", "election_timer", "link[1]", "link[2]")


class StandIn:
    """A node's tasks, by their names, that do nothing but live."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for role in ROLES:
                self.add(role)
            task_status.started()

    def add(self, role: str) -> None:
        assert self.nursery is not None
        self.nursery.start_soon(trio.sleep_forever, name=f"{self.name}.{role}")

    @property
    def expected(self) -> list[str]:
        return [self.name, *(f"{self.name}.{role}" for role in ROLES)]


async def open_stand_in(nursery: trio.Nursery, name: str = "raft[0]") -> StandIn:
    node = StandIn(name)
    await nursery.start(node.run, name=name)
    return node


pytestmark = pytest.mark.leak_check(allow=["raft[*"])


async def test_a_healthy_node_passes(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    node.add("leader(term=7)")
    node.add("leader(term=7).heartbeat")
    check_roles()


async def test_two_heartbeats_are_found(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    for _ in range(2):
        node.add("leader(term=7).heartbeat")
    with pytest.raises(LeakError, match="2 tasks of this role") as caught:
        check_roles()
    assert [leak.kind for leak in caught.value.leaks] == [ROLE] * 2
    for leak in caught.value.leaks:
        assert leak.name == "raft[0].leader(term=7).heartbeat"
        assert leak.spawned_at is not None
        assert leak.spawned_at.endswith(" in StandIn.add")
    assert node.nursery is not None
    node.nursery.cancel_scope.cancel()


async def test_leaders_of_two_terms_are_found(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    node.add("leader(term=7)")
    node.add("leader(term=9)")
    with pytest.raises(LeakError, match="2 leader tasks") as caught:
        check_roles()
    assert len(caught.value.leaks) == 2
    assert node.nursery is not None
    node.nursery.cancel_scope.cancel()


async def test_a_role_on_its_way_out_does_not_count(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    released = trio.Event()
    assert node.nursery is not None
    node.nursery.start_soon(leave_slowly, released, name="raft[0].leader(term=7)")
    await trio.testing.wait_all_tasks_blocked()
    node.add("leader(term=8)")
    check_roles()
    released.set()


async def leave_slowly(released: trio.Event) -> None:
    with trio.CancelScope() as term, trio.CancelScope(shield=True):
        term.cancel()
        await released.wait()


async def test_two_nodes_have_a_role_each(nursery: trio.Nursery) -> None:
    await open_stand_in(nursery, "raft[0]")
    await open_stand_in(nursery, "raft[1]")
    check_roles()


async def test_the_expected_tasks_are_all_and_no_others(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    check_roles(expected={node.name: node.expected})
    node.add("ghost")
    with pytest.raises(LeakError, match="should have no such task now") as caught:
        check_roles(expected={node.name: node.expected})
    assert [leak.name for leak in caught.value.leaks] == ["raft[0].ghost"]
    assert "in StandIn.add" in str(caught.value)
    with pytest.raises(LeakError, match="should have this task now, and has not"):
        check_roles(expected={node.name: [*node.expected, "raft[0].ghost", "raft[0].restore"]})
    with pytest.raises(LeakError, match="not alive"):
        check_roles(expected={"raft[9]": ["raft[9].driver"]})
    check_roles(expected={"raft[9]": []})


@pytest.mark.no_leak_check
async def test_a_node_from_before_is_looked_at_too(nursery: trio.Nursery) -> None:
    node = await open_stand_in(nursery)
    with pytest.raises(LeakError) as caught:  # noqa: PT012 - the block's end is what raises
        async with no_leaks(allow=["raft[0].link*"]):
            node.add("link[1]")
            node.add("election_timer")
    kinds = {(leak.kind, leak.name) for leak in caught.value.leaks}
    assert kinds == {
        (LeakKind.TASK, "raft[0].election_timer"),
        (ROLE, "raft[0].election_timer"),
    }
