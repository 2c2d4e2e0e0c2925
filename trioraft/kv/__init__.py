"""A key-value service: its state machine and its typed client. To serve it: `trioraft serve`."""

import importlib
from typing import TYPE_CHECKING

from .client import KvClient as KvClient
from .client import RangeChanged as RangeChanged
from .commands import Change as Change
from .commands import Changed as Changed
from .commands import ChangeKind as ChangeKind
from .commands import Compacted as Compacted
from .commands import Compare as Compare
from .commands import CompareBy as CompareBy
from .commands import CompareHow as CompareHow
from .commands import Deleted as Deleted
from .commands import Found as Found
from .commands import HistoryCompacted as HistoryCompacted
from .commands import Incremented as Incremented
from .commands import LeaseLife as LeaseLife
from .commands import LeaseNotFound as LeaseNotFound
from .commands import LeaseRefused as LeaseRefused
from .commands import NotANumber as NotANumber
from .commands import Operation as Operation
from .commands import Page as Page
from .commands import Pair as Pair
from .commands import RequestTooLarge as RequestTooLarge
from .commands import Swapped as Swapped
from .commands import ValueTooLarge as ValueTooLarge
from .commands import Written as Written
from .leasing import KeptLease as KeptLease
from .leasing import Lease as Lease
from .leasing import LeaseLost as LeaseLost
from .requests import ERROR_TYPES as ERROR_TYPES
from .requests import ClusterClient as ClusterClient
from .stm import BlockingStm as BlockingStm
from .stm import Stm as Stm
from .transactions import Do as Do
from .transactions import If as If
from .transactions import StmConflict as StmConflict
from .transactions import TxnOutcome as TxnOutcome
from .turns import Elected as Elected
from .turns import KvGrant as KvGrant
from .turns import Leadership as Leadership
from .turns import Observed as Observed

if TYPE_CHECKING:
    from .blocking import BlockingKvClient as BlockingKvClient
    from .blocking import BlockingLeadership as BlockingLeadership
    from .blocking import BlockingRunner as BlockingRunner
    from .machine import KvMachine as KvMachine
else:
    # The machine is the server's: a client is not made to load it; nor what blocks.
    _HOMES = {
        **dict.fromkeys(("BlockingKvClient", "BlockingLeadership", "BlockingRunner"), "blocking"),
        "KvMachine": "machine",
    }

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})

    def __getattr__(name: str) -> object:
        """One of those, when it is first asked for (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_HOMES[name]}", __name__)
        return globals().setdefault(name, getattr(module, name))
