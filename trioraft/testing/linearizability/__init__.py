"""Is what the clients saw possible if every operation happened at once, at one moment between its
call and its answer? (Herlihy and Wing, 1990; the search is Wing and Gong's with Lowe's memory.)

Everything public is here; modules may be rearranged at will.
"""

from .checker import check_linearizable as check_linearizable
from .files import load_history as load_history
from .files import save_history as save_history
from .history import History as History
from .history import OpenOperation as OpenOperation
from .key_value import KeyValue as KeyValue
from .model import Model as Model
from .models import MODELS as MODELS
from .models import Counter as Counter
from .models import Lock as Lock
from .models import Queue as Queue
from .operation import HistoryError as HistoryError
from .operation import Operation as Operation
from .operation import OperationOutcome as OperationOutcome
from .operation import Token as Token
from .register import Register as Register
from .result import Illegal as Illegal
from .result import LinearizabilityResult as LinearizabilityResult
from .result import Linearizable as Linearizable
from .result import NotLinearizable as NotLinearizable
from .result import Prefix as Prefix
from .result import Refusal as Refusal
from .result import Unknown as Unknown
