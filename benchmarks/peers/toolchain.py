"""What has to be there for a peer, how its program is built, and which version it is.

Rules of this file:

* What is missing is said in one sentence, with what to install; nothing is installed or fetched.
* Go's libraries are Debian's, in their source folder; no module file is read or written.
* A version is what the thing itself says, or the package that it came in.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from ..processes.process import ROOT
from .cases import Peer

GO_FOLDER: Final = Path(__file__).parent / "go"
GOPATH: Final = Path("/usr/share/gocode")
BUILD_PATIENCE_S: Final = 600.0


class BuildError(Exception):
    """A program could not be built; the message says why."""


@attrs.frozen
class Program:
    """A program in Go."""

    files: tuple[str, ...]
    libraries: Mapping[str, str]
    """Debian's package of each folder that it needs."""


PROGRAMS: Final = {
    Peer.HASHICORP: Program(
        ("load.go", "hashicorp.go"),
        {
            "github.com/hashicorp/raft": "golang-github-hashicorp-raft-dev",
            "github.com/hashicorp/raft-boltdb": "golang-github-hashicorp-raft-boltdb-dev",
        },
    ),
    Peer.ETCD: Program(
        ("load.go", "etcd.go"), {"go.etcd.io/etcd/clientv3": "golang-etcd-server-dev"}
    ),
}


def what_is_missing(peer: Peer, gopath: Path = GOPATH) -> str | None:
    """Why a peer cannot be measured here, and what to install; None if it can."""
    packages = []
    if peer is Peer.PYSYNCOBJ and importlib.util.find_spec("pysyncobj") is None:
        return "PySyncObj is not installed: install the extra trioraft[bench]"
    if peer is Peer.ETCD and shutil.which("etcd") is None:
        packages.append("etcd-server")
    if (program := PROGRAMS.get(peer)) is not None:
        if shutil.which("go") is None:
            packages.append("golang-go")
        packages += [
            package
            for folder, package in program.libraries.items()
            if not (gopath / "src" / folder).is_dir()
        ]
    if not packages:
        return None
    return f"{peer} needs {' '.join(packages)}: apt-get install {' '.join(packages)}"


def build(peers: Sequence[Peer], folder: Path) -> dict[Peer, Path]:
    """Build the programs of these peers into a folder; those without one are left out.

    Raises:
        BuildError: one of them does not build.
    """
    built = {}
    for peer in peers:
        if (program := PROGRAMS.get(peer)) is None:
            continue
        built[peer] = folder / f"{peer}-load"
        command = ["go", "build", "-o", str(built[peer]), *program.files]
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
        done = subprocess.run(  # noqa: S603 - Go's compiler, on our own files
            command,
            cwd=GO_FOLDER,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=BUILD_PATIENCE_S,
        )
        if done.returncode:
            raise BuildError(f"the program for {peer} does not build:\n{done.stderr.strip()}")
    return built


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """The version of each, and of what they stand on."""
    found = {
        "trioraft": f"{importlib.metadata.version('trioraft')} ({_commit()})",
        "Python": sys.version.split()[0],
        "Trio": trio.__version__,
        "SQLite": sqlite3.sqlite_version,
        "kernel": os.uname().release,
    }
    if Peer.PYSYNCOBJ in peers:
        found["PySyncObj"] = importlib.metadata.version("pysyncobj")
    if Peer.ETCD in peers:
        found["etcd"] = _first_line(["etcd", "--version"]).removeprefix("etcd Version: ")
        found["etcd's client"] = _package("golang-etcd-server-dev")
    if Peer.HASHICORP in peers:
        found["hashicorp/raft"] = _package("golang-github-hashicorp-raft-dev")
        found["raft-boltdb"] = _package("golang-github-hashicorp-raft-boltdb-dev")
    if any(peer in PROGRAMS for peer in peers):
        found["Go"] = _first_line(["go", "version"]).removeprefix("go version ")
    return found


def _commit() -> str:
    commit = _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return commit if commit != UNKNOWN else "no commit"


UNKNOWN: Final = "unknown"


def _package(name: str) -> str:
    return _first_line(["dpkg-query", "-W", "-f", "${Version}", name])


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - asks for a version
            command, capture_output=True, encoding="utf-8", check=True, timeout=BUILD_PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return (done.stdout.splitlines() or [UNKNOWN])[0].strip()
