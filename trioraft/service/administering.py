"""Requests that change the cluster: each is one method of the node.

Rules of this file: nothing is decided here; the node checks, and its errors go to the client.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ConfigError
from ..node.node import Node
from ..rpc.protocol import (
    AddLearnerRequest,
    ChangeVotersRequest,
    RemoveNode,
    TakeSnapshot,
    TransferLeadership,
)


async def administer(node: Node, request: Any) -> Any:
    """Do as the request says, and return what the node returns.

    Raises:
        RaftError: the node's.
        ConfigError: it is no such request.
    """
    match request:
        case TransferLeadership(to=to, timeout_s=timeout_s):
            return await node.transfer_leadership(to, timeout_s=timeout_s)
        case AddLearnerRequest(node_id=node_id, address=address, expected_index=index):
            return await node.add_learner(node_id, address, expected_index=index)
        case ChangeVotersRequest(ids=ids, addresses=addresses, expected_index=index):
            return await node.change_voters(ids, addresses=addresses, expected_index=index)
        case RemoveNode(node_id=node_id, expected_index=index):
            return await node.remove(node_id, expected_index=index)
        case TakeSnapshot():
            return await node.take_snapshot()
    raise ConfigError(f"{type(request).__name__} is no request that changes anything")
