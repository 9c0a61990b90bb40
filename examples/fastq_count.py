"""Counts reads and their quality in FASTQ files, compressed ones too: python fastq_count.py s3://bucket/run7/"""

import argparse
import random

import cloudpool as multiprocessing
from cloudpool.chunking import map_reduce, partition

GOOD = 30  # a base that is wrong once in a thousand times


def write(part, url):
    """Reads of a sequencer, the same for the same part. @, which begins a record, is a quality as well."""
    dice = random.Random(part.index)
    with part.output(url, suffix=".fastq") as file:
        for number in part:
            length = dice.randint(50, 150)
            bases = "".join(dice.choices("ACGT", k=length))
            quality = "".join(map(chr, dice.choices(range(33, 75), k=length)))
            file.write(f"@read{number}\n{bases}\n+\n{quality}\n".encode())


def count(part):
    """Reads, bases, bases that are G or C, bases of good quality."""
    reads = bases = gc = good = 0
    for _, sequence, quality in part:
        reads += 1
        bases += len(sequence)
        gc += sequence.count("G") + sequence.count("C")
        good += sum(ord(q) - 33 >= GOOD for q in quality)
    return reads, bases, gc, good


def add(counts):
    return tuple(map(sum, zip(*counts)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="reads/", help="a prefix, a folder, a glob; %(default)s")
    parser.add_argument("--chunk-size", default="256 KiB")
    options = parser.parse_args()
    with multiprocessing.Pool() as pool:
        try:
            parts = partition(options.url, chunk_size=options.chunk_size)
        except FileNotFoundError:
            print(f"Nothing is under {options.url}: writing 4 objects with 20,000 reads.")
            pool.starmap(write, [(part, options.url) for part in partition(range(20_000), chunks=4)])
            parts = partition(options.url, chunk_size=options.chunk_size)
        reads, bases, gc, good = map_reduce(pool, count, parts, add)
    print(
        f"{reads} reads, {bases} bases: {gc / bases:.2%} G or C, {good / bases:.2%} good, in {len(parts)} pieces"
    )
