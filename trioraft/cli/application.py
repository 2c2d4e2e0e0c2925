"""The commands, and what surrounds every one of them.

Rules of this file:

* Importing it costs nothing and needs nothing beyond the standard library: typer and rich are
  an extra, and who has not got them is told so in one line.
* Every way to end has its exit code, in `exits`.
* No future annotations here: typer reads the annotations of functions whose names are local.
"""

import importlib.metadata
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

from .exits import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    silence_stdout,
)

if TYPE_CHECKING:
    import typer

_EXTRA: Final = frozenset({"typer", "rich", "click", "jinja2", "shellingham"})
"""What `trioraft[cli]` brings."""


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    try:
        _application(sys.argv[1] if len(sys.argv) > 1 else None)()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(
            f"trioraft: the commands need {error.name}; install it with: "
            "pip install 'trioraft[cli]'",
            file=sys.stderr,
        )
        sys.exit(EXIT_FAILURE)
    except KeyboardInterrupt:  # before or after what handles it better
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        silence_stdout()
        sys.exit(EXIT_BROKEN_PIPE)
    except OSError as error:  # a full disk under standard output, a port in use, …
        print(f"trioraft: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILURE)


def _version() -> str:
    try:
        return importlib.metadata.version("trioraft")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


# One function a command, so that a command's own modules are imported only if it is called.


def _add_demo(app: "typer.Typer") -> None:
    from .demo import command as demo

    app.command("demo", help=demo.HELP)(demo.demo)


def _add_serve(app: "typer.Typer") -> None:
    from .serve import command as serve

    app.command("serve", help=serve.HELP)(serve.make_command())


def _add_kv(app: "typer.Typer") -> None:
    from . import kv as kv

    app.add_typer(kv.app, name="kv")


def _add_admin(app: "typer.Typer") -> None:
    from .admin import command as admin

    app.add_typer(admin.app, name="admin")


def _add_watch(app: "typer.Typer") -> None:
    from .watch import command as watch

    app.command("watch", help=watch.HELP)(watch.watch)


def _add_viz(app: "typer.Typer") -> None:
    from . import viz as viz

    app.command("viz", help=viz.HELP)(viz.viz)


def _add_recover(app: "typer.Typer") -> None:
    from .recover import command as recover

    app.command("recover", help=recover.HELP)(recover.recover)


def _add_sim(app: "typer.Typer") -> None:
    from . import sim as sim

    app.command("sim", help=sim.HELP)(sim.sim)


_COMMANDS: "Final[dict[str, Callable[[typer.Typer], None]]]" = {
    "demo": _add_demo,
    "serve": _add_serve,
    "kv": _add_kv,
    "admin": _add_admin,
    "watch": _add_watch,
    "viz": _add_viz,
    "recover": _add_recover,
    "sim": _add_sim,
}
"""In the order of the help."""


def _application(called: str | None) -> "typer.Typer":
    """The commands: the one that is called, or all of them, for the help and for mistakes."""
    import typer

    app = typer.Typer(
        name="trioraft",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"trioraft {_version()}")
            raise typer.Exit

    @app.callback()
    def trioraft(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=print_version,
                is_eager=True,
                help="Show the version and exit.",
            ),
        ] = False,
    ) -> None:
        """Raft consensus for Trio. To see it at work: trioraft demo"""

    for name, add in _COMMANDS.items():
        if called not in _COMMANDS or name == called:
            add(app)
    return app
