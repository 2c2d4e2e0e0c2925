"""The commands from outside: options, messages, exit codes, and a missing extra.

Rules of this file: a process of its own costs half a second; where it is not the subject, the
command runs in this one. Nothing that takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import Result

from tests.serve import commands
from trioraft.cli.application import COMMANDS, application
from trioraft.cli.exits import EXIT_FAILURE, exiting

PLAIN_ENVIRONMENT = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "error::ResourceWarning"}


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trioraft", *arguments],
        cwd=cwd,
        env={**os.environ, **PLAIN_ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stub(directory: Path, module: str, text: str) -> str:
    """Make a module that stands in for an installed one; returns the PYTHONPATH to find it by."""
    (directory / f"{module}.py").write_text(text, encoding="utf-8")
    return os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))


def words(text: str) -> str:
    """The text without the frames and line ends that a terminal's width puts into it."""
    return " ".join(text.replace("│", " ").split())


def run_here(*arguments: str) -> Result:
    """The same in this process."""
    return commands.run(*arguments, env=PLAIN_ENVIRONMENT)


def test_help_names_the_commands() -> None:
    result = run_here("--help")
    assert result.exit_code == 0
    assert "demo" in result.stdout
    assert "--version" in result.stdout


def test_no_command_shows_the_help() -> None:
    result = run()
    assert "Usage" in result.stdout + result.stderr
    assert "demo" in result.stdout + result.stderr


def test_version() -> None:
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("trioraft ")


def test_help_of_demo_has_an_example_and_the_exit_codes() -> None:
    result = run_here("demo", "--help")
    assert result.exit_code == 0
    text = words(result.stdout)
    assert "Example: trioraft demo --nodes 5 --seed 42 --log five.raftlog" in text
    assert "1 a leak or a failure, 2 a wrong option" in text
    for option in ("--nodes", "--seed", "--log", "--log-format"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["demo", "--nodes", "0"], "--nodes"),
        (["demo", "--nodes", "10"], "--nodes"),
        (["demo", "--nodes", "three"], "--nodes"),
        (["demo", "--seed", "x"], "--seed"),
        (["demo", "--log-format", "xml"], "--log-format"),
        (["demo", "--colour"], "--colour"),
        (["dema"], "dema"),
    ],
)
def test_a_wrong_option_is_named_and_is_exit_code_2(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_here(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("log", ["missing/demo.raftlog", "."])
def test_a_log_that_cannot_be_written_is_said_before_anything_starts(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_here("demo", "--log", log)
    assert result.exit_code == 2
    assert f"cannot write '{log}'" in words(result.stderr)
    assert "--log" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing: str, tmp_path: Path) -> None:
    text = f"raise ModuleNotFoundError('there is no {missing}', name={missing!r})\n"
    result = run("demo", PYTHONPATH=stub(tmp_path, missing, text), cwd=tmp_path)
    assert result.returncode == 1
    assert "pip install 'trioraft[cli]'" in result.stderr
    assert missing in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_another_missing_module_is_not_taken_for_the_extra(tmp_path: Path) -> None:
    path = stub(tmp_path, "click", "import a_module_that_nobody_has\n")
    result = run("demo", PYTHONPATH=path, cwd=tmp_path)
    assert result.returncode != 0
    assert "ModuleNotFoundError" in result.stderr
    assert "trioraft[cli]" not in result.stderr


def test_importing_the_entry_point_needs_nothing_of_the_extra(tmp_path: Path) -> None:
    path = ""
    for module in ("click", "rich", "jinja2"):
        path = stub(tmp_path, module, f"raise ModuleNotFoundError(name={module!r})\n")
    result = subprocess.run(
        [sys.executable, "-c", "import trioraft.cli"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def leaves(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        assert below is not None
        if isinstance(below, click.Group):
            yield from leaves(below, (*above, name))
        else:
            yield (*above, name)


LEAVES = list(leaves(application()))


def test_a_command_is_listed_with_what_its_help_begins_with() -> None:
    group = application()
    for name, (_, what) in COMMANDS.items():
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert command.help is not None
        begins, said = (text.partition(".")[0].partition(":")[0] for text in (command.help, what))
        assert begins == said


@pytest.mark.parametrize("leaf", LEAVES, ids=" ".join)
def test_every_command_has_help_and_refuses_what_it_does_not_know(leaf: tuple[str, ...]) -> None:
    helped = run_here(*leaf, "--help")
    assert helped.exit_code == 0
    assert helped.stdout.startswith(f"Usage: trioraft {' '.join(leaf)} ")
    wrong = run_here(*leaf, "--there-is-no-such-option")
    assert wrong.exit_code == 2
    assert "--there-is-no-such-option" in wrong.stderr
    assert wrong.stdout == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["kv", "put", "n", "-x"], "trioraft kv put n -- -x"),
        (["kv", "put", "n", "-5", "--json"], "trioraft kv put n -- -5"),
        (["kv", "append", "-n", "5"], "trioraft kv append -- -n 5"),
        (["kv", "range", "-x"], "trioraft kv range -- -x"),
        (["admin", "remove", "-1"], "trioraft admin remove -- -1"),
    ],
)
def test_a_value_that_begins_with_a_hyphen_is_told_how(typed: list[str], meant: str) -> None:
    result = run_here(*typed)
    assert result.exit_code == 2
    assert f"as in: {meant}\n" in result.stderr


# -- what a command costs --------------------------------------------------------------------

HEAVY = (
    *("trio", "structlog", "rich", "jinja2", "cryptography", "sqlite3", "pydantic"),
    *("typer", "argparse", "importlib.metadata", "trioraft.core.raft", "trioraft.node.node"),
    *("trioraft.service.port", "trioraft.storage.sqlite", "trioraft.kv.machine"),
)
"""What a command that asks a cluster has no use for."""
MODULES_MAX: Final = 330
"""Of all kinds: a fifth of a second on the machine where they were counted, 280 of them."""


def modules_of(*arguments: str) -> set[str]:
    """What the command imports, until it has found no server."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trioraft", *arguments],
        env={**os.environ, **PLAIN_ENVIRONMENT, "TRIORAFT_TIMEOUT": "50ms"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "127.0.0.1:1" in ended.stderr + ended.stdout
    return {*re.findall(r"^import time: .*\| +(\S+)$", ended.stderr, re.MULTILINE)}


def test_a_command_that_asks_a_cluster_imports_little() -> None:
    """A quarter of a second was the aim; it had been a whole one."""
    modules = modules_of("kv", "get", "k", "--address", "127.0.0.1:1")
    assert "trioraft.client.client" in modules
    assert [heavy for heavy in HEAVY if heavy in modules] == []
    assert len(modules) <= MODULES_MAX
    assert {"trio", "structlog"} & modules_of(
        "admin", "status", "--address", "127.0.0.1:1"
    ) == set()


# -- completion ------------------------------------------------------------------------------


def completed(line: str, directory: Path) -> list[str]:
    """What bash offers for the last word of this line."""
    program = directory / "trioraft"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trioraft "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        'eval "$(trioraft completion bash)"; complete -p trioraft >&2; '
        "COMP_WORDS=($LINE); [[ $LINE == *' ' ]] && COMP_WORDS+=(''); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _trioraft_completion trioraft; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{directory}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path, "LINE": line},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == "complete -o nosort -F _trioraft_completion trioraft\n"
    return ended.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("trioraft c", ["cluster", "certs", "completion"]),
        ("trioraft kv ge", ["get"]),
        ("trioraft kv get --to", ["--token-file"]),
        ("trioraft admin ", ["status", "transfer", "add-learner"]),
        ("trioraft completion ", ["bash", "zsh", "fish"]),
        ("trioraft admin status --check ", ["ready", "live"]),
        ("trioraft serve --log-f", ["--log-format"]),
    ],
)
def test_bash_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    found = completed(line, tmp_path)
    assert [word for word in offered if word not in found] == []
    assert not line.endswith("c") or found == offered


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef trioraft"), ("fish", "function")])
def test_other_shells_get_theirs(shell: str, begins: str, tmp_path: Path) -> None:
    script = run_here("completion", shell).stdout
    assert script.startswith(begins)
    assert "_TRIORAFT_COMPLETE" in script
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script, encoding="utf-8")
        assert subprocess.run([shell, "-n", tmp_path / "script"], check=False).returncode == 0


def test_a_shell_that_is_none_of_them_is_a_mistake() -> None:
    result = run_here("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr


def test_what_the_system_says_of_a_file_is_told_in_words_and_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing" / "file"
    with pytest.raises(SystemExit) as ended, exiting("trioraft x"):
        missing.write_bytes(b"")
    assert ended.value.code == EXIT_FAILURE
    assert capsys.readouterr().err == f"trioraft x: {str(missing)!r}: No such file or directory\n"
