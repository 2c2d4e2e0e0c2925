"""The commands, and what surrounds every one of them.

Rules of this file:

* Importing it costs nothing and needs nothing beyond the standard library: click and rich are
  an extra, and who has not got them is told so in one line.
* A command's modules are imported only when it is called: the help of all of them needs none.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

from .exits import EXIT_FAILURE, exiting, quit_as_init, quit_at_ctrl_c
from .saying import complain, flush, open_streams

if TYPE_CHECKING:
    import click

COMMANDS: Final = {
    "cluster": ("cluster.command", "Start members of a development cluster, on this machine."),
    "demo": (
        "demo.command",
        "Watch nodes elect a leader, lose it, elect another, and die without a trace.",
    ),
    "serve": ("serve.command", "Serve keys and values as one member of a cluster."),
    "kv": ("kv", "Read and write the keys and values that `trioraft serve` keeps."),
    "admin": ("admin", "Look at a cluster that runs, and change it."),
    "watch": ("watch.command", "Watch a running cluster: who leads, since when and why."),
    "dashboard": ("dashboard", "Show a running cluster in the browser: who leads, lag, links."),
    "viz": ("viz", "Show what happened in a log: a picture of each run, and what was wrong."),
    "backup": ("backup", "Write a backup of a cluster that runs."),
    "restore": ("restore", "Make the disks of a new cluster out of a backup."),
    "inspect": (
        "inspect",
        "Look into a stopped node's directory, or a backup file, and change nothing.",
    ),
    "recover": ("recover", "Make a stopped node go on alone when the others are lost for good."),
    "certs": ("certs.command", "Make the certificates of a small cluster, and renew them."),
    "sim": (
        "sim",
        "Run whole clusters in a deterministic simulation, through everything that goes wrong.",
    ),
    "completion": ("completion", "Have a shell complete commands and options."),
}
"""In the order of the help: the module of each, with its `command()`, and what it does."""
_EXTRA: Final = frozenset({"click", "rich", "jinja2"})
"""What `trioraft[cli]` brings."""


def main(surroundings: object = None) -> None:
    """Run the command that the command line names, and exit with its code.

    Args:
        surroundings: what a server is started in, for who starts it in its own process; see
            `serve.run.Surroundings`. No command line can say it.
    """
    quit_at_ctrl_c()
    quit_as_init()
    try:
        with exiting("trioraft"):
            open_streams()
            try:
                application().main(obj=surroundings)
            finally:
                flush()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        complain(
            f"trioraft: the commands need {error.name}; install it with: "
            "pip install 'trioraft[cli]'"
        )
        sys.exit(EXIT_FAILURE)
    finally:  # what is left to do is the interpreter's, and takes no Ctrl-C kindly
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def application() -> click.Group:
    """All commands."""
    from .groups import Application

    return Application(COMMANDS)
