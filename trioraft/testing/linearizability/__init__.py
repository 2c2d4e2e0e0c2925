"""Is what the clients saw possible if every operation happened at once, at one moment between its
call and its answer? (Herlihy and Wing, 1990; the search is Wing and Gong's with Lowe's memory.)

Everything public is here; modules may be rearranged at will.
"""

from .checker import Illegal as Illegal
from .checker import LinearizabilityResult as LinearizabilityResult
from .checker import Linearizable as Linearizable
from .checker import NotLinearizable as NotLinearizable
from .checker import Prefix as Prefix
from .checker import Refusal as Refusal
from .checker import Unknown as Unknown
from .checker import check_linearizable as check_linearizable
from .files import load_history as load_history
from .files import save_history as save_history
from .history import History as History
from .history import HistoryError as HistoryError
from .history import OpenOperation as OpenOperation
from .history import Operation as Operation
from .history import OperationOutcome as OperationOutcome
from .history import Token as Token
from .models import MODELS as MODELS
from .models import Counter as Counter
from .models import Election as Election
from .models import KeyValue as KeyValue
from .models import Lock as Lock
from .models import Model as Model
from .models import Queue as Queue
from .models import Register as Register
from .models import Semaphore as Semaphore
