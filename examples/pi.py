"""Pi by the dartboard: of random points in the unit square, the quarter circle gets a share of pi / 4."""

import argparse
import math
import random

import cloudpool as multiprocessing


def throw(seed, samples, results):
    generator = random.Random(seed)
    hits = 0
    for _ in range(samples):
        x = generator.random()
        y = generator.random()
        if x * x + y * y <= 1.0:
            hits += 1
    results.put(hits)


def main():
    parser = argparse.ArgumentParser(description="Estimate pi with many processes.")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--samples", type=int, default=15_000_000)
    args = parser.parse_args()
    np, n = args.processes, args.samples
    if np < 1 or n < 1:
        parser.error("--processes and --samples must be at least 1")

    results = multiprocessing.Queue()
    shares = [n // np + (i < n % np) for i in range(np)]
    processes = [multiprocessing.Process(target=throw, args=(i, shares[i], results)) for i in range(np)]
    for process in processes:
        process.start()
    hits = sum(results.get() for _ in processes)
    for process in processes:
        process.join()

    pi = 4 * hits / n
    print(f"pi = {pi:.6f}, error {pi - math.pi:+.6f} ({n} samples, {np} processes)")


if __name__ == "__main__":
    main()
