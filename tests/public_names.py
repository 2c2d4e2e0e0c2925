"""The public modules, as `docs/public-names.md` lists them, and what can be imported from them."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from inspect import ismodule
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "public-names.md"
MODULES = tuple(re.findall(r"^\| `(trioraft[\w.]*)` \|", PAGE.read_text(encoding="utf-8"), re.M))


@cache
def public_objects() -> dict[str, object]:
    """Everything public, by its full name."""
    found = {}
    for module_name in MODULES:
        module = import_module(module_name)
        for name in dir(module):
            value = getattr(module, name)
            if not name.startswith("_") and not ismodule(value):
                found[f"{module_name}.{name}"] = value
    return found


@cache
def public_errors() -> dict[str, type[BaseException]]:
    """The error classes among them, each by its first name."""
    found: dict[str, type[BaseException]] = {}
    for name, value in public_objects().items():
        match value:
            case type() if issubclass(value, BaseException) and value not in found.values():
                found[name] = value
    return found
