"""dynesty: a nested sampler with a pool of its own kind and a queue size."""

# requires: dynesty numpy
from multiprocessing import Pool

import dynesty
import dynesty.pool
import numpy as np


def loglike(x):
    return -0.5 * float(np.dot(x, x))


def transform(u):
    return 10.0 * u - 5.0


if __name__ == "__main__":
    with Pool(2) as pool:
        sampler = dynesty.NestedSampler(
            loglike, transform, 2, nlive=40, pool=pool, queue_size=2, rstate=np.random.default_rng(5)
        )
        sampler.run_nested(dlogz=5.0, print_progress=False, maxiter=60)
        print(round(float(sampler.results.logz[-1]), 6), sampler.results.niter)
    with dynesty.pool.Pool(2, loglike, transform) as pool:
        sampler = dynesty.NestedSampler(
            pool.loglike, pool.prior_transform, 2, nlive=40, pool=pool, rstate=np.random.default_rng(5)
        )
        sampler.run_nested(print_progress=False, maxiter=40)
        print(round(float(sampler.results.logz[-1]), 6))
