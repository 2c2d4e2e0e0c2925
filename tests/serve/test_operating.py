"""The runbook, docs/operating.md: every command of it is run, in order, against real servers.

Rules of this file:

* What stands there is run by a shell as it stands; only addresses, paths of the machines and the
  owner of files are exchanged for what this machine has. `1$` is the machine of member 1.
* `systemctl` and `journalctl` are played: a unit is a process, which is waited for as `Type=notify`
  says, by a socket that stands for systemd's.
* What is shown below a command must come: digits stand for any number, "…" for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import yaml

from benchmarks.processes import PATIENCE_S, ServerProcess, free_ports, shown
from tests.serve.test_supervisor import Systemd

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "operating.md"
ALERTS: Final = ROOT / "deploy" / "prometheus" / "alerts.yaml"
MACHINES: Final = ("1", "2", "3", "4")
JOINS: Final = ("4",)
PLAYED: Final = ("systemctl", "journalctl")


@attrs.frozen
class Command:
    """One command of the page, and what it shows."""

    line: int
    machine: str
    """Empty: anywhere."""
    text: str
    shows: tuple[str, ...] = ()


def commands_of(text: str) -> Iterator[Command]:
    """Those of all `console` blocks, in order."""
    for block in re.finditer(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        first = text.count("\n", 0, block.start()) + 2
        found: list[Command] = []
        for number, line in enumerate(block[1].splitlines(), first):
            begins = re.fullmatch(r"(\d?)\$ (.*)", line)
            if begins:
                found.append(Command(number, begins[1], begins[2]))
            elif found and found[-1].text.endswith("\\"):
                last = found[-1]
                found[-1] = attrs.evolve(last, text=f"{last.text[:-1]} {line.strip()}")
            elif found:
                found[-1] = attrs.evolve(found[-1], shows=(*found[-1].shows, line))
            else:
                raise AssertionError(f"line {number} is shown by no command: {line!r}")
        yield from found


def missing(shows: tuple[str, ...], said: str) -> str | None:
    """The first line that should be shown and is not; None: all come, in this order."""
    lines = iter(said.splitlines())
    for line in shows:
        pattern = re.escape(line).replace("…", ".*")
        pattern = re.sub(r"\d+", r"\\d+", pattern)
        if not any(re.fullmatch(pattern, said_line) for said_line in lines):
            return line
    return None


class Machines:
    """Four machines, each a directory and perhaps a server; and a shell that commands run in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with free_ports(3 * len(MACHINES)) as ports:
            kinds = (7000, 8000, 9100)
            self.at = {
                (machine, kind): shown(ports.pop()) for machine in MACHINES for kind in kinds
            }
        self.systemd: dict[str, Systemd] = {}
        self.servers: dict[str, ServerProcess] = {}
        self.exported: dict[str, str] = {}
        for machine in MACHINES:
            self._set_up(machine)
        bin_ = directory / "bin"
        bin_.mkdir()
        self._script(bin_ / "trioraft", f'exec {sys.executable} -m trioraft "$@"')
        install = shutil.which("install")
        drop = "s|--owner trioraft||; s|--group trioraft||"
        self._script(bin_ / "install", f'exec {install} $(echo "$@" | sed "{drop}")')

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def _set_up(self, machine: str) -> None:
        root = self.directory / machine
        for path in ("etc/trioraft", "var/lib/trioraft", "var/backups"):
            (root / path).mkdir(parents=True)
        peers = "\n".join(f'{each} = "{self.at[each, 7000]}"' for each in MACHINES[:3])
        joins = "join = true\n" if machine in JOINS else ""
        text = (
            f'id = "{machine}"\nlisten = "{self.at[machine, 7000]}"\n'
            f'client-listen = "{self.at[machine, 8000]}"\n'
            f'http-listen = "{self.at[machine, 9100]}"\n'
            f'data = "{root}/var/lib/trioraft/node"\n{joins}\n[peers]\n{peers}\n'
        )
        (root / "etc/trioraft/node.toml").write_text(text, encoding="utf-8")
        systemd = self.systemd[machine] = Systemd()
        self.servers[machine] = ServerProcess(
            ["--config", f"{root}/etc/trioraft/node.toml"],
            root / "log",
            name=f"member {machine}",
            environment={"NOTIFY_SOCKET": systemd.name},
        )

    def close(self) -> None:
        for server in self.servers.values():
            server.kill()
        for systemd in self.systemd.values():
            systemd.socket.close()

    # -- running what stands there ---------------------------------------------------------

    def run(self, command: Command) -> str:
        """What it says; it succeeds.

        Raises:
            AssertionError: it does not.
        """
        words = shlex.split(command.text)
        if words[0] == "export":
            name, _, value = self.here(command)[len("export ") :].partition("=")
            self.exported[name] = value
            return ""
        if words[0] in PLAYED:
            return self._play(command.machine, words)
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{command.text}: exit code {done.returncode}:\n{said}"
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TRIORAFT_")}
        path = f"{self.directory / 'bin'}{os.pathsep}{clean['PATH']}"
        ours = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
        return clean | ours | self.exported

    def here(self, command: Command) -> str:
        """The command with this machine's addresses and paths."""
        machine = command.machine or "1"
        text = re.sub(r"10\.0\.0\.(\d):(\d+)", lambda at: self.at[at[1], int(at[2])], command.text)
        text = text.replace("127.0.0.1:9100", self.at[machine, 9100])
        return re.sub(r"(?<![\w.])/(var|etc)/", rf"{self.directory}/{machine}/\1/", text)

    def _play(self, machine: str, words: list[str]) -> str:
        """systemd of that machine."""
        root, server = self.directory / machine, self.servers[machine]
        if words[0] == "journalctl":
            assert words[1:3] == ["--unit", "trioraft"]
            return (root / "log").read_text(encoding="utf-8")
        verb, unit = words[1], words[-1]
        assert unit == "trioraft"
        if verb in ("start", "enable"):
            assert verb == "start" or "--now" in words
            server.start()
            self.systemd[machine].until("READY", "1")
        elif verb in ("stop", "disable"):
            assert verb == "stop" or "--now" in words
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            self.systemd[machine].drain()
        elif verb == "reload":
            server.signal(signal.SIGHUP)
        else:
            assert verb == "status", f"systemctl {verb} is not played"
        return ""


COMMANDS: Final = list(commands_of(PAGE.read_text(encoding="utf-8")))


def test_every_command_of_the_page_does_what_stands_there(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    try:
        for command in COMMANDS:
            try:
                said = machines.run(command)
                absent = missing(command.shows, said)
                assert absent is None, f"it does not show {absent!r}, but:\n{said}"
            except BaseException as error:
                error.add_note(f"{PAGE.name}:{command.line}: {command.text}")
                for server in machines.servers.values():
                    error.add_note(f"{server.name} complained last:\n{server.complaints()}")
                raise
    finally:
        machines.close()


def test_there_is_nothing_that_looks_like_a_command_and_is_not_tried() -> None:
    """Whatever is told to be typed stands in a block, but for what names a thing to look at."""
    kinds = set(re.findall(r"^```(\w*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) - {""}
    assert kinds == {"console", "toml"}
    assert len(COMMANDS) > 40
    assert {command.machine for command in COMMANDS} == {"", *MACHINES}


def test_a_command_that_fails_or_shows_something_else_is_found(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    try:
        with pytest.raises(AssertionError, match="exit code 3"):
            machines.run(Command(1, "1", "sh -c 'exit 3'"))
        assert machines.run(Command(1, "1", "echo /var/lib/x 10.0.0.2:8000")).split() == [
            f"{tmp_path}/1/var/lib/x",
            machines.at["2", 8000],
        ]
    finally:
        machines.close()
    assert missing(("index 7 … end",), "begin\nindex 123 and the end\n") is None
    assert missing(("one", "two"), "two\none\n") == "two"


# -- the alerts ----------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"] if "alert" in rule]


def headings() -> list[str]:
    return re.findall(r"^#{2,3} (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(heading: str) -> str:
    """As pages have it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_each_alert_has_its_section() -> None:
    named = {rule["alert"] for rule in alerts()}
    assert named
    assert {heading for heading in headings() if heading.startswith("Trioraft")} == named


def test_each_alert_leads_to_its_section() -> None:
    there = {f"docs/operating.md#{anchor(heading)}" for heading in headings()}
    for rule in alerts():
        assert rule["annotations"]["runbook"] in there, rule["alert"]


def test_links_of_the_page_lead_somewhere() -> None:
    page = PAGE.read_text(encoding="utf-8")
    here = {anchor(heading) for heading in headings()}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        path, _, at = target.partition("#")
        if not path:
            assert at in here, target
        else:
            assert (PAGE.parent / path).exists(), target
