"""Only inputs change the role, and through one funnel: nobody has to ask whether it still leads.

Rules of this file: the source of `Raft` is read as a syntax tree; nothing is run.
"""

from __future__ import annotations

import ast
import inspect

from trioraft.core import raft

CLASS = next(
    node
    for node in ast.parse(inspect.getsource(raft)).body
    if isinstance(node, ast.ClassDef) and node.name == "Raft"
)


def callers_of(prefix: str) -> set[str]:
    """The methods that call `self.<prefix>…`."""
    return {
        method.name
        for method in CLASS.body
        if isinstance(method, ast.FunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and node.attr.startswith(prefix)
    }


def writers_of(name: str) -> set[str]:
    """The methods that assign `self.<name>`."""
    return {
        method.name
        for method in CLASS.body
        if isinstance(method, ast.FunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name
    }


def test_one_method_writes_the_role() -> None:
    assert writers_of("role") == {"__init__", "_enter"}
    assert all(name.startswith("_become_") for name in callers_of("_enter"))


def test_a_role_is_entered_from_the_step_and_the_funnel_only() -> None:
    of_step = {"_adopt_term", "_step_candidate"}  # before the message is looked at any further
    assert callers_of("_become_") == {"_change_role", *of_step}
    assert callers_of("_adopt_term") == callers_of("_step_candidate") == {"step"}


def test_only_inputs_come_to_the_funnel() -> None:
    assert callers_of("_change_role") == {
        *("step", "on_timeout", "on_persisted", "on_disk_full", "stop")
    }


def test_only_becoming_something_begins_or_ends_a_leadership() -> None:
    assert all(name.startswith(("__init__", "_become_")) for name in writers_of("_leadership"))
