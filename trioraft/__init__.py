"""trioraft: Raft consensus for Trio, on structured concurrency.

The layers, from the ground up; each imports only what stands above it in this list:

    core            the protocol: synchronous, pure, no Trio
    storage, transport, state_machine
                    what a node stands on; protocols with implementations
    driver, node    the nursery that drives a core, and its public face
    testing         leak check and cluster harness, for your tests too
    cli             the commands

Everything public is here; modules may be rearranged at will.
"""

from .core.config import Limits as Limits
from .core.config import Timing as Timing
from .core.errors import BadMessage as BadMessage
from .core.errors import ConfigError as ConfigError
from .core.errors import CorruptStorage as CorruptStorage
from .core.errors import DiskFull as DiskFull
from .core.errors import InvariantViolation as InvariantViolation
from .core.errors import NodeDead as NodeDead
from .core.errors import NotLeader as NotLeader
from .core.errors import OutcomeUnknown as OutcomeUnknown
from .core.errors import Overloaded as Overloaded
from .core.errors import ProposalDropped as ProposalDropped
from .core.errors import RaftError as RaftError
from .core.errors import SessionExpired as SessionExpired
from .core.errors import StorageError as StorageError
from .core.types import Configuration as Configuration
from .core.types import Entry as Entry
from .core.types import NodeId as NodeId
from .core.types import Role as Role
from .node import Node as Node
from .node import open_node as open_node
from .proposals import Proposal as Proposal
from .state_machine import StateMachine as StateMachine
from .status import Status as Status
from .storage.memory import MemoryStorage as MemoryStorage
from .storage.sqlite import SQLiteStorage as SQLiteStorage
from .transport.memory import MemoryNetwork as MemoryNetwork
from .transport.tcp import TcpTransport as TcpTransport
from .transport.tls import TlsContexts as TlsContexts
