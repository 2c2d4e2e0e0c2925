"""A key-value service: its state machine and its typed client. To serve it: `trioraft serve`."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from .machine import KvMachine as KvMachine
else:

    def __getattr__(name: str) -> object:
        """The machine is the server's: a client is not made to load it."""
        if name != "KvMachine":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .machine import KvMachine

        globals()[name] = KvMachine
        return KvMachine
