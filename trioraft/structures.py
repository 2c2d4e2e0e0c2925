"""Ready-made replicated objects: counters, collections, queues, locks and their kin."""

from .coordination.barrier import Barrier as Barrier
from .coordination.election import Election as Election
from .coordination.election import Leader as Leader
from .coordination.line import LineFull as LineFull
from .coordination.lock import Lease as Lease
from .coordination.lock import Lock as Lock
from .coordination.presence import Grant as Grant
from .coordination.presence import LockLost as LockLost
from .coordination.queue import PriorityQueue as PriorityQueue
from .coordination.queue import Queue as Queue
from .coordination.queue import QueueFull as QueueFull
from .coordination.queue import Taken as Taken
from .coordination.rate_limiter import RateExceeded as RateExceeded
from .coordination.rate_limiter import RateLimiter as RateLimiter
from .coordination.semaphore import Permit as Permit
from .coordination.semaphore import Semaphore as Semaphore
from .machines.structures import Counter as Counter
from .machines.structures import Dict as Dict
from .machines.structures import List as List
from .machines.structures import ListFull as ListFull
from .machines.structures import Set as Set
