"""A node in a program of threads: `with trioraft.sync.open_node(…) as node`."""

from .embedding.blocking_node import BlockingEventStream as BlockingEventStream
from .embedding.blocking_node import BlockingNode as BlockingNode
from .embedding.blocking_node import Leadership as Leadership
from .embedding.blocking_node import open_node as open_node
from .embedding.blocking_node import run_while_leader as run_while_leader
