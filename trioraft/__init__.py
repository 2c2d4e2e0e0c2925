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

What is public: docs/public-names.md. All other modules may be rearranged at will.

Rules of this file: a name's module is imported when the name is first asked for, so that a command,
or a program that needs only the client, does not pay for the node. Type checkers read the imports,
and the table below says the same: a test compares.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .backups.format import BackupHead as BackupHead
    from .backups.format import BackupReader as BackupReader
    from .backups.format import BackupWriter as BackupWriter
    from .backups.format import EndedHistory as EndedHistory
    from .backups.format import UnusableBackup as UnusableBackup
    from .client.backups import IncomingBackup as IncomingBackup
    from .client.blocking import BlockingClient as BlockingClient
    from .client.client import Client as Client
    from .core.config import Limits as Limits
    from .core.config import Timing as Timing
    from .core.errors import ApplyFailed as ApplyFailed
    from .core.errors import BadMessage as BadMessage
    from .core.errors import ConfigError as ConfigError
    from .core.errors import ConfigurationConflict as ConfigurationConflict
    from .core.errors import CorruptStorage as CorruptStorage
    from .core.errors import DeadlineExceeded as DeadlineExceeded
    from .core.errors import DeadlineOutcomeUnknown as DeadlineOutcomeUnknown
    from .core.errors import DescriptorsExhausted as DescriptorsExhausted
    from .core.errors import DiskFull as DiskFull
    from .core.errors import EntryAltered as EntryAltered
    from .core.errors import InvariantViolation as InvariantViolation
    from .core.errors import NodeDead as NodeDead
    from .core.errors import NotLeader as NotLeader
    from .core.errors import NotMember as NotMember
    from .core.errors import OutcomeUnknown as OutcomeUnknown
    from .core.errors import Overloaded as Overloaded
    from .core.errors import ProposalDropped as ProposalDropped
    from .core.errors import RaftError as RaftError
    from .core.errors import ResourceExhausted as ResourceExhausted
    from .core.errors import ResultsDiverged as ResultsDiverged
    from .core.errors import SessionExpired as SessionExpired
    from .core.errors import SnapshotGone as SnapshotGone
    from .core.errors import StorageError as StorageError
    from .core.errors import ThreadsExhausted as ThreadsExhausted
    from .core.errors import TransferFailed as TransferFailed
    from .core.errors import Unreachable as Unreachable
    from .core.errors import WrongEventLoop as WrongEventLoop
    from .core.types import Address as Address
    from .core.types import Configuration as Configuration
    from .core.types import Entry as Entry
    from .core.types import LogIndex as LogIndex
    from .core.types import NodeId as NodeId
    from .core.types import Role as Role
    from .core.types import Term as Term
    from .groups.group import Group as Group
    from .groups.group import GroupPhase as GroupPhase
    from .groups.group import GroupStatus as GroupStatus
    from .groups.host import Groups as Groups
    from .groups.host import open_group as open_group
    from .groups.host import open_groups as open_groups
    from .machines.local import LocalClient as LocalClient
    from .machines.replicated import Expiring as Expiring
    from .machines.replicated import LeaderLatch as LeaderLatch
    from .machines.replicated import LeadershipLost as LeadershipLost
    from .machines.replicated import Replicas as Replicas
    from .machines.replicated import ReplicatedObject as ReplicatedObject
    from .machines.replicated import command as command
    from .machines.replicated import query as query
    from .machines.replicated import run_while_leader as run_while_leader
    from .machines.sessions import CommandFailed as CommandFailed
    from .machines.sessions import SessionFull as SessionFull
    from .machines.sessions import SessionMachine as SessionMachine
    from .machines.sessions import UnknownCommand as UnknownCommand
    from .member.attempts import Attempt as Attempt
    from .member.state_machine import StateMachine as StateMachine
    from .member.status import ChangeProgress as ChangeProgress
    from .member.status import PeerProgress as PeerProgress
    from .member.status import Status as Status
    from .net.certificates import CertificateExpiry as CertificateExpiry
    from .net.certificates import TlsFiles as TlsFiles
    from .net.resolving import Resolver as Resolver
    from .net.tls import ServerTls as ServerTls
    from .net.tls import TlsContexts as TlsContexts
    from .net.tls import UnusableCertificates as UnusableCertificates
    from .node.backups import OpenBackup as OpenBackup
    from .node.event_stream import EventStream as EventStream
    from .node.node import Node as Node
    from .node.node import open_node as open_node
    from .node.proposal import Proposal as Proposal
    from .node.restoring import RestoredBackup as RestoredBackup
    from .node.restoring import restore_backup as restore_backup
    from .rpc.errors import ClientClosed as ClientClosed
    from .rpc.errors import HandshakeRefused as HandshakeRefused
    from .rpc.errors import NoRole as NoRole
    from .rpc.errors import PermissionDenied as PermissionDenied
    from .rpc.errors import ServerLeaving as ServerLeaving
    from .rpc.errors import ServerLost as ServerLost
    from .rpc.protocol import ChangeStatus as ChangeStatus
    from .rpc.protocol import Consistency as Consistency
    from .rpc.protocol import EventNews as EventNews
    from .rpc.protocol import EventsNews as EventsNews
    from .rpc.protocol import NodeNews as NodeNews
    from .rpc.protocol import PeerStatus as PeerStatus
    from .rpc.protocol import RoleNews as RoleNews
    from .rpc.protocol import ServerStatus as ServerStatus
    from .rpc.protocol import StatusNews as StatusNews
    from .service.context import ServiceLimits as ServiceLimits
    from .service.port import Service as Service
    from .service.port import open_service as open_service
    from .service.roles import ClientRole as ClientRole
    from .service.roles import Credentials as Credentials
    from .service.roles import Permission as Permission
    from .service.roles import RoleGrant as RoleGrant
    from .service.roles import Roles as Roles
    from .storage.base import Storage as Storage
    from .storage.groups import MemoryGroupStorages as MemoryGroupStorages
    from .storage.memory import MemoryStorage as MemoryStorage
    from .storage.shared import SharedLog as SharedLog
    from .storage.sqlite import SQLiteStorage as SQLiteStorage
    from .transport.base import Transport as Transport
    from .transport.memory import MemoryNetwork as MemoryNetwork
    from .transport.memory import MemoryTransport as MemoryTransport
    from .transport.tcp import TcpTransport as TcpTransport

    __version__: str
    """Of the distribution that is installed; "0+unknown" where it runs from its source."""

_HOMES: Final = {
    "BackupHead": "backups.format",
    "BackupReader": "backups.format",
    "BackupWriter": "backups.format",
    "EndedHistory": "backups.format",
    "UnusableBackup": "backups.format",
    "IncomingBackup": "client.backups",
    "BlockingClient": "client.blocking",
    "Client": "client.client",
    "Limits": "core.config",
    "Timing": "core.config",
    "ApplyFailed": "core.errors",
    "BadMessage": "core.errors",
    "ConfigError": "core.errors",
    "ConfigurationConflict": "core.errors",
    "CorruptStorage": "core.errors",
    "DeadlineExceeded": "core.errors",
    "DeadlineOutcomeUnknown": "core.errors",
    "DescriptorsExhausted": "core.errors",
    "DiskFull": "core.errors",
    "EntryAltered": "core.errors",
    "InvariantViolation": "core.errors",
    "NodeDead": "core.errors",
    "NotLeader": "core.errors",
    "NotMember": "core.errors",
    "OutcomeUnknown": "core.errors",
    "Overloaded": "core.errors",
    "ProposalDropped": "core.errors",
    "RaftError": "core.errors",
    "ResourceExhausted": "core.errors",
    "ResultsDiverged": "core.errors",
    "SessionExpired": "core.errors",
    "SnapshotGone": "core.errors",
    "StorageError": "core.errors",
    "ThreadsExhausted": "core.errors",
    "TransferFailed": "core.errors",
    "Unreachable": "core.errors",
    "WrongEventLoop": "core.errors",
    "Address": "core.types",
    "Configuration": "core.types",
    "Entry": "core.types",
    "LogIndex": "core.types",
    "NodeId": "core.types",
    "Role": "core.types",
    "Term": "core.types",
    "Group": "groups.group",
    "GroupStatus": "groups.group",
    "GroupPhase": "groups.group",
    "Groups": "groups.host",
    "open_group": "groups.host",
    "open_groups": "groups.host",
    "LocalClient": "machines.local",
    "Expiring": "machines.replicated",
    "LeaderLatch": "machines.replicated",
    "LeadershipLost": "machines.replicated",
    "Replicas": "machines.replicated",
    "ReplicatedObject": "machines.replicated",
    "command": "machines.replicated",
    "query": "machines.replicated",
    "run_while_leader": "machines.replicated",
    "CommandFailed": "machines.sessions",
    "SessionFull": "machines.sessions",
    "SessionMachine": "machines.sessions",
    "UnknownCommand": "machines.sessions",
    "Attempt": "member.attempts",
    "StateMachine": "member.state_machine",
    "ChangeProgress": "member.status",
    "PeerProgress": "member.status",
    "Status": "member.status",
    "CertificateExpiry": "net.certificates",
    "TlsFiles": "net.certificates",
    "Resolver": "net.resolving",
    "ServerTls": "net.tls",
    "TlsContexts": "net.tls",
    "UnusableCertificates": "net.tls",
    "OpenBackup": "node.backups",
    "EventStream": "node.event_stream",
    "Node": "node.node",
    "open_node": "node.node",
    "Proposal": "node.proposal",
    "RestoredBackup": "node.restoring",
    "restore_backup": "node.restoring",
    "ClientClosed": "rpc.errors",
    "HandshakeRefused": "rpc.errors",
    "NoRole": "rpc.errors",
    "PermissionDenied": "rpc.errors",
    "ServerLeaving": "rpc.errors",
    "ServerLost": "rpc.errors",
    "ChangeStatus": "rpc.protocol",
    "Consistency": "rpc.protocol",
    "EventNews": "rpc.protocol",
    "EventsNews": "rpc.protocol",
    "NodeNews": "rpc.protocol",
    "PeerStatus": "rpc.protocol",
    "RoleNews": "rpc.protocol",
    "ServerStatus": "rpc.protocol",
    "StatusNews": "rpc.protocol",
    "ServiceLimits": "service.context",
    "Service": "service.port",
    "open_service": "service.port",
    "ClientRole": "service.roles",
    "Credentials": "service.roles",
    "RoleGrant": "service.roles",
    "Permission": "service.roles",
    "Roles": "service.roles",
    "Storage": "storage.base",
    "MemoryGroupStorages": "storage.groups",
    "MemoryStorage": "storage.memory",
    "SQLiteStorage": "storage.sqlite",
    "SharedLog": "storage.shared",
    "Transport": "transport.base",
    "MemoryNetwork": "transport.memory",
    "MemoryTransport": "transport.memory",
    "TcpTransport": "transport.tcp",
}
"""The module of each public name."""


def _version() -> str:
    from importlib import metadata  # it takes longer to import than all the rest

    try:
        return metadata.version("trioraft")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*_HOMES, "__version__", *(name for name in globals() if name.startswith("__"))})


if not TYPE_CHECKING:  # who checks types knows the names, and shall complain of any other

    def __getattr__(name: str) -> object:
        """A public name, from its module; the next time it is simply here (PEP 562)."""
        if name == "__all__":  # what `from trioraft import *` asks for
            return sorted(_HOMES)
        if name == "__version__":
            return _version()
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_HOMES[name]}", __name__)
        value = globals()[name] = getattr(module, name)
        return value
