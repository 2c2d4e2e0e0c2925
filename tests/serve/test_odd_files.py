"""Files that a user names and that are not what they should be: one clear error each, and soon."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.serve.commands import run
from trioraft.cli import files
from trioraft.cli.serve.settings import gather
from trioraft.kv.commands import VALUE_BYTES_MAX
from trioraft.testing.linearizability import files as histories
from trioraft.testing.linearizability.history import HistoryError
from trioraft.viz import reading

DEEP = 100_000
DOTS = 2_000


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content, encoding="utf-8")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested lists": (text("id = " + "[" * DEEP + "]" * DEEP), "is nested too deeply"),
    "nested tables": (text("id = " + "{a=" * DEEP + "1" + "}" * DEEP), "is nested too deeply"),
    "a long dotted key": (text("id" + ".a" * DOTS + " = 1"), "id is {'a': {'a'"),
    "a long dotted table": (text(f"[peers{'.a' * DOTS}]"), "peers is {'a': {'a'"),
    "a huge number": (text("id = 0x" + "f" * DEEP), "give one value"),
    "a huge decimal number": (text("id = " + "9" * DEEP), "is not a TOML file"),
    "huge": (text("# " + "x" * files.SMALL_BYTES_MAX), "it has more than 1048576 bytes"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not a TOML file"),
    "NULs": (lambda path: path.write_bytes(bytes(99)), "is not a TOML file"),
    "a directory": (Path.mkdir, "cannot be read: Is a directory"),
    "a FIFO": (os.mkfifo, "nothing came within"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it has more than 1048576 bytes"),
    "itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize(("make", "said"), ODD.values(), ids=ODD)
def test_odd_settings_are_one_problem(
    make: Callable[[Path], object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    path = tmp_path / "node.toml"
    make(path)
    problems: list[str] = []
    gather({"config": str(path)}, {}, problems)
    (problem,) = problems
    assert said in problem
    assert len(problem) < 1000


def test_settings_may_come_through_a_pipe() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b'id = "0"\n')
        os.close(writer)
        problems: list[str] = []
        found = gather({"config": f"/dev/fd/{reader}"}, {}, problems)
        assert problems == []
        assert found["id"].texts == ("0",)
    finally:
        os.close(reader)


def served(path: Path) -> Result:
    others = {"tls-cert", "tls-key", "tls-ca", "client-tls-cert", "client-tls-key", "client-tls-ca"}
    words = [word for name in others for word in (f"--{name}", str(path))]
    return run(
        *("serve", "--id", "0", "--listen", "127.0.0.1:1", "--client-listen", "127.0.0.1:2"),
        *("--data", str(path.parent / "none"), "--found-alone", *words),
    )


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "huge", "a directory", "binary"])
def test_odd_certificates_are_one_problem_each(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pem"
    ODD[kind][0](path)
    ended = served(path)
    assert ended.exit_code == 2
    problems = [line for line in ended.output.splitlines() if "odd.pem" in line]
    assert all("cannot be" in line for line in problems)
    assert len(problems) >= 2
    asked = run("kv", "get", "k", "--address", "127.0.0.1:1", "--ca", str(path))
    assert asked.exit_code == 2
    assert "cannot be" in asked.output


def test_a_value_from_an_endless_input_is_too_large() -> None:
    content = bytes(VALUE_BYTES_MAX + 10)
    ended = run("kv", "put", "k", "-", "--address", "127.0.0.1:1", input=content)
    assert ended.exit_code == 2
    assert f"give at most {VALUE_BYTES_MAX}" in ended.output


def test_a_log_without_lines_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINE_CHARS_MAX", 1000)
    path = tmp_path / "a.log"
    path.write_text("x" * 1001, encoding="utf-8")
    shown = run("viz", str(path))
    assert shown.exit_code == 2
    assert "a line of more than 1000 characters" in shown.output


def test_a_history_without_an_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "HISTORY_BYTES_MAX", 1 << 16)
    with pytest.raises(HistoryError, match="more than 65536 bytes"):
        histories.load_history("/dev/zero")


def test_a_history_nested_too_deeply_is_none(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"[" * DEEP)
    with pytest.raises(HistoryError, match="line 1"):
        histories.load_history(path)


def test_what_is_read_is_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * files.SMALL_BYTES_MAX)
    assert len(files.read_small(path, wants_file=True)) == files.SMALL_BYTES_MAX
