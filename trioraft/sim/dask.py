"""Dask: many seeds over an existing Dask cluster.

Rules of this file: `distributed` is an extra, and imported only here and only when it is asked for.
Its workers need this very version of trioraft.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from ..core.errors import ConfigError
from .outcomes import RunOptions, RunOutcome
from .spread import in_chunks, run_chunk

CHUNKS_AHEAD: Final = 4
"""Chunks per thread of the cluster that wait there."""
CONNECT_TIMEOUT: Final = "10s"


def over_dask(
    seeds: range, *, tier: int, options: RunOptions, address: str
) -> Iterator[RunOutcome]:
    """Outcomes of all seeds, from the workers of an existing Dask cluster.

    Raises:
        ConfigError: it cannot be reached, or `trioraft[dask]` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ConfigError("--dask needs: pip install 'trioraft[dask]'") from error
    connect: Any = Client  # it has no types
    try:
        client = connect(address, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler at {address!r}: {error}") from error
    run = partial(run_chunk, tier=tier, options=options)
    with client:
        threads = max(1, sum(client.nthreads().values()))
        chunks, waiting = in_chunks(seeds, threads), []
        for chunk in chunks:
            waiting.append(client.submit(run, chunk, pure=False))
            if len(waiting) >= CHUNKS_AHEAD * threads:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
