"""How a command reaches a cluster: the options that all of them share, and how they end.

A command is written as a function of a `ReachedCluster` and of its own options; `reaching` gives it
the shared ones. Whatever goes wrong is one line on standard error, and an exit code.
"""

from __future__ import annotations

import functools
import inspect
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar, get_type_hints

import attrs
import click

from ..client.client import Client
from ..core.errors import ConfigError, OutcomeUnknown, RaftError
from ..core.types import Address, NodeId
from ..kv import ERROR_TYPES
from .exits import EXIT_FAILURE, EXIT_NO, EXIT_UNKNOWN, EXIT_USAGE
from .files import read_small
from .running import run_client
from .saying import complain
from .signature import Argument, BadParameter, Exit, Option
from .values import parse_duration_s, parse_named_seed, parse_seed

ADDRESSES_VARIABLE: Final = "TRIORAFT_ADDRESSES"
_ADDRESS_FORM: Final = "[ID=]HOST:PORT"

TOKEN_VARIABLE: Final = "TRIORAFT_TOKEN"  # noqa: S105 - a variable's name

EXITS_HELP: Final = (
    "Exit code: 0 done, 1 failed, 2 a wrong option, 3 the answer is no, 4 not known whether it "
    "was done, 130 after Ctrl-C; 141 (nobody reads) or 74: it may be done, but what it says could "
    "not be written."
)

_TOKEN_FILE_CHARS_MAX: Final = 4096

P = ParamSpec("P")
T = TypeVar("T")


class SaidNo(Exception):  # noqa: N818 - an answer, not an error
    """The answer to the command is no; what there is to say was said."""


@attrs.frozen
class ReachedCluster:
    """The cluster that a command speaks to."""

    client: Client
    timeout_s: float
    """The user's patience with one answer, in seconds."""


def reaching(
    command: Callable[Concatenate[ReachedCluster, P], Awaitable[None]],
    *,
    by_arguments: bool = False,
    until_interrupted: bool = False,
    run: Callable[[Callable[[], Awaitable[None]]], None] = run_client,
) -> Callable[..., None]:
    """Give a command the shared options, and run it with an open client.

    Args:
        command: takes a `ReachedCluster` first; its errors become exits.
        by_arguments: the servers are named by the command's arguments instead of `--address`.
        until_interrupted: Ctrl-C is its usual end.
        run: runs it, in the event loop that it needs.
    """
    hints = get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(_reach).parameters.values())
    shared_hints = get_type_hints(_reach, include_extras=True)
    if by_arguments:
        shared_hints["address"] = _ADDRESS_ARGUMENTS

    @functools.wraps(command)
    def with_cluster(**options: Any) -> None:
        given = {each.name: options.pop(each.name) for each in shared}

        async def reach() -> None:
            cluster = _reach(**given)
            async with cluster.client:
                await command(cluster, **options)  # type: ignore[call-arg] # click gives its own

        try:
            run(reach)
        except KeyboardInterrupt:
            if not until_interrupted:
                raise
        except SaidNo:
            raise Exit(EXIT_NO) from None
        except ConfigError as error:
            _end(str(error), EXIT_USAGE)
        except OutcomeUnknown as error:
            _end(str(error), EXIT_UNKNOWN)
        except RaftError as error:
            _end(str(error), EXIT_FAILURE)

    parameters = [each.replace(annotation=hints[each.name]) for each in own]
    parameters += [each.replace(annotation=shared_hints[each.name]) for each in shared]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    with_cluster.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # may bear one
    with_cluster.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_cluster


def _told(name: str, help: str, *, metavar: str | None = None, default: bool = False) -> Any:
    return Option(
        f"--{name}",
        envvar=f"TRIORAFT_{name.replace('-', '_').upper()}",
        metavar=metavar,
        show_default=default,
        panel="The cluster",
        help=help,
    )


_FROM_ENVIRONMENT: Final = f"In the environment: {ADDRESSES_VARIABLE}, with commas."
_ADDRESS_ARGUMENTS: Final = Annotated[
    list[str] | None,
    Argument(
        envvar=ADDRESSES_VARIABLE,
        show_envvar=False,
        metavar=_ADDRESS_FORM,
        show_default=False,
        help=f"Servers' client ports. {_FROM_ENVIRONMENT}",
    ),
]


def _reach(
    address: Annotated[
        list[str] | None,
        Option(
            envvar=ADDRESSES_VARIABLE,
            show_envvar=False,
            metavar=_ADDRESS_FORM,
            show_default=False,
            panel="The cluster",
            help=f"A server's client port, or a name that leads to several, or srv+NAME; one that "
            f"answers is enough. {_FROM_ENVIRONMENT}",
        ),
    ] = None,
    cluster_id: Annotated[
        str, _told("cluster-id", "The cluster's name.", default=True)
    ] = "trioraft",
    timeout: Annotated[
        str, _told("timeout", "When to give up, as 500ms or 10s.", metavar="TIME", default=True)
    ] = "10s",
    ca: Annotated[
        str | None,
        _told(
            "ca", "For TLS: who must have signed the servers' certificates (PEM).", metavar="FILE"
        ),
    ] = None,
    cert: Annotated[
        str | None, _told("cert", "For TLS: our own certificate (PEM).", metavar="FILE")
    ] = None,
    key: Annotated[str | None, _told("key", "For TLS: its private key.", metavar="FILE")] = None,
    insecure: Annotated[bool, _told("insecure", "Allow plain TCP to other machines.")] = False,
    token_file: Annotated[
        str | None,
        _told(
            "token-file",
            f"Our token, for servers with roles. Or the token itself in {TOKEN_VARIABLE}.",
            metavar="FILE",
        ),
    ] = None,
) -> ReachedCluster:
    """What the shared options name.

    Raises:
        ConfigError: the addresses cannot be used like this.
    """
    # In the environment they are told apart by commas too, which click does not know.
    texts = [text for each in address or () for text in each.split(",") if text]
    names, addresses = _addresses(texts)
    timeout_s = parsed(parse_duration_s, timeout, "--timeout")
    client = Client(
        names or addresses,
        cluster_id=cluster_id,
        ssl_context=_tls(ca, cert, key),
        insecure=insecure,
        timeout_s=timeout_s,
        error_types=ERROR_TYPES,
        token=_token(token_file),
    )
    return ReachedCluster(client, timeout_s)


def parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    """The value of an option; the parser's complaint becomes click's."""
    try:
        return parse(text)
    except ValueError as error:
        raise _wrong(option, f"{text!r}: {error}") from None


def _wrong(option: str, message: str) -> BadParameter:
    return BadParameter(message, param_hint=f"'{option}'")


def _address_hint() -> str:
    """How the running command is told its addresses: by an option, or by what stands behind it."""
    context = click.get_current_context(silent=True)
    params = [] if context is None else context.command.params
    named = (param for param in params if param.name == "address")
    if any(isinstance(param, click.Argument) for param in named):
        return _ADDRESS_FORM
    return "--address"


def _addresses(texts: Sequence[str]) -> tuple[dict[NodeId, Address], tuple[Address, ...]]:
    option = _address_hint()
    names: dict[NodeId, Address] = {}
    addresses: list[Address] = []
    for text in texts:
        if "=" in text:
            name, where = parsed(parse_named_seed, text, option)
            names[name] = where
        else:
            where = parsed(parse_seed, text, option)
        addresses.append(where)
    if not addresses:
        raise _wrong(option, f"name at least one server's client port, or set {ADDRESSES_VARIABLE}")
    if names and len(names) != len(addresses):
        raise _wrong(option, "give an id for every address, or for none")
    return names, tuple(addresses)


def _tls(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if ca is None:
        if cert is not None or key is not None:
            raise _wrong("--cert", "TLS needs --ca as well")
        return None
    for name, path in (("ca", ca), ("cert", cert), ("key", key)):
        if path is not None:
            _check_readable(name, path)
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise BadParameter(
            f"the certificates cannot be used: {error}", param_hint="'--ca', '--cert', '--key'"
        ) from None
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        read_small(Path(path), wants_file=True)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise _wrong(f"--{name}", f"{path!r} cannot be read: {said}") from None


def _token(path: str | None) -> str | None:
    """The token, from a file or the environment; never from the command line, which everybody on
    the machine can read."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read(_TOKEN_FILE_CHARS_MAX).strip()
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise _wrong("--token-file", f"{path!r} cannot be read: {said}") from None
    if not token:
        raise _wrong("--token-file", f"{path!r} is empty: put the token there")
    return token


def _end(message: str, code: int) -> NoReturn:
    complain(f"trioraft: {message}")
    raise Exit(code)
