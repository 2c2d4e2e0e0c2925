"""The commands, one file or folder each; the only place that chooses implementations.

Rules of this package: a command's modules are imported only when it is called, and nothing imports
this package.
"""

from .application import main as main
