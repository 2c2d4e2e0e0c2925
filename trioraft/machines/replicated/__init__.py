"""Replicated objects: a class whose state is the same on every node.

`calls` marks methods, `definition` reads a class once, `replica` runs one object, `object` is the
face, and `handle` that of one elsewhere. Nothing here is pickled; codecs come from annotations.
"""

from .calls import Port as Port
from .calls import command as command
from .calls import query as query
from .handle import BlockingHandle as BlockingHandle
from .handle import BlockingRemote as BlockingRemote
from .handle import Handle as Handle
from .handle import Remote as Remote
from .leader import LeaderLatch as LeaderLatch
from .leader import LeadershipLost as LeadershipLost
from .leader import run_while_leader as run_while_leader
from .object import Expiring as Expiring
from .object import ReplicatedObject as ReplicatedObject
from .object import WithHandles as WithHandles
from .replicas import Replicas as Replicas
