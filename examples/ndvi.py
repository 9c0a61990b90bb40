"""How green each tile of an image is: the mean of (near infrared - red) / (near infrared + red). python ndvi.py s3://bucket/tiles/

A tile is an NPY file of pixels with two numbers, red and near infrared; each is cut by its rows.
"""

import argparse
import io

import numpy as np

import cloudpool as multiprocessing
from cloudpool.chunking import map_reduce, partition

SHAPE = 512, 512, 2  # rows, columns, and red and near infrared


def write(part, url):
    """A tile, the same for the same part: the further, the greener."""
    dice = np.random.default_rng(part.index)
    tile = dice.integers(1, 2000, SHAPE, dtype="u2")
    tile[..., 1] += np.uint16(500 * part.index)
    data = io.BytesIO()
    np.save(data, tile)
    with part.output(url, suffix=".npy") as file:
        file.write(data.getvalue())


def greenness(part):
    """The sum of the index over the piece's pixels, and how many they are."""
    red, infrared = np.moveaxis(part.array().astype("f8"), -1, 0)
    index = (infrared - red) / (infrared + red)
    return index.sum(), index.size


def add(sums):
    return tuple(map(sum, zip(*sums)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="tiles/", help="a prefix, a folder, a glob; %(default)s")
    parser.add_argument("--chunk-size", default="256 KiB")
    options = parser.parse_args()
    with multiprocessing.Pool() as pool:
        try:
            parts = partition(options.url, chunk_size=options.chunk_size)
        except FileNotFoundError:
            print(f"Nothing is under {options.url}: writing 4 tiles.")
            pool.starmap(write, [(part, options.url) for part in partition(range(4), chunks=4)])
            parts = partition(options.url, chunk_size=options.chunk_size)
        tiles = map_reduce(pool, greenness, parts, add, per_object=True)
    for url, (total, pixels) in tiles.items():
        print(f"{total / pixels:8.4f} {url.rpartition('/')[2]}")
    print(f"{sum(pixels for _, pixels in tiles.values())} pixels in {len(parts)} pieces")
