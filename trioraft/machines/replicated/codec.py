"""Codecs from annotations: msgspec, checked when a class is defined and where a value comes in.

Rules of this file: an annotation that msgspec cannot decode is refused before anything runs; a
value that is not what its annotation says is refused where it is given, by name.
"""

from __future__ import annotations

from typing import Any, final

import attrs
import msgspec

from ...core.errors import ConfigError

_ENCODER = msgspec.msgpack.Encoder()
_IMMUTABLE = (type(None), bool, int, float, str, bytes)
ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for a value that it cannot encode; its own errors are ValueErrors."""


@final
@attrs.frozen
class Codec:
    """Turns values of one annotation into bytes and back."""

    name: str
    """What the annotation belongs to, for errors, as in "Counter.add(n)"."""
    annotation: Any
    _decoder: msgspec.msgpack.Decoder[Any]

    @classmethod
    def of(cls, name: str, annotation: Any) -> Codec:
        """The codec of an annotation.

        Raises:
            ConfigError: values of it cannot be told on the other side.
        """
        try:
            unknown = _unknown_type(msgspec.inspect.type_info(annotation))
        except (TypeError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{name} is annotated {_shown(annotation)}: {error}") from error
        if unknown is not None:
            raise ConfigError(
                f"{name} is annotated {_shown(annotation)}, but a {unknown} cannot travel: use "
                "numbers, str, bytes, list, dict, set, tuple, datetime, enums, dataclasses, attrs "
                "or msgspec.Struct classes made of these"
            )
        return cls(name, annotation, msgspec.msgpack.Decoder(annotation))

    def encode(self, value: Any) -> bytes:
        """The value as bytes.

        Raises:
            ConfigError: it is not what the annotation says.
        """
        try:
            data = _ENCODER.encode(value)
            self._decoder.decode(data)
        except ENCODE_ERRORS as error:
            raise ConfigError(
                f"{self.name} is annotated {_shown(self.annotation)}, but {_shortened(value)} was "
                f"given: {error}"
            ) from error
        return data

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """The value again.

        Raises:
            msgspec.MsgspecError: the bytes are not such a value.
        """
        return self._decoder.decode(data)

    def copy(self, value: Any) -> Any:
        """A value that shares nothing with this one which could change.

        Raises:
            ConfigError: it is not what the annotation says.
        """
        if type(value) in _IMMUTABLE and type(value) is self.annotation:
            return value
        return self.decode(self.encode(value))


def _unknown_type(info: object, seen: set[int] | None = None) -> str | None:
    """The name of a type somewhere in this one that msgspec leaves to others, if there is any."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return getattr(info.cls, "__qualname__", repr(info.cls))
    if isinstance(info, tuple):
        parts: tuple[object, ...] = info
    elif isinstance(info, msgspec.Struct):
        parts = tuple(getattr(info, name) for name in info.__struct_fields__)
    else:
        return None
    return next((found for part in parts if (found := _unknown_type(part, seen))), None)


def _shown(annotation: object) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation)


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
