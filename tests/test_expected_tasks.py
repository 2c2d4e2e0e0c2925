"""A live node owns the tasks that its role asks for, each once: `check_roles` agrees with
`node.expected_tasks()`, over real connections too."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support import open_single
from trioraft import Role, TcpTransport
from trioraft.testing import LeakError, check_roles


async def test_a_node_over_tcp_has_the_tasks_that_it_expects() -> None:
    # "1" is a peer of the transport's that cannot be reached, and no voter: "0" leads alone. (Told
    # of "1" before it has formed, it would wait for it.)
    transport = TcpTransport("0", ("127.0.0.1", 0), {})
    async with open_single(transport=transport) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        transport.add_peer("1", ("127.0.0.1", 1))
        await trio.testing.wait_all_tasks_blocked()
        check_roles(expected={"raft[0]": node.expected_tasks()})
        missing = node.expected_tasks() | {"raft[0].second_heartbeat"}
        with pytest.raises(LeakError, match="second_heartbeat"):
            check_roles(expected={"raft[0]": missing})
