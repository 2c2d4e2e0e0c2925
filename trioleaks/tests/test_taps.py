"""What is listened to is as it was when nobody listens any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from trioleaks.taps import Tap


class Door:
    """What is listened to."""

    def close(self, how: str) -> str:
        return f"closed {how}"


def listener(heard: list[str], name: str) -> Callable[..., Any]:
    def around(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        heard.append(name)
        return call(*args, **kwargs)

    return around


def test_the_original_is_back_when_the_last_listener_goes_whoever_that_is() -> None:
    original, heard = vars(Door)["close"], list[str]()
    first = Tap(Door, "close", listener(heard, "first")).listen()
    second = Tap(Door, "close", listener(heard, "second")).listen()
    assert Door().close("softly") == "closed softly"
    first.stop()
    assert Door().close(how="softly") == "closed softly"
    second.stop()
    assert vars(Door)["close"] is original
    assert heard == ["second", "first", "second"]


def test_one_that_somebody_else_puts_back_later_only_calls_the_original(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, heard = vars(Door)["close"], list[str]()
    listening = Tap(Door, "close", listener(heard, "first")).listen()
    monkeypatch.setattr(Door, "close", lambda _self, how: how)
    listening.stop()
    assert Door().close("softly") == "softly"
    monkeypatch.undo()
    assert Door().close("softly") == "closed softly"
    assert heard == []
    Tap(Door, "close", listener(heard, "again")).listen().stop()
    assert vars(Door)["close"] is original
