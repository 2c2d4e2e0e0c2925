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

Rules of this file: a name's module is imported when the name is first asked for, so that a command,
or a program that needs only the client, does not pay for the node. Type checkers read the imports,
and the table below says the same: a test compares.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "BlockingClient": "client.blocking",
    "Client": "client.client",
    "Limits": "core.config",
    "Timing": "core.config",
    "BadMessage": "core.errors",
    "ConfigError": "core.errors",
    "ConfigurationConflict": "core.errors",
    "CorruptStorage": "core.errors",
    "DescriptorsExhausted": "core.errors",
    "DiskFull": "core.errors",
    "InvariantViolation": "core.errors",
    "NodeDead": "core.errors",
    "NotLeader": "core.errors",
    "NotMember": "core.errors",
    "OutcomeUnknown": "core.errors",
    "Overloaded": "core.errors",
    "ProposalDropped": "core.errors",
    "RaftError": "core.errors",
    "ResourceExhausted": "core.errors",
    "SessionExpired": "core.errors",
    "StorageError": "core.errors",
    "ThreadsExhausted": "core.errors",
    "TransferFailed": "core.errors",
    "Configuration": "core.types",
    "Entry": "core.types",
    "NodeId": "core.types",
    "Role": "core.types",
    "LeaderLatch": "machines.replicated",
    "LeadershipLost": "machines.replicated",
    "Replicas": "machines.replicated",
    "ReplicatedObject": "machines.replicated",
    "command": "machines.replicated",
    "query": "machines.replicated",
    "run_while_leader": "machines.replicated",
    "CommandFailed": "machines.sessions",
    "SessionMachine": "machines.sessions",
    "UnknownCommand": "machines.sessions",
    "StateMachine": "member.state_machine",
    "Status": "member.status",
    "ServerTls": "net.tls",
    "TlsContexts": "net.tls",
    "UnusableCertificates": "net.tls",
    "Node": "node.node",
    "open_node": "node.node",
    "Proposal": "node.proposal",
    "ClientClosed": "rpc.errors",
    "DeadlineExceeded": "rpc.errors",
    "HandshakeRefused": "rpc.errors",
    "PermissionDenied": "rpc.errors",
    "ServerLeaving": "rpc.errors",
    "ServerLost": "rpc.errors",
    "ServerStatus": "rpc.protocol",
    "ServiceLimits": "service.context",
    "Service": "service.port",
    "open_service": "service.port",
    "Roles": "service.roles",
    "MemoryStorage": "storage.memory",
    "SQLiteStorage": "storage.sqlite",
    "MemoryNetwork": "transport.memory",
    "TcpTransport": "transport.tcp",
}
"""The module of each public name."""


def __dir__() -> list[str]:
    return sorted({*_HOMES, *(name for name in globals() if name.startswith("__"))})


if not TYPE_CHECKING:  # who checks types knows the names, and shall complain of any other

    def __getattr__(name: str) -> object:
        """A public name, from its module; the next time it is simply here (PEP 562)."""
        if name == "__all__":  # what `from trioraft import *` asks for
            return sorted(_HOMES)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_HOMES[name]}", __name__)
        value = globals()[name] = getattr(module, name)
        return value
