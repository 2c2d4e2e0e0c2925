"""Inside: what a node's thread holds open."""

from __future__ import annotations

from typing import final

import attrs

from ..machines.local import LocalClient
from ..node.node import Node


@final
@attrs.frozen
class Inside:
    """A node, and its own client."""

    node: Node
    client: LocalClient
