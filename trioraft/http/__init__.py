"""HTTP beside a node: probes, metrics, and routes of your own."""

from .limits import HttpLimits as HttpLimits
from .port import HttpPort as HttpPort
from .port import Serving as Serving
from .port import serve as serve
