"""Tokens on the command line: made offline, given by file or environment, never as an option."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import click
import pytest

from tests.serve.commands import run
from trioraft.cli.connecting import TOKEN_VARIABLE, _token
from trioraft.service.roles import ClientRole, Credentials, Roles


@pytest.mark.parametrize("name", ["ci", "build server", "a.b", "tests/é"])
def test_a_new_token_comes_with_the_section_that_knows_it(name: str, tmp_path: Path) -> None:
    result = run("admin", "new-token", name, "--role", "write")
    assert result.exit_code == 0, result.output
    token, _, section = result.stdout.partition("\n\n")
    assert tomllib.loads(section) == {
        "tokens": {
            name: {"sha256": hashlib.sha256(token.encode()).hexdigest(), "role": "write"},
        }
    }
    path = tmp_path / "roles.toml"
    path.write_text(section, encoding="utf-8")
    permission = Roles(path).permission_of(Credentials.of((), token))
    assert permission.grant.role is ClientRole.WRITE
    assert run("admin", "new-token", name).stdout.partition("\n")[0] != token


@pytest.mark.parametrize(
    "arguments", [('a"b',), ("a\\b",), ("a\nb",), ("",), ("ci", "--role", "x")]
)
def test_what_is_no_name_or_role_is_refused(arguments: tuple[str, ...]) -> None:
    assert run("admin", "new-token", *arguments).exit_code == 2


def test_a_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert _token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment\n")
    assert _token(None) == "from-the-environment"
    path = tmp_path / "token"
    path.write_text("from-a-file\n", encoding="utf-8")
    assert _token(str(path)) == "from-a-file"
    path.write_text("\n", encoding="utf-8")
    for name in (str(path), str(tmp_path / "none")):
        with pytest.raises(click.BadParameter):
            _token(name)
