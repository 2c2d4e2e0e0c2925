"""How many sessions each client may open at a port."""

from __future__ import annotations

from trioraft.service.openings import BACK_S, CLIENTS_MAX, Openings


def test_each_client_has_its_own_and_gets_them_back_with_time() -> None:
    openings = Openings(2)
    for _ in range(2):
        assert openings.may_open("a", 0.0)
        openings.on_opened("a", 0.0)
    assert not openings.may_open("a", 0.0)
    assert openings.may_open("b", 0.0)
    assert openings.used(0.0) == (2, 2)
    openings.on_closed("a")
    openings.on_closed("nobody")
    assert openings.may_open("a", 0.0)
    assert openings.used(BACK_S) == (0, 2)


def test_closing_more_than_was_opened_gains_nothing() -> None:
    openings = Openings(2)
    openings.on_opened("a", 0.0)
    for _ in range(9):
        openings.on_closed("a")
    for _ in range(2):
        openings.on_opened("a", 0.0)
    assert not openings.may_open("a", 0.0)


def test_clients_that_opened_none_for_longest_are_forgotten() -> None:
    openings = Openings(1)
    for number in range(CLIENTS_MAX + 1):
        openings.on_opened(number, 0.0)
    assert len(openings._left) == CLIENTS_MAX
    assert openings.may_open(0, 0.0)
    assert not openings.may_open(1, 0.0)
