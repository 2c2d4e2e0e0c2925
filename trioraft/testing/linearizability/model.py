"""Model: what a single, well-behaved copy of the thing would do.

Rules of this file:

* A model has no state of its own: the state goes in and comes out.
* What only helps the search to be fast has a default that is right for every model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .operation import Operation

S = TypeVar("S", bound=Hashable)


class Model(ABC, Generic[S]):
    """The sequential behaviour that a history is checked against. Write your own:

    ```python
    class Sticky(Model[str | None]):
        '''A cell that keeps the first value it is given, and answers with it.'''

        name = "sticky"

        def initial(self):
            return None

        def apply(self, state, call):
            value = call if state is None else state
            return value, value
    ```
    """

    name: str
    """Stands in the files of histories."""
    calls: Any = Any
    """The type of calls, in terms of msgspec: for reading them back from a file."""
    results: Any = Any
    """The type of results, likewise."""

    @abstractmethod
    def initial(self) -> S:
        """The state before the first operation; hashable, as every state."""

    @abstractmethod
    def apply(self, state: S, call: Any) -> tuple[S, Any]:
        """What `call` does to `state`: the state after it, and its result. Pure.

        Results are compared with `==` to what was recorded.
        """

    def partition(self, operations: Sequence[Operation]) -> Mapping[str, Sequence[Operation]]:
        """Split into parts that know nothing of each other, such as the keys of a dictionary.

        A history is linearizable exactly if each part is, and small parts are checked much
        sooner. Pending operations that no answer can depend on may be left out here: each of
        them costs, because it may have happened at any time or never.

        Args:
            operations: all but those that certainly did not happen.

        Returns:
            The operations of each part, by a name for people.
        """
        return {"": operations}

    def only_reads(self, operation: Operation) -> bool:
        """Whether an operation with this answer leaves every state as it is in which it can have
        that answer. Such a one is placed as soon as it fits, and nothing else is tried there."""
        return False

    def abstraction(self, operations: Sequence[Operation]) -> Callable[[S], S]:
        """Which states of a part are as good as equal: no answer recorded in it can tell them,
        nor what becomes of them, apart. A checker that knows looks at them once.

        Args:
            operations: one part.

        Returns:
            A function that gives one state for all that are alike.
        """
        return _itself


def _itself(state: S) -> S:
    return state
