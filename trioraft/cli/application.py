"""The commands, and what surrounds every one of them.

Rules of this file:

* Importing it costs nothing and needs nothing beyond the standard library: typer and rich are
  an extra, and who has not got them is told so in one line.
* No future annotations here: typer reads the annotations of functions whose names are local.
"""

import importlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Annotated, Final

from .exits import EXIT_FAILURE, exiting
from .saying import complain

if TYPE_CHECKING:
    import typer

_COMMANDS: Final = {
    "demo": "demo.command",
    "serve": "serve.command",
    "kv": "kv",
    "admin": "admin",
    "watch": "watch.command",
    "viz": "viz",
    "recover": "recover",
    "certs": "certs.command",
    "sim": "sim",
}
"""In the order of the help: whose `add_to` adds each. A command's modules are imported only when
it is called."""
_EXTRA: Final = frozenset({"typer", "rich", "click", "jinja2", "shellingham"})
"""What `trioraft[cli]` brings."""


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    try:
        with exiting("trioraft"):
            _application(sys.argv[1] if len(sys.argv) > 1 else None)()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        complain(
            f"trioraft: the commands need {error.name}; install it with: "
            "pip install 'trioraft[cli]'"
        )
        sys.exit(EXIT_FAILURE)


def _version() -> str:
    try:
        return importlib.metadata.version("trioraft")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


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

    for name, module in _COMMANDS.items():
        if called not in _COMMANDS or name == called:
            importlib.import_module(f".{module}", __package__).add_to(app)
    return app
