"""What may stay: names, kinds and places that a project has allowed.

Rules of this file:

* Wildcards are `*` and `?`; brackets mean themselves, since task names have them.
* A line in a file gives its reason after ` # `: whoever reads it later asks why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import final

from .report import Leak

_FIELD = re.compile(r"(?:^|\s)(name|kind|at)=")


@final
class Allowed:
    """Entries that may stay, each a name, or `kind=… name=… at=…` with any of the three."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Read the entries.

        Args:
            entries: `"ticker*"` is a name; `"kind=socket at=client.py:*"` a kind and the place
                that a report gives as "started at" (matched at any folder).

        Raises:
            TypeError: one string was given instead of a list.
            ValueError: an entry is empty, or gives a field twice.
        """
        if isinstance(entries, str):
            raise TypeError(f"allow must be a list of names, not one string: [{entries!r}]")
        self._names: list[re.Pattern[str]] = []
        self._rules: list[dict[str, re.Pattern[str]]] = []
        for entry in entries:
            fields = _fields(entry)
            if fields.keys() == {"name"}:
                self._names.append(_pattern(fields["name"]))
            else:
                self._rules.append({key: _pattern(value) for key, value in fields.items()})

    def __contains__(self, name: object) -> bool:
        """Whether a thing of this name may stay, wherever it was started."""
        if not isinstance(name, str):
            return False
        return any(pattern.fullmatch(name) is not None for pattern in self._names)

    def allows(self, leak: Leak) -> bool:
        """Whether this leak may stay."""
        if leak.name in self:
            return True
        found = {"name": (leak.name,), "kind": (leak.kind.value,), "at": _places(leak)}
        return any(
            all(
                any(pattern.fullmatch(text) for text in found[key]) for key, pattern in rule.items()
            )
            for rule in self._rules
        )


def _fields(entry: str) -> dict[str, str]:
    if not entry.strip():
        raise ValueError("an empty entry in allow would allow nothing: leave it out")
    starts = list(_FIELD.finditer(entry))
    if not starts or starts[0].start() != 0:
        return {"name": entry.strip()}
    fields: dict[str, str] = {}
    ends = [*(start.start() for start in starts[1:]), len(entry)]
    for start, end in zip(starts, ends, strict=True):
        if start[1] in fields:
            raise ValueError(f"allow entry {entry!r} gives {start[1]}= twice: make it two entries")
        fields[start[1]] = entry[start.end() : end].strip()
    return fields


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _places(leak: Leak) -> tuple[str, ...]:
    """Both places of a leak, whole and by each shorter path: `client.py:88` is enough to say."""
    found: list[str] = []
    for place in (leak.spawned_at, leak.through):
        if place is None:
            continue
        path = place.partition(" in ")[0]
        found.append(place)
        parts = path.split("/")
        found += ["/".join(parts[start:]) for start in range(len(parts))]
    return tuple(found)


def split_reason(line: str) -> tuple[str, str]:
    """An entry of a file and its reason, which stands after ` # `; "" if there is none."""
    entry, _, reason = line.partition(" # ")
    return entry.strip(), reason.strip()
