"""What a replicated class consists of, and how its values travel, read once when it is defined.

Whatever cannot work is refused then, with the class, the name and what to write instead; a value
that is not what its annotation says is refused where it is given.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar, final, get_args, get_origin, get_type_hints

import attrs
import msgspec

from ...core.errors import ConfigError
from ..items import ItemReader
from ..msgpack_heads import array_head, head_bytes, map_head
from ..nesting import NESTING_MAX
from ..viewed import (
    PIECE_ENTRIES_FIRST,
    DictView,
    ViewedDict,
    ViewedDictOfMutable,
    next_entries,
)
from .calls import MethodMark, mark_of

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
        except RecursionError:
            raise ConfigError(
                f"{self.name} is nested too deep: at most {NESTING_MAX} lists and maps may be "
                "within each other"
            ) from None  # of the value's, not of this machine's: see `nesting`
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


def _cannot_change(info: object, seen: frozenset[int] = frozenset()) -> bool:
    """Whether no value of this type, as msgspec tells it, can be changed in place."""
    if id(info) in seen:
        return True  # it has itself within it: what else it has, decides
    parts: tuple[object, ...]
    match info:
        case msgspec.inspect.Metadata(type=inner):
            parts = (inner,)
        case msgspec.inspect.UnionType(types=types):
            parts = types
        case msgspec.inspect.TupleType(item_types=types):
            parts = types
        case (
            msgspec.inspect.VarTupleType(item_type=item)
            | msgspec.inspect.FrozenSetType(item_type=item)
        ):
            parts = (item,)
        case msgspec.inspect.NamedTupleType(fields=fields):
            parts = tuple(field.type for field in fields)
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            if not (get_origin(cls) or cls).__struct_config__.frozen:
                return False
            parts = tuple(field.type for field in fields)
        case msgspec.inspect.DataclassType(cls=cls, fields=fields):
            if not getattr(getattr(cls, "__dataclass_params__", None), "frozen", False):
                return False
            parts = tuple(field.type for field in fields)
        case _:
            return isinstance(info, _UNCHANGING)
    return all(_cannot_change(part, seen | {id(info)}) for part in parts)


_UNCHANGING: Final = (
    msgspec.inspect.NoneType,
    msgspec.inspect.BoolType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.StrType,
    msgspec.inspect.BytesType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
    msgspec.inspect.UUIDType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
)
_FROZEN_SET: Final = msgspec.inspect.FrozenSetType
_SETS: Final = (msgspec.inspect.SetType, _FROZEN_SET)
_DICTS: Final = (dict, ViewedDict, ViewedDictOfMutable)
_DICT, _ITEMS = (
    msgspec.inspect.DictType,
    (
        msgspec.inspect.ListType,
        msgspec.inspect.SetType,
        msgspec.inspect.FrozenSetType,
        msgspec.inspect.VarTupleType,
    ),
)


def _shown(annotation: object) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation)


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


NO_DEFAULT: Any = inspect.Parameter.empty
_MsgspecField = type(msgspec.field())  # which has no public name


@final
@attrs.frozen
class Method:
    """A command or a query, with its codecs."""

    name: str
    mark: MethodMark
    arguments: Mapping[str, Codec]
    result: Codec
    _signature: inspect.Signature
    """Without `self`."""
    _all: msgspec.msgpack.Decoder[tuple[Any, ...]]
    """Of all arguments at once."""
    _keyword_only: tuple[str, ...]

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments of a call; defaults are filled in here, so every node has the same ones.

        Raises:
            TypeError: an argument is missing or too many, as in any call.
            ConfigError: one is not what its annotation says.
        """
        values = args
        if kwargs or len(args) != len(self.arguments) or self._keyword_only:
            bound = self._bind(args, kwargs)
            values = tuple(bound[name] for name in self.arguments)
        try:
            data = _ENCODER.encode(values)
            self._all.decode(data)
        except ENCODE_ERRORS:
            for value, codec in zip(values, self.arguments.values(), strict=True):
                codec.encode(value)  # says which one it is
            raise
        return data

    def call(self, instance: object, data: bytes | msgspec.Raw) -> Any:
        """Decode the arguments and call the method.

        Raises:
            BadArguments: the data is not the arguments of this method.
            Exception: whatever the method raised.
        """
        return self.run(instance, self.values_of(data))

    def values_of(self, data: bytes | msgspec.Raw) -> tuple[Any, ...]:
        """The arguments.

        Raises:
            BadArguments: the data is not the arguments of this method.
        """
        try:
            return self._all.decode(data)
        except msgspec.MsgspecError as error:
            raise BadArguments(str(error)) from error

    def run(self, instance: object, values: tuple[Any, ...]) -> Any:
        """Call the method.

        Raises:
            Exception: whatever it raised.
        """
        if not self._keyword_only:
            return self.mark.method(instance, *values)
        named = dict(zip(self.arguments, values, strict=True))
        keywords = {name: named.pop(name) for name in self._keyword_only}
        return self.mark.method(instance, *named.values(), **keywords)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        bound.apply_defaults()
        return bound.arguments


class BadArguments(Exception):  # noqa: N818 - what the data is; it never leaves this package
    """A command's data is not what its method takes."""


@final
@attrs.frozen
class Field:
    """One attribute of the replicated state."""

    codec: Codec
    _default: Any = NO_DEFAULT
    _info: Any = attrs.field(init=False)
    """Its type, as msgspec tells it."""
    viewed_type: type[ViewedDict[Any, Any]] | None = attrs.field(init=False)
    """What dict it has, for views to be taken of it; None: it has none."""

    @_info.default
    def _(self) -> Any:
        info = msgspec.inspect.type_info(self.codec.annotation)
        return info.type if isinstance(info, msgspec.inspect.Metadata) else info

    @viewed_type.default
    def _(self) -> type[ViewedDict[Any, Any]] | None:
        if not isinstance(self._info, _DICT) or not self._is_piecewise:
            return None
        return ViewedDict if _cannot_change(self._info.value_type) else ViewedDictOfMutable

    @property
    def _is_piecewise(self) -> bool:
        """Whether a piece of it is what the annotation says, too: no bound on its length is."""
        return self._info.min_length is None and self._info.max_length is None

    def viewed(self, value: Any) -> Any:
        """A dict as one of which views can be taken: a plain one, or one that was made so for
        another field, whose values may be of another kind."""
        if self.viewed_type is None or type(value) not in _DICTS:
            return value
        return value if type(value) is self.viewed_type else self.viewed_type(value)

    def view(self, value: Any) -> Iterator[bytes]:
        """The value as it is now, whatever becomes of it: as msgpack, in pieces that are encoded
        one by one, in any thread. What is neither a dict nor a list of what cannot change is
        encoded here and now.

        Raises:
            ConfigError: it is not what the annotation says; also while it is gone through.
        """
        if isinstance(value, ViewedDict) and type(value) is self.viewed_type:
            return self._dict_pieces(value.view())
        if type(value) in (list, set, frozenset, tuple) and self._has_pieces:
            return self._item_pieces(list(value))
        return iter((self.codec.encode(value),))

    @property
    def _has_pieces(self) -> bool:
        """Whether it has items, which can be written one after the other."""
        if not isinstance(self._info, _ITEMS) or not self._is_piecewise:
            return False
        return _cannot_change(self._info.item_type)

    def read(self, reader: ItemReader) -> Any:
        """A value that `view` wrote; dicts and lists piece by piece.

        Raises:
            MsgspecError: it is none of this field's.
        """
        if self.viewed_type is not None and (count := reader.count(is_map=True)) is not None:
            entries = self.viewed({})
            for piece in reader.pieces(count, 2, map_head):
                entries.update(self.codec.decode(piece))
            return entries
        if isinstance(self._info, msgspec.inspect.ListType) and self._is_piecewise:
            count = reader.count(is_map=False)
            if count is not None:
                items: list[Any] = []
                for piece in reader.pieces(count, 1, array_head):
                    items += self.codec.decode(piece)
                return items
        if isinstance(self._info, _SETS) and self._is_piecewise:
            count = reader.count(is_map=False)
            if count is not None:
                members: set[Any] = set()
                for piece in reader.pieces(count, 1, array_head):
                    members |= self.codec.decode(piece)
                return frozenset(members) if isinstance(self._info, _FROZEN_SET) else members
        return self.codec.decode(reader.one())

    def _dict_pieces(self, view: DictView[Any]) -> Iterator[bytes]:
        def encode(keys: list[Any], values: list[Any]) -> bytes:
            piece = self.codec.encode(dict(zip(keys, values, strict=True)))
            return piece[head_bytes(len(keys)) :]

        yield map_head(len(view))
        yield from view.pieces(encode)

    def _item_pieces(self, items: list[Any]) -> Iterator[bytes]:
        yield array_head(len(items))
        start, most = 0, PIECE_ENTRIES_FIRST
        while start < len(items):
            some = items[start : start + most]
            piece = self.codec.encode(some)[head_bytes(len(some)) :]
            start += len(some)
            most = next_entries(most, len(piece))
            yield piece

    @property
    def has_default(self) -> bool:
        """Whether a new object has a value without its `__init__`."""
        default = self._default
        if isinstance(default, _MsgspecField):
            return (default.default, default.default_factory) != (msgspec.NODEFAULT,) * 2
        return default is not NO_DEFAULT

    def check(self) -> None:
        """Refuse a default that is not what the annotation says.

        Raises:
            ConfigError: it is not.
        """
        if not self.has_default:
            return
        try:
            default = self.new_default()
        except Exception as error:  # its own code - refused, whatever it raises
            raise ConfigError(f"the default of {self.codec.name} is unusable: {error}") from error
        self.codec.encode(default)

    def new_default(self) -> Any:
        """The first value, shared with no other object."""
        default = self._default
        if isinstance(default, _MsgspecField):
            if default.default is not msgspec.NODEFAULT:
                return copy.deepcopy(default.default)
            return default.default_factory()
        return copy.deepcopy(default)


@final
@attrs.frozen
class Definition:
    """A replicated class."""

    owner: type
    cls_name: str
    version: int
    methods: Mapping[str, Method]
    fields: Mapping[str, Field]
    dicts: Sequence[tuple[str, Field]] = attrs.field(init=False)
    """Those of which views can be taken."""

    @dicts.default
    def _(self) -> Sequence[tuple[str, Field]]:
        return tuple((name, field) for name, field in self.fields.items() if field.viewed_type)

    def name_of(self, method: object) -> str | None:
        """The name of this command or query, as it stands in the class or one above it; None: it is
        none."""
        name: str = getattr(method, "__name__", "")
        if name not in self.methods or mark_of(method) is None:
            return None
        return name if any(vars(cls).get(name) is method for cls in self.owner.__mro__) else None

    @classmethod
    def of(cls, owner: type, reserved: frozenset[str]) -> Definition:
        """Read a class.

        Args:
            owner: a subclass of `ReplicatedObject`.
            reserved: names that the subclass must not use for what it replicates.

        Raises:
            ConfigError: something in it cannot work.
        """
        name = owner.__name__
        version = getattr(owner, "version", None)
        if type(version) is not int or version < 1:
            raise ConfigError(f"{name}.version is {version!r}: give a whole number from 1")
        filled = _type_arguments(owner)
        fields = {
            field: Field(
                Codec.of(f"{name}.{field}", _fill(annotation, filled)),
                getattr(owner, field, NO_DEFAULT),
            )
            for field, annotation in _hints(owner, name).items()
            if not field.startswith("_") and not _is_class_variable(annotation)
        }
        for field in fields.values():
            field.check()
        methods = {
            attribute: _method(name, attribute, mark, version, filled)
            for attribute in dir(owner)
            if (mark := mark_of(inspect.getattr_static(owner, attribute))) is not None
        }
        _check_overrides(owner, methods)
        taken = sorted(reserved & (fields.keys() | methods.keys()))
        if taken:
            raise ConfigError(
                f"{name}.{taken[0]} has the name of something that every ReplicatedObject has; "
                "choose another"
            )
        return cls(owner, name, version, methods, fields)


def _check_overrides(owner: type, methods: Mapping[str, Method]) -> None:
    """What a base class has as a command or query is one here too."""
    for base in owner.__mro__:
        for attribute in vars(base):
            mark = mark_of(inspect.getattr_static(base, attribute))
            if mark is not None and attribute not in methods:
                kind = "command" if mark.is_command else "query"
                name = f"{owner.__name__}.{attribute}"
                raise ConfigError(
                    f"{name} overrides a {kind} of {base.__name__} and is none itself, so it would "
                    f"run on one node alone: write @{kind} above it"
                )


def _hints(owner: object, name: str) -> dict[str, Any]:
    """Annotations as types, extras included."""
    try:
        return get_type_hints(owner, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"an annotation of {name} names {error.name!r}, which is not known where {name} is "
            "defined: define or import it before, at the top level of the module (not in a "
            "function, not under `if TYPE_CHECKING`)"
        ) from error


def _is_class_variable(annotation: object) -> bool:
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _method(
    cls_name: str, attribute: str, mark: MethodMark, version: int, filled: Mapping[Any, Any]
) -> Method:
    name = f"{cls_name}.{attribute}"
    function: Callable[..., Any] = mark.method
    if not inspect.isfunction(function):
        raise ConfigError(
            f"{name}: put @command or @query right above the `def`, other decorators above that"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(
            f"{name} is an async function or a generator: a command or query is applied in one "
            "piece. Write a plain `def`; callers await it all the same"
        )
    if not 1 <= mark.since <= version:
        raise ConfigError(
            f"{name} has since={mark.since}, but {cls_name}.version is {version}: give 1 to "
            f"{version}, or raise the version"
        )
    hints = _hints(function, name)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigError(f"{name} takes {parameter}: name each argument, or take a list")
        if parameter.name not in hints:
            raise ConfigError(
                f"{name}({parameter.name}) has no annotation: say what travels, as in "
                f"`{parameter.name}: int`"
            )
    if "return" not in hints:
        raise ConfigError(f"{name} has no return annotation: say what it returns, as in `-> None`")
    arguments = {
        parameter.name: Codec.of(f"{name}({parameter.name})", _fill(hints[parameter.name], filled))
        for parameter in parameters
    }
    types = tuple(codec.annotation for codec in arguments.values())
    return Method(
        name=attribute,
        mark=mark,
        arguments=arguments,
        result=Codec.of(f"the result of {name}", _fill(hints["return"], filled)),
        signature=signature.replace(parameters=parameters),
        all=msgspec.msgpack.Decoder(tuple.__class_getitem__(types)),
        keyword_only=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
    )


def _type_arguments(owner: type) -> dict[Any, Any]:
    """What subclasses filled in for the type variables of the generic classes they derive from."""
    filled: dict[Any, Any] = {}
    for cls in owner.__mro__:  # subclasses first: what a base names may be filled in already
        for base in cls.__dict__.get("__orig_bases__", ()):
            parameters = getattr(get_origin(base), "__parameters__", ())
            for parameter, argument in zip(parameters, get_args(base), strict=False):
                filled.setdefault(parameter, _fill(argument, filled))
    return {key: value for key, value in filled.items() if not isinstance(value, TypeVar)}


def _fill(annotation: Any, filled: Mapping[Any, Any]) -> Any:
    """An annotation with its type variables replaced."""
    if isinstance(annotation, TypeVar):
        return filled.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not parameters:
        return annotation
    return annotation[tuple(filled.get(parameter, parameter) for parameter in parameters)]
