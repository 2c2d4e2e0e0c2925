"""The leak check: nothing that a piece of Trio code starts may outlive it.

check           no_leaks: what is compared before and after
tasks, threads, channels, descriptors, generators, roles
                one kind of leak each
sites           where something was spawned, and what it waits for
taps            hearing of what is opened, while a scope is open
trio_internals  every private name of Trio that is used, with its canary
report          what a leak is, and how it is told
"""

from .check import no_leaks as no_leaks
from .report import Leak as Leak
from .report import LeakError as LeakError
from .report import LeakKind as LeakKind
from .roles import check_roles as check_roles
