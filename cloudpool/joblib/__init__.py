"""`import cloudpool.joblib`, then `joblib.parallel_backend("cloudpool")` (or parallel_config): joblib's calls on cloudpool's Pool.

joblib's memory-mapping of large arrays is left out: the pool's payloads above 64 KiB are shared memory already. A map of a file
goes by its path, as in joblib's other backends, since workers may be meant to write to it.
"""

from __future__ import annotations

import sys
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import FallbackToBackend, MultiprocessingBackend, SequentialBackend

from cloudpool.context.contexts import default_context
from cloudpool.context.memory_maps import mapped_alone
from cloudpool.context.pool import Pool
from cloudpool.serialize import Reducers

__all__ = ["CloudpoolBackend"]


class CloudpoolBackend(MultiprocessingBackend):
    """joblib's multiprocessing backend, with a Pool of cloudpool; n_jobs=-1 means the `workers` setting."""

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `n_jobs` stands for; 1 where no pool can be (in a pool's own worker)."""
        if n_jobs is not None and n_jobs < 0:
            n_jobs = max(default_context.cpu_count() + 1 + n_jobs, 1)
        return int(super().effective_n_jobs(n_jobs))

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **unused: Any
    ) -> int:
        """Start the pool. joblib's options for memory-mapping are taken and not needed."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._pool = _Pool(n_jobs, context=default_context.get_context())
        self.parallel = parallel
        return n_jobs


class _Pool(Pool):
    """Has the reducers where the pool looks for those of joblib's own."""

    def __init__(self, *args: Any, **kwds: Any) -> None:
        self._forward_reducers = _of_memory_maps()
        super().__init__(*args, **kwds)


def _of_memory_maps() -> Reducers:
    if "numpy" not in sys.modules:
        return {}
    import numpy as np
    from joblib._memmapping_reducer import ArrayMemmapForwardReducer

    makes_none = {"max_nbytes": None, "temp_folder_resolver": None, "mmap_mode": None}
    by_path = mapped_alone(ArrayMemmapForwardReducer(**makes_none, unlink_on_gc_collect=False))
    return {np.ndarray: by_path, np.memmap: by_path}


register_parallel_backend("cloudpool", CloudpoolBackend)
