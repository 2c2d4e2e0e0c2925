"""How a command reaches a cluster: the options that all of them share, and how they end.

Rules of this file:

* A command is written as a function of a `ClusterOptions` and of its own options; `reaching` gives
  it the shared ones. Each of those can be set in the environment as well.
* Whatever goes wrong is one line on standard error, and an exit code: 1 failed, 2 a mistake in the
  command line, 3 the answer is no, 4 not known whether it happened.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar, get_type_hints

import attrs
import trio
import typer

from ...client.client import Client
from ...core.errors import ConfigError, OutcomeUnknown, RaftError
from ...core.types import Address, NodeId
from ...kv import ERROR_TYPES
from ..exits import EXIT_FAILURE
from ..serve.values import parse_address, parse_duration_s, parse_peer

EXIT_USAGE: Final = 2
EXIT_NO: Final = 3
"""There is no such key, or it is not as expected."""
EXIT_UNKNOWN: Final = 4
"""It may or may not have happened."""

ADDRESSES_VARIABLE: Final = "TRIORAFT_ADDRESSES"
_GROUP: Final = "The cluster"

EXITS_HELP: Final = (
    "Exit code: 0 done, 1 failed, 2 a wrong option, 3 the answer is no, 4 not known whether it "
    "was done."
)

P = ParamSpec("P")
T = TypeVar("T")


class SaidNo(Exception):  # noqa: N818 - an answer, not an error
    """The answer to the command is no; what there is to say was said."""


@attrs.frozen
class ClusterOptions:
    """Where the cluster is, and how to talk to it."""

    addresses: tuple[Address, ...]
    names: Mapping[NodeId, Address]
    """The same by node id, if ids were given."""
    cluster_id: str
    timeout_s: float
    tls: ssl.SSLContext | None
    insecure: bool

    def client(self) -> Client:
        """A client, to be opened.

        Raises:
            ConfigError: the addresses cannot be used like this.
        """
        return Client(
            self.names or self.addresses,
            cluster_id=self.cluster_id,
            ssl_context=self.tls,
            insecure=self.insecure,
            timeout_s=self.timeout_s,
            error_types=ERROR_TYPES,
        )

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with an open client; errors become exits of the command."""

        async def with_client() -> T:
            async with self.client() as client:
                return await work(client)

        try:
            return trio.run(with_client)
        except SaidNo:
            raise typer.Exit(EXIT_NO) from None
        except ConfigError as error:
            _end(str(error), EXIT_USAGE)
        except OutcomeUnknown as error:
            _end(str(error), EXIT_UNKNOWN)
        except RaftError as error:
            _end(str(error), EXIT_FAILURE)


def reaching(
    command: Callable[Concatenate[ClusterOptions, P], None], *, by_arguments: bool = False
) -> Callable[..., None]:
    """Give a command the shared options.

    Args:
        command: takes a `ClusterOptions` first.
        by_arguments: the servers are named by the command's arguments instead of `--address`.
    """
    hints = get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(_reach).parameters.values())
    shared_hints = get_type_hints(_reach, include_extras=True)
    if by_arguments:
        shared_hints["address"] = _ADDRESS_ARGUMENTS

    @functools.wraps(command)
    def with_reach(**options: Any) -> None:
        given = {each.name: options.pop(each.name) for each in shared}
        command(_reach(**given), **options)  # type: ignore[call-arg] # typer gives its own options

    parameters = [each.replace(annotation=hints[each.name]) for each in own]
    parameters += [each.replace(annotation=shared_hints[each.name]) for each in shared]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    with_reach.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # may bear one
    with_reach.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_reach


_ADDRESS_ARGUMENTS: Final = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID=]HOST:PORT",
        show_default=False,
        help=f"Servers' client ports. In the environment: {ADDRESSES_VARIABLE}, with commas.",
    ),
]


def _reach(
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ID=]HOST:PORT",
            show_default=False,
            rich_help_panel=_GROUP,
            help="A server's client port; once for each that is known. In the environment: "
            f"{ADDRESSES_VARIABLE}, with commas.",
        ),
    ] = None,
    cluster_id: Annotated[
        str,
        typer.Option(
            envvar="TRIORAFT_CLUSTER_ID", rich_help_panel=_GROUP, help="The cluster's name."
        ),
    ] = "trioraft",
    timeout: Annotated[
        str,
        typer.Option(
            envvar="TRIORAFT_TIMEOUT", metavar="TIME", rich_help_panel=_GROUP,
            help="When to give up, as 500ms or 10s.",
        ),
    ] = "10s",
    ca: Annotated[
        str | None,
        typer.Option(
            envvar="TRIORAFT_CA", metavar="FILE", show_default=False, rich_help_panel=_GROUP,
            help="For TLS: who must have signed the servers' certificates (PEM).",
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(
            envvar="TRIORAFT_CERT", metavar="FILE", show_default=False, rich_help_panel=_GROUP,
            help="For TLS: our own certificate (PEM).",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", envvar="TRIORAFT_KEY", metavar="FILE", show_default=False,
            rich_help_panel=_GROUP, help="For TLS: its private key.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", envvar="TRIORAFT_INSECURE", rich_help_panel=_GROUP,
            help="Allow plain TCP to other machines.",
        ),
    ] = False,
) -> ClusterOptions:  # fmt: skip
    """Make a `ClusterOptions` of the shared options."""
    names, addresses = _addresses(address or _split(os.environ.get(ADDRESSES_VARIABLE, "")))
    try:
        timeout_s = parse_duration_s(timeout)
    except ValueError as error:
        raise typer.BadParameter(f"{timeout!r}: {error}", param_hint="'--timeout'") from None
    return ClusterOptions(addresses, names, cluster_id, timeout_s, _tls(ca, cert, key), insecure)


def _addresses(texts: Sequence[str]) -> tuple[dict[NodeId, Address], tuple[Address, ...]]:
    names: dict[NodeId, Address] = {}
    addresses: list[Address] = []
    for text in texts:
        try:
            if "=" in text:
                name, where = parse_peer(text)
                names[name] = where
            else:
                where = parse_address(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r}: {error}", param_hint="'--address'") from None
        addresses.append(where)
    if not addresses:
        raise typer.BadParameter(
            f"name at least one server's client port, or set {ADDRESSES_VARIABLE}",
            param_hint="'--address'",
        )
    if names and len(names) != len(addresses):
        raise typer.BadParameter(
            "give an id for every address, or for none", param_hint="'--address'"
        )
    return names, tuple(addresses)


def _tls(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if ca is None:
        if cert is not None or key is not None:
            raise typer.BadParameter("TLS needs --ca as well", param_hint="'--cert'")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise typer.BadParameter(
            f"the certificates cannot be used: {error}", param_hint="'--ca', '--cert', '--key'"
        ) from None
    return context


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text) if part]


def _end(message: str, code: int) -> NoReturn:
    print(f"trioraft: {message}", file=sys.stderr)
    raise typer.Exit(code)
