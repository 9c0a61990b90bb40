"""emcee: an EnsembleSampler that evaluates its walkers in a pool."""

# requires: emcee numpy
from multiprocessing import Pool

import emcee
import numpy as np


def log_prob(theta, ivar):
    return -0.5 * np.sum(ivar * theta**2)


if __name__ == "__main__":
    np.random.seed(42)
    start = np.random.randn(16, 3)
    with Pool(2) as pool:
        sampler = emcee.EnsembleSampler(16, 3, log_prob, args=[np.array([1.0, 2.0, 3.0])], pool=pool)
        sampler.random_state = np.random.RandomState(7).get_state()
        sampler.run_mcmc(start, 8)
    print(sampler.get_chain()[-1, :3].round(8).tolist(), round(float(sampler.acceptance_fraction.mean()), 6))
