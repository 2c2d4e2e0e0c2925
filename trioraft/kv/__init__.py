"""A key-value service: its state machine and its typed client. To serve it: `trioraft serve`."""

from .client import ERROR_TYPES as ERROR_TYPES
from .client import ClusterClient as ClusterClient
from .client import KvClient as KvClient
from .commands import Change as Change
from .commands import Changed as Changed
from .commands import ChangeKind as ChangeKind
from .commands import Compacted as Compacted
from .commands import Found as Found
from .commands import HistoryCompacted as HistoryCompacted
from .commands import Page as Page
from .commands import Pair as Pair
from .commands import Swapped as Swapped
from .commands import ValueTooLarge as ValueTooLarge
from .commands import Written as Written
from .machine import KvMachine as KvMachine
