"""Any value of a type of the wire, drawn by what the type itself says.

Rules of this file: a message or field that is added is drawn without a word here; what cannot be
drawn is an error, not a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from hypothesis import strategies as st

Strategy: TypeAlias = st.SearchStrategy[Any]


def drawn(wanted: Any, *, ints: Strategy | None = None, fields: Mapping[str, Strategy]) -> Strategy:
    """Values of the type `wanted`: a struct, a union of structs, or what stands in their fields.

    Args:
        wanted: the type.
        ints: what every number is drawn from; without it, from all that the type allows.
        fields: what fields are drawn from instead, by `Struct.field`, or `field` for all structs.
    """
    return _Drawing(ints, fields).of(msgspec.inspect.type_info(wanted))


class _Drawing:
    def __init__(self, ints: Strategy | None, fields: Mapping[str, Strategy]) -> None:
        self.ints = ints
        self.fields = fields

    def of(self, info: msgspec.inspect.Type) -> Strategy:
        match info:
            case msgspec.inspect.Metadata(type=inner):
                return self.of(inner)
            case msgspec.inspect.StructType():
                return self._struct(info)
            case msgspec.inspect.UnionType(types=types):
                return st.one_of(*(self.of(each) for each in types))
            case msgspec.inspect.IntType(ge=low, le=high):
                if self.ints is not None:
                    return self.ints
                # A number without bounds still has to fit into what msgpack knows.
                return st.integers(-(2**63) if low is None else low, high or 2**64 - 1)
            case msgspec.inspect.BoolType():
                return st.booleans()
            case msgspec.inspect.BytesType():
                return st.binary(max_size=20)
            case msgspec.inspect.StrType(pattern=str(pattern)):
                return st.from_regex(pattern, fullmatch=True)
            case msgspec.inspect.StrType():
                return st.text(max_size=6)
            case msgspec.inspect.VarTupleType(item_type=item):
                return st.lists(self.of(item), max_size=4).map(tuple)
            case msgspec.inspect.TupleType(item_types=items):
                return st.tuples(*(self.of(item) for item in items))
            case msgspec.inspect.DictType(key_type=key, value_type=value):
                return st.dictionaries(self.of(key), self.of(value), max_size=3)
            case msgspec.inspect.NoneType():
                return st.none()
        raise NotImplementedError(f"nobody has said how to draw {info}")

    def _struct(self, info: msgspec.inspect.StructType) -> Strategy:
        chosen = {}
        for field in info.fields:
            given = self.fields.get(
                f"{info.cls.__name__}.{field.name}", self.fields.get(field.name)
            )
            chosen[field.name] = self.of(field.type) if given is None else given
        return st.builds(info.cls, **chosen)
