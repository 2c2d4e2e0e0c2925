"""trioraft: Raft consensus for Trio, on structured concurrency.

The layers, from the ground up; each imports only what stands above it in this list:

    core            the protocol: synchronous, pure, no Trio
    storage, transport, state_machine
                    what a node stands on; protocols with implementations
    driver, node    the nursery that drives a core, and its public face
    replicated, structures
                    classes whose objects are the same on every node
    client          asks a cluster, from Trio or asyncio (anyio)
    service         the port of a node that clients ask
    testing         leak check and cluster harness, for your tests too
    cli             the commands

Everything public is here; modules may be rearranged at will.
"""

from .client.blocking import BlockingClient as BlockingClient
from .client.client import Client as Client
from .core.config import Limits as Limits
from .core.config import Timing as Timing
from .core.errors import BadMessage as BadMessage
from .core.errors import ConfigError as ConfigError
from .core.errors import ConfigurationConflict as ConfigurationConflict
from .core.errors import CorruptStorage as CorruptStorage
from .core.errors import DescriptorsExhausted as DescriptorsExhausted
from .core.errors import DiskFull as DiskFull
from .core.errors import InvariantViolation as InvariantViolation
from .core.errors import NodeDead as NodeDead
from .core.errors import NotLeader as NotLeader
from .core.errors import NotMember as NotMember
from .core.errors import OutcomeUnknown as OutcomeUnknown
from .core.errors import Overloaded as Overloaded
from .core.errors import ProposalDropped as ProposalDropped
from .core.errors import RaftError as RaftError
from .core.errors import ResourceExhausted as ResourceExhausted
from .core.errors import SessionExpired as SessionExpired
from .core.errors import StorageError as StorageError
from .core.errors import ThreadsExhausted as ThreadsExhausted
from .core.errors import TransferFailed as TransferFailed
from .core.errors import Unreachable as Unreachable
from .core.types import Configuration as Configuration
from .core.types import Entry as Entry
from .core.types import NodeId as NodeId
from .core.types import Role as Role
from .machines.replicated import LeaderLatch as LeaderLatch
from .machines.replicated import LeadershipLost as LeadershipLost
from .machines.replicated import Replicas as Replicas
from .machines.replicated import ReplicatedObject as ReplicatedObject
from .machines.replicated import command as command
from .machines.replicated import query as query
from .machines.replicated import run_while_leader as run_while_leader
from .machines.sessions import CommandFailed as CommandFailed
from .machines.sessions import SessionMachine as SessionMachine
from .machines.sessions import UnknownCommand as UnknownCommand
from .member.state_machine import StateMachine as StateMachine
from .member.status import Status as Status
from .net.resolving import Resolver as Resolver
from .net.tls import ServerTls as ServerTls
from .net.tls import TlsContexts as TlsContexts
from .net.tls import UnusableCertificates as UnusableCertificates
from .node.node import Node as Node
from .node.node import open_node as open_node
from .node.proposal import Proposal as Proposal
from .rpc.errors import ClientClosed as ClientClosed
from .rpc.errors import DeadlineExceeded as DeadlineExceeded
from .rpc.errors import HandshakeRefused as HandshakeRefused
from .rpc.errors import PermissionDenied as PermissionDenied
from .rpc.errors import ServerLeaving as ServerLeaving
from .rpc.errors import ServerLost as ServerLost
from .rpc.protocol import ServerStatus as ServerStatus
from .service.context import ServiceLimits as ServiceLimits
from .service.port import Service as Service
from .service.port import open_service as open_service
from .service.roles import Roles as Roles
from .storage.memory import MemoryStorage as MemoryStorage
from .storage.sqlite import SQLiteStorage as SQLiteStorage
from .transport.memory import MemoryNetwork as MemoryNetwork
from .transport.tcp import TcpTransport as TcpTransport
