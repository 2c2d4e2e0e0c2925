"""`trioraft serve` as a command: options from the table, problems all at once, exit codes.

click checks nothing: every value comes as text, so that all that is wrong is told together.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final

import click
import trio

from ...core.errors import RaftError
from ...logs import loggers as logs
from ..exits import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE
from ..saying import complain
from ..signature import Exit, Option, command_of
from .options import CONFIG_FLAG, OPTIONS
from .options import Option as Setting
from .preflight import look_around, prepare
from .run import NotStarted, Surroundings, run_server
from .settings import Flags, SettingsReader, gather

HELP: Final = """\
Serve keys and values as one member of a cluster.

Start one on each machine (three, five or seven), all with the same nodes in --peer. Then use \
trioraft kv and trioraft admin, or trioraft.kv.KvClient.

Every option can also be set in the environment, as TRIORAFT_CLIENT_LISTEN for --client-listen \
(TRIORAFT_PEERS, with commas, for --peer), or in a TOML file, as client-listen = "127.0.0.1:8000". \
The command line wins over the environment, the environment over the file.

Example:  trioraft serve --id 0 --listen 127.0.0.1:7000 --client-listen 127.0.0.1:8000 \
--peer 1=127.0.0.1:7001 --peer 2=127.0.0.1:7002 --data node-0 --create-data

SIGTERM or SIGINT: transfer the leadership, and leave. A second one: leave at once. SIGHUP: read \
the certificates again now; they are read anyway when their files change.

Exit code: 0 left after a signal, 1 failed while it served, 2 did not start: what is wrong with \
the options, files or ports is said in one line each.
"""


def command() -> click.Command:
    """The command."""

    def serve(**flags: Any) -> None:
        named = {name.replace("_", "-"): value for name, value in flags.items()}
        with _hangups_ignored():
            code = _serve(named, click.get_current_context().find_root().obj)
        raise Exit(code)

    parameters = [_config_parameter(), *(_parameter(option) for option in OPTIONS.values())]
    signature = inspect.Signature(parameters)
    serve.__signature__ = signature  # type: ignore[attr-defined] # functions may bear one
    serve.__annotations__ = {each.name: each.annotation for each in parameters}
    return command_of(serve, "serve", HELP)


def _config_parameter() -> inspect.Parameter:
    told = Option(
        CONFIG_FLAG, metavar="FILE", show_default=False, help="A TOML file with further settings."
    )
    return _named("config", Annotated[str | None, told], None)


def _parameter(option: Setting) -> inspect.Parameter:
    default = f" Default: {option.default}." if option.default and option.kind == "one" else ""
    told = Option(
        option.flag,
        metavar=option.metavar or None,
        show_default=False,
        help=option.help + default,
        panel=option.group,
    )
    if option.kind == "flag":
        return _named(option.field, Annotated[bool, told], False)
    if option.kind == "many":
        return _named(option.field, Annotated[list[str] | None, told], None)
    return _named(option.field, Annotated[str | None, told], None)


def _named(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


@contextmanager
def _hangups_ignored() -> Iterator[None]:
    """What SIGHUP asks for, reading the certificates, is about to be done anyway: it does not end a
    server that does not watch for it yet, or has left."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _serve(flags: Flags, surroundings: Surroundings | None = None) -> int:
    problems: list[str] = []
    reader = SettingsReader(gather(flags, os.environ, problems), problems)
    settings = reader.settings()
    if settings is None:
        look_around(reader.values, problems)
    ready = None if settings is None else prepare(settings, problems)
    if settings is None or ready is None:
        for problem in problems:
            _complain(problem)
        return EXIT_USAGE
    logger = logs.configure(settings.log_format, level=settings.log_level)
    try:
        trio.run(partial(run_server, settings, ready, logger, surroundings))
    except NotStarted as error:
        _complain(str(error))
        return EXIT_USAGE
    except (RaftError, OSError) as error:
        _complain(str(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:  # before the server itself watches for it
        return EXIT_INTERRUPTED
    finally:
        ready.transport.close()
    return 0


def _complain(problem: str) -> None:
    complain(f"trioraft serve: {problem}")
