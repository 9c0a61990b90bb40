"""Times cloudpool.chunking beside what else reads S3 in Python: each in a process of its own, in turn, on one server.

    python benchmarks/chunking.py [--rounds 3] [--mebibytes 512] [--objects 10000] [--json FILE] [ROW ...]

AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name the server, on which it makes a bucket. Libraries that
are not installed are left out. Absolute figures are this machine's and this moment's: believe the ratios, which are to
the best of the others.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

BUCKET = "cloudpool-benchmark"
LARGE, LINES, PREFIX = "large.bin", "lines.txt", "many/"
LOCAL = "/tmp/cloudpool-benchmark.txt"  # noqa: S108 - of no value to anybody
STEP = 1 << 20

Reader = Callable[[int, int], int]  # bytes [start, stop) of the large object; how many there were


def boto3_client() -> Any:
    import boto3

    return boto3.client("s3")


def read_cloudpool(start: int, stop: int) -> int:
    from cloudpool.chunking import partition

    size = stop - start
    part = partition(f"s3://{BUCKET}/{LARGE}", chunk_size=size, format="bytes")[start // size]
    return sum(map(len, part))


def read_boto3(start: int, stop: int) -> int:
    body = boto3_client().get_object(Bucket=BUCKET, Key=LARGE, Range=f"bytes={start}-{stop - 1}")["Body"]
    return sum(map(len, iter(lambda: body.read(STEP), b"")))


def read_s3fs(start: int, stop: int) -> int:
    import s3fs

    files = s3fs.S3FileSystem(client_kwargs={"endpoint_url": os.environ["AWS_ENDPOINT_URL"]})
    block = 64 << 20
    return sum(
        len(files.read_block(f"{BUCKET}/{LARGE}", at, min(block, stop - at)))
        for at in range(start, stop, block)
    )


def read_dask(start: int, stop: int) -> int:
    from dask.bytes import read_bytes

    block = 64 << 20
    options = {"client_kwargs": {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}}
    _, (blocks,) = read_bytes(f"s3://{BUCKET}/{LARGE}", blocksize=block, sample=False, **options)
    mine = blocks[start // block : -(-stop // block)]
    return sum(len(one.compute(scheduler="synchronous")) for one in mine)


def read_smart_open(start: int, stop: int) -> int:
    import smart_open

    with smart_open.open(f"s3://{BUCKET}/{LARGE}", "rb", transport_params={"client": boto3_client()}) as file:
        file.seek(start)
        done = 0
        while done < stop - start and (data := file.read(min(STEP, stop - start - done))):
            done += len(data)
    return done


def read_obstore(start: int, stop: int) -> int:
    import obstore
    from obstore.store import S3Store

    store = S3Store(BUCKET, client_options={"allow_http": True})
    stream = obstore.get(store, LARGE, options={"range": (start, stop)}).stream(min_chunk_size=STEP)
    return sum(map(len, stream))


READERS: dict[str, Reader] = {
    "cloudpool": read_cloudpool, "boto3": read_boto3, "s3fs": read_s3fs, "dask": read_dask,
    "smart_open": read_smart_open, "obstore": read_obstore,
}  # fmt: skip


def plan_cloudpool() -> int:
    from cloudpool.chunking import partition

    return len(partition(f"s3://{BUCKET}/{PREFIX}"))


def plan_boto3() -> int:
    pages = boto3_client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
    return sum(len(page.get("Contents", ())) for page in pages)


def plan_s3fs() -> int:
    import s3fs

    return len(
        s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            client_kwargs={"endpoint_url": os.environ["AWS_ENDPOINT_URL"]},
        ).find(f"{BUCKET}/{PREFIX}")
    )


def plan_lithops() -> int:
    from lithops.config import extract_storage_config
    from lithops.job.partitioner import create_partitions
    from lithops.storage import InternalStorage

    place = {"endpoint": os.environ["AWS_ENDPOINT_URL"], "region": "us-east-1",
             "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
             "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"], "storage_bucket": BUCKET}  # fmt: skip
    config = {
        "lithops": {"storage": "aws_s3", "backend": "localhost"},
        "aws_s3": place,
        "aws": {"region": "us-east-1"},
    }
    storage = InternalStorage(extract_storage_config(config))
    items = [{"obj": f"aws_s3://{BUCKET}/{PREFIX}"}]
    return len(create_partitions(config, storage, items, None, None, "\n")[0])


def plan_dask() -> int:
    from dask.bytes import read_bytes

    options = {"client_kwargs": {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}}
    return len(read_bytes(f"s3://{BUCKET}/{PREFIX}*", blocksize=None, sample=False, **options)[1])


def plan_obstore() -> int:
    import obstore
    from obstore.store import S3Store

    return sum(
        map(len, obstore.list(S3Store(BUCKET, client_options={"allow_http": True}), PREFIX, chunk_size=1000))
    )


PLANNERS = {
    "cloudpool": plan_cloudpool, "boto3": plan_boto3, "s3fs": plan_s3fs, "lithops": plan_lithops, "dask": plan_dask,
    "obstore": plan_obstore,
}  # fmt: skip


def iterate_cloudpool() -> int:
    from cloudpool.chunking import partition

    return sum(1 for part in partition(LOCAL, chunk_size="64 MiB") for _ in part)


def iterate_python() -> int:
    with open(LOCAL, encoding="utf-8", newline="\n") as file:
        return sum(1 for _ in file)


def iterate_cloudpool_s3() -> int:
    from cloudpool.chunking import partition

    return sum(1 for part in partition(f"s3://{BUCKET}/{LINES}") for _ in part)


def iterate_boto3() -> int:
    body = boto3_client().get_object(Bucket=BUCKET, Key=LINES)["Body"]
    return sum(1 for _ in body.iter_lines(STEP))


def iterate_smart_open() -> int:
    import smart_open

    with smart_open.open(f"s3://{BUCKET}/{LINES}", transport_params={"client": boto3_client()}) as file:
        return sum(1 for _ in file)


def iterate_s3fs() -> int:
    import s3fs

    files = s3fs.S3FileSystem(client_kwargs={"endpoint_url": os.environ["AWS_ENDPOINT_URL"]})
    with files.open(f"{BUCKET}/{LINES}", "r", encoding="utf-8") as file:
        return sum(1 for _ in file)


LOCAL_LINES = {"cloudpool": iterate_cloudpool, "python": iterate_python}
S3_LINES = {
    "cloudpool": iterate_cloudpool_s3,
    "boto3": iterate_boto3,
    "smart_open": iterate_smart_open,
    "s3fs": iterate_s3fs,
}

ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {  # unit, who, whether more is better
    "one worker": ("MiB/s", READERS, True),
    "four workers": ("MiB/s", READERS, True),
    "peak memory": ("MiB", READERS, False),
    "planning": ("s", PLANNERS, False),
    "lines of a file": ("million/s", LOCAL_LINES, True),
    "lines of an object": ("million/s", S3_LINES, True),
}


def share(job: tuple[str, int, int]) -> int:
    name, start, stop = job
    return READERS[name](start, stop)


def measure(row: str, name: str, size: int) -> float:
    """One figure, in this process, which is new. Imports and first connections are not counted but for planning's."""
    act = ROWS[row][1][name]
    if row == "four workers":
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            quarter = size // 4
            jobs = [(name, n * quarter, (n + 1) * quarter) for n in range(4)]
            pool.map(share, [(name, 0, quarter)] * 4, chunksize=1)
            began = time.perf_counter()
            assert sum(pool.map(share, jobs, chunksize=1)) == size
            return (size >> 20) / (time.perf_counter() - began)
    if row in ("one worker", "peak memory"):
        act(0, size // 8)
        began = time.perf_counter()
        assert act(0, size) == size
        if row == "peak memory":
            return peak_bytes() / (1 << 20)
        return (size >> 20) / (time.perf_counter() - began)
    act()
    began = time.perf_counter()
    count = int(act())
    took = time.perf_counter() - began
    return took if row == "planning" else count / took / 1e6


def peak_bytes() -> int:
    """Of this program alone: getrusage() counts what was before exec."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def prepare(size: int, objects: int) -> None:
    client = boto3_client()
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    from cloudpool.chunking.stores.s3 import S3Store

    store = S3Store.of(BUCKET, None, False, {})
    there = {entry.key: entry.size for entry in store.list("")}
    if there.get(LARGE) != size:
        writer = store.writer(LARGE)
        block = os.urandom(STEP)
        for n in range(size // STEP):
            writer.write(n.to_bytes(8, "little") + block[8:])
        writer.close()
    if LINES not in there:
        writer = store.writer(LINES)
        for n in range(200):
            writer.write(
                "".join(
                    f"line {n * 10_000 + m} of a text, as lines go: {m}\n" for m in range(10_000)
                ).encode()
            )
        writer.close()
    with open(LOCAL, "w", encoding="utf-8") as file:
        for n in range(200):
            file.write("".join(f"line {n * 10_000 + m} of a text, as lines go: {m}\n" for m in range(10_000)))

    def put(n: int) -> None:
        writer = store.writer(f"{PREFIX}{n:06}.txt")
        writer.write(b"x\n")
        writer.close()

    missing = [n for n in range(objects) if f"{PREFIX}{n:06}.txt" not in there]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, missing))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--json")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.mebibytes << 20
    if options.one:
        print(measure(*options.one, size))
        return
    prepare(size, options.objects)
    figures: dict[str, dict[str, float]] = {}
    for row in options.rows or ROWS:
        unit, names, more = ROWS[row]
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    row,
                    name,
                    "--mebibytes",
                    str(options.mebibytes),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    found[name].append(float(done.stdout.split()[-1]))
                elif "ModuleNotFoundError" not in done.stderr:
                    print(f"{row}, {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        figures[row] = {name: statistics.median(values) for name, values in found.items() if values}
        others = [value for name, value in figures[row].items() if name != "cloudpool"]
        best = max(others) if more else min(others)
        print(f"{row} ({unit}), best of the others is 1 and {'more' if more else 'less'} is better:")
        for name, value in figures[row].items():
            print(f"    {name:12} {value:10.3f}   {value / best:6.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
