"""What cloudpool adds, and what is wrong in its use."""

from concurrent.futures import Future

import cloudpool
import cloudpool.errors
import cloudpool.pool
from cloudpool import Executor, errors, install
from cloudpool.errors import CloudpoolError, WorkerLostError

with cloudpool.Pool(2) as pool:
    lengths: list[int] = pool.map(len, ["a"], progress=True)
    later: cloudpool.pool.MapResult[int] = pool.map_async(len, ["a"], progress=False)
    pairs: list[tuple[int, int]] = pool.starmap(divmod, [(1, 2)], progress=True)
    pool.starmap_async(divmod, [(1, 2)], progress=None)
    one: int = pool.imap(len, ["a"], 10, progress=True).next()
    for length in pool.imap_unordered(len, ["a"], progress=True):
        one += length
    pool.map(len, ["a"], progress="yes")  # wrong
    pool.map(len, [3], progress=True)  # wrong
    texts: list[str] = pool.starmap(len, [("a",)], progress=True)  # wrong

cloudpool.get_context("spawn").Pool(1).map(len, ["a"], progress=True)
cloudpool.get_context("somewhere").Pool(1).map(len, ["a"], progress=True)
cloudpool.set_start_method("somewhere")

with Executor(max_workers=2, max_tasks_per_child=5) as executor:
    future: Future[int] = executor.submit(len, "a")
    total: int = sum(executor.map(len, ["a", "b"], chunksize=10, timeout=1.0))
    executor.shutdown(wait=False, cancel_futures=True)
    wrong: str = executor.submit(len, "a").result()  # wrong
    executor.submit(len, 3)  # wrong
    Executor(max_workers="2")  # wrong

try:
    cloudpool.install()
    install.uninstall()
except WorkerLostError as error:
    print(isinstance(error, CloudpoolError))
except (errors.ServerError, cloudpool.errors.SessionLostError, errors.MissingExtraError):
    print(cloudpool.__version__)
cloudpool.errors.LostError  # wrong
