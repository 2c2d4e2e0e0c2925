"""A node in an asyncio program: `async with trioraft.aio.open_node(…) as node`."""

from .embedding.async_node import AsyncEventStream as AsyncEventStream
from .embedding.async_node import AsyncNode as AsyncNode
from .embedding.async_node import open_node as open_node
from .embedding.async_node import run_while_leader as run_while_leader
