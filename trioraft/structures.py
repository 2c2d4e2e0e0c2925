"""Ready-made replicated objects: counters, dictionaries, sets, queues, locks."""

from .machines.structures import Counter as Counter
from .machines.structures import Dict as Dict
from .machines.structures import Lease as Lease
from .machines.structures import Lock as Lock
from .machines.structures import LockLost as LockLost
from .machines.structures import Queue as Queue
from .machines.structures import QueueFull as QueueFull
from .machines.structures import Set as Set
