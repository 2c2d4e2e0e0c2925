"""Span: the keys that begin alike, or that lie between two."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.frozen
class Span:
    """The keys from `start` on that are before `end`; None: all of them."""

    start: bytes
    end: bytes | None

    @classmethod
    def of(cls, prefix: bytes, until: bytes | None = None) -> Span:
        """Those that begin with `prefix`, or those from it up to `until`, which is none of them."""
        return cls(prefix, after_prefix(prefix) if until is None else until)

    def __contains__(self, key: bytes) -> bool:
        return self.start <= key and (self.end is None or key < self.end)

    @property
    def only_key(self) -> bytes | None:
        """The one key that it has, if it can have only one."""
        return self.start if self.end == self.start + b"\0" else None

    @property
    def common_prefix(self) -> bytes:
        """What all keys in it begin with."""
        if self.end is None:
            return self.start if not self.start.strip(b"\xff") else b""
        if self.end == after_prefix(self.start):
            return self.start
        length = 0
        for one, other in zip(self.start, self.end, strict=False):
            if one != other:
                break
            length += 1
        return self.start[:length]


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None: there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
