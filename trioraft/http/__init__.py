"""HTTP beside a node: probes, metrics, and routes of your own."""

from ..node.figures import Figures as Figures
from ..node.meter import Distribution as Distribution
from ..node.meter import Meter as Meter
from .limits import HttpLimits as HttpLimits
from .port import HttpPort as HttpPort
from .port import Serving as Serving
from .port import serve as serve
from .reach import LoopSilent as LoopSilent
from .reach import NodeReach as NodeReach
from .reach import View as View
