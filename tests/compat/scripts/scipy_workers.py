"""scipy: workers=N and workers=pool.map in differential_evolution, brute and quad_vec."""

# requires: scipy numpy
from multiprocessing import Pool

import numpy as np
from scipy import integrate, optimize


def rosen(x):
    return float(sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def bump(x):
    return np.array([np.exp(-x), x * x])


def main():
    bounds = [(-2, 2)] * 2
    with Pool(2) as pool:
        result = optimize.differential_evolution(
            rosen, bounds, workers=pool.map, updating="deferred", maxiter=5, popsize=5, rng=1, polish=False
        )
        print(result.x.round(8).tolist(), result.nfev)
        print(
            optimize.brute(rosen, ((-1, 1.5, 0.25), (-1, 1.5, 0.25)), workers=pool.map, finish=None).tolist()
        )
    result = optimize.differential_evolution(
        rosen, bounds, workers=2, updating="deferred", maxiter=2, popsize=4, rng=1, polish=False
    )
    print(result.x.round(8).tolist())
    print(integrate.quad_vec(bump, 0, 2, workers=2)[0].round(8).tolist())


if __name__ == "__main__":
    main()
