"""Price of an Asian option, a seed a batch so that the answer does not depend on the workers. fork spawn"""

import math
import multiprocessing as mp
import random
import sys

S0, K, R, SIGMA, T, STEPS = 100.0, 105.0, 0.02, 0.3, 1.0, 20


def batch(seed):
    rng = random.Random(seed)
    dt = T / STEPS
    total = 0.0
    for _ in range(200):
        s, acc = S0, 0.0
        for _ in range(STEPS):
            s *= math.exp((R - SIGMA**2 / 2) * dt + SIGMA * math.sqrt(dt) * rng.gauss(0, 1))
            acc += s
        total += max(acc / STEPS - K, 0.0)
    return math.exp(-R * T) * total / 200


def pi_part(args):
    seed, n = args
    rng = random.Random(seed)
    return sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(n))


class Walker:
    """A bound method is mapped, too."""

    def __init__(self, length):
        self.length = length

    def walk(self, seed):
        rng = random.Random(seed)
        return sum(rng.choice((-1, 1)) for _ in range(self.length))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mp.set_start_method(sys.argv[1])
    prices = []
    for workers in (1, 3):
        with mp.Pool(workers) as pool:
            values = pool.map(batch, range(24))
            prices.append(sum(values) / len(values))
    print("%.10f %s" % (prices[0], prices[0] == prices[1]))
    with mp.get_context().Pool(2) as pool:
        hits = sum(pool.imap_unordered(pi_part, ((seed, 2000) for seed in range(10)), 2))
        print(4 * hits / 20000)
        print(pool.map(Walker(100).walk, range(10)))
