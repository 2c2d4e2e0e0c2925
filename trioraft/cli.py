"""The commands: `trioraft demo`, and what surrounds every command.

Rules of this file:

* Importing it costs nothing and needs nothing beyond the standard library: typer and rich are
  an extra, and who has not got them is told so in one line.
* Every way to end has its exit code, in `exits`.
* No future annotations here: typer reads the annotations of functions whose names are local.
"""

import importlib.metadata
import sys
from typing import TYPE_CHECKING, Annotated, Final

from .exits import EXIT_BROKEN_PIPE, EXIT_FAILURE, EXIT_INTERRUPTED, silence_stdout

if TYPE_CHECKING:
    import typer

_EXTRA: Final = frozenset({"typer", "rich", "click", "jinja2", "shellingham"})
"""What `trioraft[cli]` brings."""


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    try:
        _application()()
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


def _application() -> "typer.Typer":
    import typer

    from .demo import command as demo

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

    app.command("demo", help=demo.HELP)(demo.demo)
    return app
