"""ViewedDict: a dict of which views can be taken, that later changes leave alone.

Rules of this file:

* The dict is a dict, always with all that is in it: whoever reads it finds what any dict has, in a
  dict's order and with a dict's errors, whether a view is open or not. (Nodes take snapshots at
  different times, and a command must not be able to tell.)
* Taking a view costs the number of chunks, not of entries. From then on, whoever changes an entry
  has its value put aside first, once for each view.
* A dict cannot be gone through while keys come and go. So its keys stand in chunks as well, in the
  order in which they came. One that was deleted stays there, and is counted as stale; whoever goes
  through a view leaves the stale ones out, and the dict gets the chunks without them.
* A view is gone through in any thread, and nothing is locked: a change first puts the value aside
  and then makes it; whoever goes through first reads the value, and then looks whether one was put
  aside. The chunks, and which views there are, belong to the thread that changes the dict.
* The collector does not look into chunks, nor into a dict of what cannot change: neither can be in
  a cycle, and a look takes 50 ms a million entries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, final

import msgspec

from ..core.errors import InvariantViolation
from ..tasks.untracked import is_tracked, untracked

CHUNK_KEYS: Final = 4096
"""Keys in one chunk."""
PIECE_ENTRIES_MAX: Final = 512
"""Entries that are encoded in one call: a call of an encoder, in whatever thread, holds up all
others."""
PIECE_ENTRIES_FIRST: Final = 16
"""The first piece has so many: nobody knows yet how large they are."""
PIECE_BYTES: Final = 64 * 1024
"""A piece of more bytes is followed by one of fewer entries."""
STALE_MIN: Final = 65_536
"""So many more keys may be stale than there are entries; then they are put into new chunks all at
once: no view has been gone through for long."""

K = TypeVar("K")
V = TypeVar("V")
_ABSENT: Final[Any] = object()
_ENCODER = msgspec.msgpack.Encoder()
_IMMUTABLE: Final = (type(None), bool, int, float, str, bytes)


@final
class _Open(Generic[K]):
    """A view, as the dict knows it."""

    __slots__ = ("chunks", "compact", "dropped", "held", "is_open", "saved", "stale")

    def __init__(self, chunks: list[list[K]], stale: dict[K, int]) -> None:
        self.chunks: Final = chunks
        self.stale: Final = stale
        """How many of a key's places in the chunks, from the first one on, are no more."""
        self.saved: Final[dict[K, Any]] = {}
        """What the values were that have been changed since."""
        self.held: dict[K, Any] | None = None
        """All others, once the dict was cleared."""
        self.is_open = True
        """Whether values are still to be put aside."""
        self.compact: list[list[K]] | None = None
        """The chunks without what is stale, once it was gone through."""
        self.dropped = 0
        """How many places those have not."""


@final
class DictView(Generic[K]):
    """What a `ViewedDict` held when this was taken. To be gone through once, in any thread."""

    def __init__(self, source: ViewedDict[K, Any], state: _Open[K]) -> None:
        self._source = source
        self._state = state
        self._size = len(source)

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        self._state.is_open = False  # nobody will go through it any more

    def pieces(self, encode: Callable[[list[K], list[Any]], bytes]) -> Iterator[bytes]:
        """All of it, in order, piece by piece; some are empty.

        Args:
            encode: makes bytes of some keys and their values. It changes nothing, and may be called
                twice for the same ones.

        Raises:
            InvariantViolation: the dict was changed by other ways than its own methods.
        """
        state = self._state
        compact: list[list[K]] = []
        count, most = 0, PIECE_ENTRIES_FIRST
        try:
            for keys in self._current_keys():
                start = 0
                while start < len(keys):
                    some = keys[start : start + most]
                    piece = self._encoded(some, encode)
                    start += len(some)
                    most = next_entries(most, len(piece))
                    yield piece
                compact.append(keys)
                count += len(keys)
        finally:
            state.is_open = False
        if count != self._size:
            raise _changed_otherwise(f"a view of {self._size} entries has {count}")
        state.dropped = sum(map(len, state.chunks)) - count
        state.compact = compact
        for kept in (state.saved, state.held or {}, state.stale):  # of no use from here on
            yield from emptied(kept)

    def _current_keys(self) -> Iterator[list[K]]:
        """The chunks, without what is stale."""
        stale = self._state.stale
        passed: dict[K, int] = {}
        for chunk in self._state.chunks:
            if not stale:
                yield chunk
                continue
            keys: list[K] = []
            for key in chunk:
                places = stale.get(key)
                if places is not None:
                    before = passed.get(key, 0)
                    passed[key] = before + 1
                    if before != places:
                        continue
                keys.append(key)
            yield untracked(keys) if len(keys) < len(chunk) else chunk

    def _encoded(self, keys: list[K], encode: Callable[[list[K], list[Any]], bytes]) -> bytes:
        """What these entries were, whatever becomes of them meanwhile."""
        saved, value_of = self._state.saved, self._source.value_of
        while True:
            values = [value_of(key) for key in keys]
            if self._state.held is not None:
                values = [self._state.held.get(key, _ABSENT) for key in keys]
            known = {key for key in keys if key in saved}
            if known:
                values = [
                    saved[key] if key in known else value
                    for key, value in zip(keys, values, strict=True)
                ]
            if any(value is _ABSENT for value in values):
                raise _changed_otherwise("an entry of a view is gone")
            piece = encode(keys, values)
            if all(key in known for key in keys if key in saved):
                return piece  # no value was changed in place while it was encoded


def emptied(entries: dict[Any, Any]) -> Iterator[bytes]:
    """Empty a dict that nobody has any more, a piece at a time, and an empty chunk after each: to
    let go of a million entries at once holds up all threads."""
    while entries:
        for _ in range(min(len(entries), PIECE_ENTRIES_MAX)):
            entries.popitem()
        yield b""


DISCARDED_EACH: Final = 256
"""Entries of a state that was replaced which each command lets go of."""


def _references(containers: list[Any]) -> int:
    """How many there are to what stands last, with the list's, and those of whoever counts."""
    last = containers[-1]
    return sys.getrefcount(last)


_OUR_REFERENCES: Final = _references([{}])
"""To what nobody has but us: as many as this Python counts, which differs from one to the next."""


@final
class Discarded:
    """What a restored snapshot has taken the place of. To let go of a million entries at once holds
    up all threads, and whoever reads it at that moment goes on reading: so the commands that follow
    let go of some each.

    Args:
        each: how many entries of it a command lets go of.
    """

    def __init__(self, each: int = DISCARDED_EACH) -> None:
        self._each = each
        self._containers: list[dict[Any, Any] | list[Any]] = []

    def __bool__(self) -> bool:
        return bool(self._containers)

    def add(self, *containers: dict[Any, Any] | list[Any]) -> None:
        """Nobody needs these any more."""
        self._containers.extend(each for each in containers if len(each) > self._each)

    def let_go(self) -> None:
        """Of some."""
        last = self._containers[-1]
        if isinstance(last, ViewedDict) and last.is_viewed:
            return  # a snapshot of it is still being written
        del last
        if _references(self._containers) > _OUR_REFERENCES:
            self._containers.pop()  # somebody has it, and lets go of it as a whole some time
            return
        last = self._containers[-1]
        pop = partial(dict.popitem, last) if isinstance(last, dict) else last.pop
        for _ in range(min(len(last), self._each)):
            pop()
        if not last:
            self._containers.pop()
            if isinstance(last, ViewedDict):
                self._containers += last.taken_apart()


def _changed_otherwise(what: str) -> InvariantViolation:
    return InvariantViolation(f"{what}: its dict was changed by other ways than its own methods")


def next_entries(entries: int, size_bytes: int) -> int:
    """How many to encode next, if so many were so large."""
    if 2 * size_bytes > PIECE_BYTES:
        return max(1, entries * PIECE_BYTES // size_bytes)
    return min(PIECE_ENTRIES_MAX, 2 * entries)


@final
class _Unencodable:
    """Stands for a value that could not be encoded when it was to be put aside. No command fails
    for it; but what it has become since is not written in its place either."""

    __slots__ = ("_what",)

    def __init__(self, value: object, error: Exception) -> None:
        self._what = f"<a {type(value).__name__} that could not be encoded: {error}>"

    def __repr__(self) -> str:
        return self._what


def frozen(value: Any) -> Any:
    """A value as it is now, in a form that nobody changes."""
    if type(value) in _IMMUTABLE:
        return value
    try:
        return msgspec.Raw(_ENCODER.encode(value))
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever writes the snapshot is told
        return _Unencodable(value, error)


_get, _set, _delete = dict.get, dict.__setitem__, dict.__delitem__


class ViewedDict(dict[K, V]):
    """A dict of which views can be taken; its values are changed in no other way than by setting
    them.

    Args:
        entries: what it holds at first.
        freeze: a value as it is when another takes its place, if whoever has it then may change it;
            None: nobody can.
    """

    __slots__ = ("_before", "_chunks", "_freeze", "_gone", "_retired", "_stale", "_views")
    _is_acyclic: ClassVar = True
    """Whether no value can refer to the dict."""
    _views: tuple[_Open[K], ...]
    _chunks: list[list[K]]
    _stale: dict[K, int]  # places since the last view
    _before: dict[K, int]  # places before it, as long as nobody has gone through it
    _gone: int  # how many places those are
    _retired: list[list[K]]  # chunks that others stand for: they go one by one

    def __init__(
        self, entries: dict[K, V] | None = None, freeze: Callable[[V], Any] | None = None
    ) -> None:
        super().__init__(() if entries is None else entries)
        self._freeze = freeze
        self._views = ()
        self._retired = []
        self._rebuild()
        if self._is_acyclic:
            untracked(self)

    # -- views -----------------------------------------------------------------------------

    def view(self) -> DictView[K]:
        """All that it holds now; changes do not show in it."""
        self._forget_views()
        if sum(map(len, self._chunks)) - self._gone != len(self):
            self._rebuild()  # it was changed by other ways than its methods
        stale, before = self._stale, self._before
        copied = before.copy()  # that of a view that was not gone through; it is empty otherwise
        self._forget_views()
        if copied and self._before is before:  # nor was it meanwhile: who has, empties it then
            stale = copied
            for key, places in self._stale.items():
                stale[key] = stale.get(key, 0) + places
        self._before, self._stale = stale, {}
        state = _Open(self._chunks.copy(), stale)
        self._chunks.append(untracked([]))  # what comes now stands behind it
        self._views = (*self._views, state)
        return DictView(self, state)

    @property
    def is_viewed(self) -> bool:
        """Whether somebody has a view that is not gone through."""
        return any(state.is_open for state in self._views)

    def taken_apart(self) -> list[list[K]]:
        """Its chunks of keys: nobody uses it any more, and they go one by one."""
        return [chunk for chunk in self._chunks if chunk]

    def value_of(self, key: K) -> Any:
        """The value, for a view: it is not to be changed."""
        return _get(self, key, _ABSENT)

    def _rebuild(self) -> None:
        """Put all keys into new chunks, at once."""
        keys = iter(dict.keys(self))
        self._chunks = []
        while some := list(islice(keys, CHUNK_KEYS)):
            self._chunks.append(untracked(some))
        self._chunks.append(untracked([]))
        self._stale, self._before = {}, {}
        self._gone = 0

    def _forget_views(self) -> None:
        """Those that are over; and take the chunks of one that was gone through."""
        for state in self._views:
            if state.compact is not None and state.stale is self._before:
                self._retired += self._chunks[: len(state.chunks)]
                self._chunks[: len(state.chunks)] = [keys for keys in state.compact if keys]
                self._before = {}
                self._gone -= state.dropped
        self._views = tuple(state for state in self._views if state.is_open)

    def _put_aside(self, key: K) -> None:
        """The value of this key, if there is one, is about to be changed."""
        value = _get(self, key, _ABSENT)
        if value is _ABSENT:
            return
        has_closed = False
        for state in self._views:
            if not state.is_open:
                has_closed = True
            elif state.held is None and key not in state.saved:
                state.saved[key] = value if self._freeze is None else self._freeze(value)
        if has_closed:
            self._forget_views()

    def _note_added(self, key: K) -> None:
        last = self._chunks[-1]
        last.append(key)
        if len(last) >= CHUNK_KEYS:
            self._chunks.append(untracked([]))

    def _note_deleted(self, key: K) -> None:
        self._stale[key] = self._stale.get(key, 0) + 1
        self._gone += 1
        if self._retired:
            self._retired.pop()
        if self._gone > len(self) + STALE_MIN:
            self._rebuild()

    # -- what changes it, as of a dict -----------------------------------------------------

    def __setitem__(self, key: K, value: V) -> None:
        if key not in self:
            _set(self, key, value)
            self._note_added(key)
        else:
            if self._views:
                self._put_aside(key)
            _set(self, key, value)
        if self._is_acyclic and is_tracked(self):  # the collector knows the value
            untracked(self)

    def __delitem__(self, key: K) -> None:
        if self._views:
            self._put_aside(key)
        _delete(self, key)
        self._note_deleted(key)

    def pop(self, key: K, *default: Any) -> Any:
        """As of a dict."""
        if key not in self:
            return dict.pop(self, key, *default)
        if self._views:
            self._put_aside(key)
        value = dict.pop(self, key)
        self._note_deleted(key)
        return value

    def popitem(self) -> tuple[K, V]:
        """As of a dict."""
        if self._views and self:
            self._put_aside(next(dict.__reversed__(self)))
        item = dict.popitem(self)
        self._note_deleted(item[0])
        return item

    def setdefault(self, key: K, default: Any = None) -> Any:
        """As of a dict."""
        if key in self:
            return self[key]
        self[key] = default
        return default

    def clear(self) -> None:
        """As of a dict."""
        for state in self._views:
            if state.is_open and state.held is None:
                state.held = dict.copy(self)
        dict.clear(self)
        self._rebuild()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As of a dict."""
        if len(args) > 1:
            dict.update(self, *args)  # it refuses them
        for other in args:
            if type(other) is dict or isinstance(other, ViewedDict):
                self._merge(other)
            else:
                dict.update(self, self._pairs(other))
        if kwargs:
            self._merge(kwargs)

    def _merge(self, other: dict[Any, Any]) -> None:
        """All of a dict in one go: no code of anybody's runs meanwhile."""
        before = len(self)
        if self._views:
            for key in dict.keys(other):
                self._put_aside(key)
        dict.update(self, other)
        count = len(self) - before
        if count == len(other):  # all are new
            added = list(dict.keys(other))
        else:
            added = list(islice(dict.__reversed__(self), count))
            added.reverse()
        self._chunks[-1] += added[:CHUNK_KEYS]
        for start in range(CHUNK_KEYS, len(added), CHUNK_KEYS):
            self._chunks.append(untracked(added[start : start + CHUNK_KEYS]))
        if len(self._chunks[-1]) >= CHUNK_KEYS:
            self._chunks.append(untracked([]))
        if self._is_acyclic and is_tracked(self):
            untracked(self)

    def _pairs(self, other: Any) -> Iterator[Any]:
        """What a dict is to be updated by, one after the other as a dict does it: what is given may
        look at what has been changed so far, and change it too."""
        if hasattr(other, "keys"):
            for key in other.keys():  # noqa: SIM118 - what has keys need not be iterable
                yield from self._noted((key, other[key]))
            return
        for pair in other:
            try:
                given = tuple(pair)
            except TypeError:
                yield pair  # it is refused, as a dict refuses it
                continue
            yield from self._noted(given)

    def _noted(self, given: tuple[Any, ...]) -> Iterator[Any]:
        """A pair that is set when it was handed out, and before another is asked for."""
        is_new = len(given) == 2 and given[0] not in self
        if self._views and len(given) == 2 and not is_new:
            self._put_aside(given[0])
        yield given
        if is_new:
            self._note_added(given[0])

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc] # it has overloads
        self.update(other)
        return self

    def __reduce__(self) -> Any:
        return dict, (dict(self.items()),)


@final
class ViewedDictOfMutable(ViewedDict[K, V]):
    """One whose values can be changed in place: whoever is handed one has it put aside first, for
    who has it may change it. (Nobody may keep one from command to command: a node that was brought
    up by a snapshot would not have it.)"""

    __slots__ = ()
    _is_acyclic = False

    def __init__(
        self,
        entries: dict[K, V] | None = None,
        freeze: Callable[[V], Any] = frozen,
    ) -> None:
        super().__init__(entries, freeze)

    def __getitem__(self, key: K) -> V:
        if self._views:
            self._put_aside(key)
        return dict.__getitem__(self, key)

    def get(self, key: K, default: Any = None) -> Any:
        """As of a dict."""
        if self._views:
            self._put_aside(key)
        return _get(self, key, default)

    def __iter__(self) -> Iterator[K]:
        return dict.__iter__(self)  # as it is; but one that has none is copied around `__getitem__`

    def values(self) -> Any:
        """As of a dict."""
        return _Values(self) if self._views else dict.values(self)

    def items(self) -> Any:
        """As of a dict."""
        return _Items(self) if self._views else dict.items(self)

    def copy(self) -> dict[K, V]:
        """As of a dict."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items())


@final
class _Values(ValuesView[Any]):
    """As a dict's, by way of `__getitem__`."""

    def __init__(self, mapping: ViewedDictOfMutable[Any, Any]) -> None:
        super().__init__(mapping)
        self.mapping = MappingProxyType(mapping)

    def __reversed__(self) -> Iterator[Any]:
        return (self.mapping[key] for key in reversed(self.mapping))

    def __repr__(self) -> str:
        return f"dict_values({list(self)!r})"


@final
class _Items(ItemsView[Any, Any]):
    """As a dict's, by way of `__getitem__`."""

    def __init__(self, mapping: ViewedDictOfMutable[Any, Any]) -> None:
        super().__init__(mapping)
        self.mapping = MappingProxyType(mapping)

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and super().__contains__(item)

    def __reversed__(self) -> Iterator[Any]:
        return ((key, self.mapping[key]) for key in reversed(self.mapping))

    def __repr__(self) -> str:
        return f"dict_items({list(self)!r})"
