"""Nothing that a piece of Trio code starts may outlive it: a leak checker for any Trio project.

plugin, session      pytest: options and what they cost when off; every Trio run of a session
scope, watching      no_leaks: one block of code; watch: growth in a program that runs
tasks, generators, channels, limiters
                     what lives in a Trio run, a kind each
threads, descriptors, processes, handlers, directories, hosts
                     what lives in the process, a kind each
recorder             all kinds together, while something is watched
stuck                tasks that cannot be cancelled: told, and put out
sites                where a thing was started, in the project's own line
taps                 hearing of what is opened, while somebody listens
allowed, baseline, summary, report
                     what may stay, what was there before, and how it is told
privates             every private name of Trio that is used, with its canary

Everything public is here. It is loaded when it is first asked for: pytest imports this package at
every start, for every project, also for those that do not want it today.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checks import Check as Check
    from .checks import describe_task as describe_task
    from .checks import is_cancelled as is_cancelled
    from .checks import started_at as started_at
    from .checks import walk_tasks as walk_tasks
    from .report import KINDS as KINDS
    from .report import Leak as Leak
    from .report import LeakError as LeakError
    from .report import LeakKind as LeakKind
    from .scope import no_leaks as no_leaks
    from .watching import Growth as Growth
    from .watching import watch as watch

_HOMES = {
    "Check": "checks",
    "Growth": "watching",
    "KINDS": "report",
    "Leak": "report",
    "LeakError": "report",
    "LeakKind": "report",
    "describe_task": "checks",
    "is_cancelled": "checks",
    "no_leaks": "scope",
    "started_at": "checks",
    "walk_tasks": "checks",
    "watch": "watching",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
