"""The commands, run in this process: a process of its own would cost each a part of a second."""

from __future__ import annotations

from collections.abc import Mapping

from click.testing import CliRunner, Result

from trioraft.cli.application import application


def run(
    *arguments: str, input: str | bytes | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """What `trioraft ARGUMENTS` does; nothing of this environment's TRIORAFT_… is seen."""
    clean = {
        "TRIORAFT_TOKEN": None,
        "TRIORAFT_ADDRESSES": None,
        "TRIORAFT_CLUSTER_ID": None,
        "TRIORAFT_INSECURE": None,
    }
    result = CliRunner().invoke(
        application(), list(arguments), input=input, env={**clean, **(env or {})}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(result: Result) -> list[str]:
    """Its standard output, line by line; it succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()
