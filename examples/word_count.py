"""Counts the words of all objects under a URL, in as many pieces as it takes: python word_count.py s3://bucket/reviews/"""

import argparse
import random
from collections import Counter

import cloudpool as multiprocessing
from cloudpool.chunking import map_reduce, partition

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "reads",
    "good",
    "reviews",
]


def write(part, url):
    """Some reviews, the same for the same part."""
    dice = random.Random(part.index)
    with part.output(url, suffix=".txt") as file:
        for _ in part:
            words = dice.choices(WORDS, weights=range(len(WORDS), 0, -1), k=dice.randint(5, 40))
            file.write(" ".join(words).encode() + b"\n")


def count(part):
    words = Counter()
    for line in part:
        words.update(line.split())
    return words


def add(counts):
    total = Counter()
    for words in counts:
        total.update(words)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="reviews/", help="a prefix, a folder, a glob; %(default)s")
    parser.add_argument("--chunk-size", default="1 MiB")
    parser.add_argument("--top", type=int, default=5)
    options = parser.parse_args()
    with multiprocessing.Pool() as pool:
        try:
            parts = partition(options.url, chunk_size=options.chunk_size)
        except FileNotFoundError:
            print(f"Nothing is under {options.url}: writing 20 objects with 100,000 reviews.")
            pool.starmap(write, [(part, options.url) for part in partition(range(100_000), chunks=20)])
            parts = partition(options.url, chunk_size=options.chunk_size)
        words = map_reduce(pool, count, parts, add)
    for word, times in words.most_common(options.top):
        print(f"{times:8} {word}")
    print(f"{words.total():8} words in {len(parts)} pieces")
