"""docs/backup.md with real processes: backups under load, whatever is killed meanwhile, and
clusters of one and of three made of them.

Rules of this file: as few processes as the story needs, for each takes a second to start.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import ServerProcesses, shown
from tests.serve import commands
from trioraft import BackupReader, BlockingClient, ServerStatus, UnusableBackup
from trioraft.kv import BlockingKvClient

PATIENCE_S = 60.0
TRIORAFT = (sys.executable, "-m", "trioraft")
VALUE = bytes(1024 * 1024)
VALUES = 24
"""So many of these: a backup of them takes a moment, in which something can be killed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcesses]:
    """Three servers that have some megabytes."""
    with ServerProcesses(tmp_path_factory.mktemp("cluster")) as servers:
        servers.start()
        with BlockingClient(servers.addresses) as client:
            kv = BlockingKvClient(client)
            for number in range(VALUES):
                kv.put(b"large/%02d" % number, VALUE, timeout_s=PATIENCE_S)
        yield servers


@pytest.fixture
def environment(cluster: ServerProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIORAFT_ADDRESSES", ",".join(map(shown, cluster.addresses)))
    monkeypatch.setenv("TRIORAFT_TIMEOUT", f"{PATIENCE_S:g}s")


@contextmanager
def load(cluster: ServerProcesses) -> Iterator[Callable[[], int]]:
    """Somebody counts in a key, one command after the other; yields how far was acknowledged."""
    acknowledged = 0
    is_over = threading.Event()

    def count() -> None:
        nonlocal acknowledged
        with BlockingClient(cluster.addresses) as client:
            kv = BlockingKvClient(client)
            while not is_over.is_set():
                acknowledged = kv.increment(b"count", timeout_s=PATIENCE_S).number

    thread = threading.Thread(target=count)
    thread.start()
    try:
        until(lambda: acknowledged > 0)
        yield lambda: acknowledged
    finally:
        is_over.set()
        thread.join()


def until(what: Callable[[], object]) -> None:
    """Ask other processes until it is so."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)


def backup_process(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TRIORAFT, "backup", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            reader = BackupReader(file, str(path))
            for _ in reader.chunks():
                pass
    except UnusableBackup:
        return False
    return reader.is_whole


def digest(addresses: str) -> str:
    """Of all keys and values."""
    said = run("kv", "range", "--limit", "1000", "--json", address=addresses)
    pairs = [json.loads(line) for line in said.splitlines()]
    assert len(pairs) > VALUES
    content = sorted((pair["key"], pair["value"]) for pair in pairs)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@pytest.mark.usefixtures("environment")
def test_a_backup_under_load_has_what_was_acknowledged_and_becomes_three_servers(
    cluster: ServerProcesses, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    with load(cluster) as acknowledged:
        before = acknowledged()
        told = json.loads(run("backup", "-o", str(path), "--json"))
        after = acknowledged()
    assert after > before
    verified = json.loads(run("restore", str(path), "--verify", "--json"))
    assert verified["content"]["keys"] == VALUES + 1
    with ServerProcesses(tmp_path / "new") as new:
        (tmp_path / "new").mkdir(exist_ok=True)
        disks = [f"--data={name}={tmp_path / 'new' / name}" for name in new.ids]
        restored = json.loads(run("restore", str(path), *disks, "--json"))
        assert restored["backup"]["index"] == told["index"]
        new.start()
        with BlockingClient(new.addresses) as client:
            kv = BlockingKvClient(client)
            count = int(kv.get(b"count", timeout_s=PATIENCE_S) or b"0")
            assert before <= count <= after + 1
            assert kv.get(b"large/07") == VALUE
            told_by = [
                each for each in client.statuses().values() if isinstance(each, ServerStatus)
            ]
            assert [each.uuid for each in told_by] == [restored["uuid"]] * 3
        killed = next(iter(new.servers.values()))
        killed.kill()  # a majority is left
        run("kv", "put", "new", "1", address=",".join(map(shown, new.addresses[1:])))


@pytest.mark.usefixtures("environment")
def test_the_state_is_the_same_to_the_last_byte(cluster: ServerProcesses, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    run("kv", "put", "last", "1")
    expected = digest(os.environ["TRIORAFT_ADDRESSES"])
    run("backup", "-o", str(path))
    with ServerProcesses(tmp_path, size=1) as new:
        run("restore", str(path), "--data", f"0={tmp_path / '0'}")
        new.start()
        assert digest(",".join(map(shown, new.addresses))) == expected


def run(*arguments: str, address: str | None = None) -> str:
    given = address or os.environ["TRIORAFT_ADDRESSES"]
    result = commands.run(
        *arguments, env={"TRIORAFT_ADDRESSES": given, "TRIORAFT_TIMEOUT": f"{PATIENCE_S:g}s"}
    )
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("after_bytes", [0, 1, 1_000_000, 10_000_000])
def test_a_backup_that_is_killed_leaves_no_file_that_looks_whole(
    after_bytes: int, tmp_path: Path
) -> None:
    path, part = tmp_path / "backup", tmp_path / "backup.part"
    with backup_process("-o", str(path)) as process:
        until(lambda: part.exists() and part.stat().st_size >= after_bytes)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    if path.exists():  # it was quicker
        assert is_whole(path)
        return
    assert not is_whole(part)
    refused = commands.run("restore", str(part), "--data", f"0={tmp_path / 'new'}")
    assert refused.exit_code == 1
    assert "half a backup" in refused.stderr or "is empty" in refused.stderr
    assert not (tmp_path / "new").exists()
    run("backup", "-o", str(path))  # takes over what was left
    assert is_whole(path)
    assert not part.exists()


@pytest.mark.usefixtures("environment")
def test_a_server_that_is_killed_ends_it_in_one_line(
    cluster: ServerProcesses, tmp_path: Path
) -> None:
    path, part = tmp_path / "backup", tmp_path / "backup.part"
    path.write_bytes(b"the one before")
    server = cluster.servers["1"]
    for _ in range(5):
        with backup_process("-o", str(path), "--at", "1") as process:
            until(lambda: process.poll() is not None or (part.exists() and part.stat().st_size))
            server.kill()
            _, said = process.communicate(timeout=PATIENCE_S)
        server.start()
        server.wait_ready()
        if process.returncode != 0:
            break
        path.write_bytes(b"the one before")  # it was quicker: once more
    assert process.returncode == 1
    assert said.decode().count("\n") == 1
    assert b"the backup is not whole: take another one" in said
    assert path.read_bytes() == b"the one before"
    assert not part.exists()


@pytest.mark.usefixtures("environment")
def test_half_of_what_comes_through_a_pipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "piped"
    with backup_process("-o", "-") as process:
        assert process.stdout is not None
        half = process.stdout.read(5_000_000)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    path.write_bytes(half)
    assert not is_whole(path)
    with path.open("wb") as file:
        subprocess.run([*TRIORAFT, "backup", "-o", "-"], stdout=file, check=True)
    assert is_whole(path)
    with path.open("rb") as file:
        told = subprocess.run(
            [*TRIORAFT, "restore", "-", "--data", f"0={tmp_path / '0'}", "--json"],
            stdin=file,
            stdout=subprocess.PIPE,
            check=True,
        )
    assert json.loads(told.stdout)["disks"] == {"0": str(tmp_path / "0")}


@pytest.mark.usefixtures("environment")
def test_a_directory_keeps_the_newest(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "precious").write_bytes(b"mine")
    other = files / "trioraft-20200101T000000Z-5.backup"
    other.write_bytes(b"no backup at all")
    left = files / "trioraft-20200101T000000Z-6.backup.part"
    left.write_bytes(b"left by one that was killed")
    kept = []
    for number in range(3):
        run("kv", "put", "n", str(number))
        told = json.loads(run("backup", "-o", str(files), "--keep", "2", "--json"))
        kept.append(Path(told["file"]).name)
    names = {each.name for each in files.iterdir()}
    assert names == {"precious", other.name, *kept[1:]}
    assert told["removed"] == [kept[0]]


@pytest.mark.usefixtures("environment")
def test_a_directory_keeps_the_one_just_taken_whatever_the_clocks_say(tmp_path: Path) -> None:
    """Each name has the time of the server that the backup is from."""
    first = json.loads(run("backup", "-o", str(tmp_path), "--json"))["file"]
    ahead = tmp_path / "trioraft-29990101T000000Z-5.backup"
    os.rename(first, ahead)
    other = tmp_path / "trioraft-29990101T000000Z-6.backup"
    other.write_bytes(b"no backup at all")
    run("kv", "put", "n", "1")
    told = json.loads(run("backup", "-o", str(tmp_path), "--keep", "1", "--json"))
    assert {each.name for each in tmp_path.iterdir()} == {Path(told["file"]).name, other.name}
    assert told["removed"] == [ahead.name]


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    for arguments, words in (
        (["-o", "-", "--json"], "cannot both be standard output"),
        (["-o", str(tmp_path / "x"), "--keep", "2"], "--keep needs a directory"),
        (["-o", str(tmp_path / "nowhere") + os.sep], "there is no directory"),
        (["-o", str(tmp_path), "--keep", "0"], "0 is not in the range"),
    ):
        result = commands.run("backup", "127.0.0.1:1", *arguments)
        assert result.exit_code == 2, result.output
        assert words in result.output
    backup = tmp_path / "no backup"
    backup.write_bytes(b"whatever")
    for arguments, code, words in (
        ([str(backup)], 2, "say either --verify, or --data"),
        ([str(backup), "--verify", "--data", "0=x"], 2, "say either"),
        ([str(backup), "--data", "x"], 2, "give ID=DIR"),
        ([str(backup), "--data", "0=a", "--data", "0=b"], 2, "names '0' twice"),
        ([str(backup), "--data", "0=a", "--address", "1"], 2, "give ID=HOST:PORT"),
        ([str(backup), "--data", f"0={tmp_path / 'new'}"], 1, "no backup of trioraft"),
        ([str(tmp_path / "none"), "--verify"], 1, "cannot be read: No such file"),
        ([str(tmp_path), "--verify"], 1, "cannot be read: Is a directory"),
    ):
        result = commands.run("restore", *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output
        assert result.stderr.count("\n") == 1


def test_clients_go_on_with_the_restored_cluster_in_the_place_of_the_old_one(
    tmp_path: Path,
) -> None:
    """One whose session is in the backup goes on in it; one that came later gets another session.
    What each was told of after the backup is lost."""
    path = tmp_path / "backup"
    with ServerProcesses(tmp_path, size=1) as servers:
        servers.start()
        address = shown(servers.addresses[0])
        with (
            BlockingClient(servers.addresses) as before,
            BlockingClient(servers.addresses) as after,
        ):
            assert BlockingKvClient(before).increment(b"n").number == 1
            run("backup", "-o", str(path), address=address)
            assert BlockingKvClient(before).increment(b"n").number == 2
            assert BlockingKvClient(after).increment(b"n").number == 3
            next(iter(servers.servers.values())).kill()
            (tmp_path / "0").rename(tmp_path / "lost")
            run("restore", str(path), "--data", f"0={tmp_path / '0'}", address=address)
            servers.start()
            assert BlockingKvClient(before).increment(b"n", timeout_s=PATIENCE_S).number == 2
            assert BlockingKvClient(after).increment(b"n", timeout_s=PATIENCE_S).number == 3
            sessions = after.status().budgets["sessions"][0]
    assert sessions == 2


def test_the_others_join_the_first_with_the_options_that_they_always_had(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with ServerProcesses(tmp_path) as servers:
        servers.start()
        address = ",".join(map(shown, servers.addresses))
        run("kv", "put", "k", "v", address=address)
        run("backup", "-o", str(path), address=address)
        for server in servers.servers.values():
            server.kill()
        for name in servers.ids:
            (tmp_path / name).rename(tmp_path / f"lost-{name}")
        run("restore", str(path), "--data", f"0={tmp_path / '0'}", address=address)
        servers.start()
        for name in ("1", "2"):
            run("admin", "add-learner", name, shown(servers.peers[name]), address=address)
            run("admin", "promote", name, address=address)
        servers.servers["0"].kill()
        assert run("kv", "get", "k", address=address) == "v\n"
