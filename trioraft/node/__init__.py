"""One member as a Trio program: `open_node`, and the nursery that runs the member.

Import from `trioraft`; the modules here may be rearranged at will.
"""

from .node import Node as Node
from .node import open_node as open_node
