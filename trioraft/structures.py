"""Ready-made replicated objects: counters, collections, queues, locks and their kin."""

from .coordination.line import LineFull as LineFull
from .coordination.lock import Lease as Lease
from .coordination.lock import Lock as Lock
from .coordination.presence import Grant as Grant
from .coordination.presence import LockLost as LockLost
from .coordination.queue import PriorityQueue as PriorityQueue
from .coordination.queue import Queue as Queue
from .coordination.queue import QueueFull as QueueFull
from .coordination.queue import Taken as Taken
from .machines.structures import Counter as Counter
from .machines.structures import Dict as Dict
from .machines.structures import Set as Set
