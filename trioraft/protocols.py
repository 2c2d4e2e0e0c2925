"""For a storage, a transport or a state machine of your own: the protocols, and what they speak of.

`trioraft.testing.check_storage` shows whether a storage keeps its protocol.
"""

from .backups.format import BackupSink as BackupSink
from .backups.format import BackupSource as BackupSource
from .core.messages import AppendEntries as AppendEntries
from .core.messages import AppendEntriesReply as AppendEntriesReply
from .core.messages import Forward as Forward
from .core.messages import Forwarded as Forwarded
from .core.messages import GroupMessage as GroupMessage
from .core.messages import GroupNote as GroupNote
from .core.messages import GroupsFrame as GroupsFrame
from .core.messages import InstallSnapshot as InstallSnapshot
from .core.messages import InstallSnapshotReply as InstallSnapshotReply
from .core.messages import Introduction as Introduction
from .core.messages import Message as Message
from .core.messages import RequestPreVote as RequestPreVote
from .core.messages import RequestPreVoteReply as RequestPreVoteReply
from .core.messages import RequestReadIndex as RequestReadIndex
from .core.messages import RequestReadIndexReply as RequestReadIndexReply
from .core.messages import RequestVote as RequestVote
from .core.messages import RequestVoteReply as RequestVoteReply
from .core.messages import ResultsCheck as ResultsCheck
from .core.messages import TimeoutNow as TimeoutNow
from .core.types import Address as Address
from .core.types import Configuration as Configuration
from .core.types import Entry as Entry
from .core.types import EntryKind as EntryKind
from .core.types import HardState as HardState
from .core.types import Incarnation as Incarnation
from .core.types import LogIndex as LogIndex
from .core.types import NodeId as NodeId
from .core.types import Recovered as Recovered
from .core.types import SnapshotMeta as SnapshotMeta
from .core.types import Term as Term
from .core.types import TraceContext as TraceContext
from .machines.replicated import Port as Port
from .machines.replicated import Remote as Remote
from .machines.replicated.calls import Way as Way
from .member.state_machine import Judge as Judge
from .member.state_machine import KeyedCommands as KeyedCommands
from .member.state_machine import Preparing as Preparing
from .member.state_machine import StateMachine as StateMachine
from .member.state_machine import Timed as Timed
from .net.events import TransportEvent as TransportEvent
from .net.resolving import GetAddrInfo as GetAddrInfo
from .net.resolving import ResolvedAddress as ResolvedAddress
from .net.resolving import ServiceRecord as ServiceRecord
from .storage.base import Storage as Storage
from .storage.groups import GroupStorages as GroupStorages
from .tracing.tracer import Tracer as Tracer
from .transport.base import Transport as Transport
from .transport.base import TransportOwner as TransportOwner
