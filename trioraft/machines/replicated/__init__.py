"""Replicated objects: a class whose state is the same on every node.

`calls` marks methods, `definition` reads a class once, `replica` runs one
object, `object` is the face. Nothing here is pickled; codecs come from annotations.
"""

from .calls import Port as Port
from .calls import command as command
from .calls import query as query
from .leader import LeaderLatch as LeaderLatch
from .leader import LeadershipLost as LeadershipLost
from .leader import run_while_leader as run_while_leader
from .object import ReplicatedObject as ReplicatedObject
from .replica import Remote as Remote
from .replicas import Replicas as Replicas
