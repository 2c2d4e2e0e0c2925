"""A conformance suite for storages: run it against your own.

Rules of this file: the checks know nothing of any implementation; a failure is a
`StorageRuleBroken` whose message names the rule of the protocol.

```python
@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=lambda check: check.__name__)
def test_my_storage(check, tmp_path):
    check_storage(lambda: MyStorage(tmp_path), reborn=lambda s: MyStorage(tmp_path), checks=[check])
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from .storage_log_checks import LOG_CHECKS
from .storage_rules import StorageBench, StorageFactory, StorageReborn
from .storage_snapshot_checks import SNAPSHOT_CHECKS

StorageCheck: TypeAlias = Callable[[StorageBench], None]
"""Checks one rule; its name and docstring say which."""

STORAGE_CHECKS: tuple[StorageCheck, ...] = (*LOG_CHECKS, *SNAPSHOT_CHECKS)
"""Every rule of the protocol that can be checked from outside."""


def check_storage(
    factory: StorageFactory,
    *,
    reborn: StorageReborn = lambda storage: storage,
    checks: Iterable[StorageCheck] = STORAGE_CHECKS,
) -> None:
    """Check that a storage keeps the protocol (`trioraft.storage.base.Storage`).

    Calls block if the storage does: run it in a thread beside Trio, or in a plain test.

    Args:
        factory: gives a new, empty storage for each check.
        reborn: gives a storage over what a closed one held, as a new process would. Without it
            the same object is opened again.
        checks: which rules; all of them if not given.

    Raises:
        StorageRuleBroken: the first rule that is not kept, with the values.
    """
    for check in checks:
        bench = StorageBench(factory, reborn)
        try:
            check(bench)
        finally:
            bench.storage.close()
