"""parmap with pools of its own and given; deap's toolbox with map from a Pool."""

# requires: parmap deap
import multiprocessing
import random

import parmap
from deap import algorithms, base, creator, tools

creator.create("FitnessMax", base.Fitness, weights=(1.0,))
creator.create("Individual", list, fitness=creator.FitnessMax)


def scaled(x, factor, offset=0):
    return x * factor + offset


def ones(individual):
    return (sum(individual),)


def main():
    print(parmap.map(scaled, range(6), 3, offset=1, pm_processes=2))
    with multiprocessing.Pool(2) as pool:
        print(parmap.starmap(pow, [(2, 3), (3, 2)], pm_pool=pool))
        random.seed(64)
        toolbox = base.Toolbox()
        toolbox.register("bit", random.randint, 0, 1)
        toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.bit, 20)
        toolbox.register("population", tools.initRepeat, list, toolbox.individual)
        toolbox.register("evaluate", ones)
        toolbox.register("mate", tools.cxTwoPoint)
        toolbox.register("mutate", tools.mutFlipBit, indpb=0.05)
        toolbox.register("select", tools.selTournament, tournsize=3)
        toolbox.register("map", pool.map)
        population, log = algorithms.eaSimple(toolbox.population(n=20), toolbox, 0.5, 0.2, 4, verbose=False)
        print([entry["nevals"] for entry in log], tools.selBest(population, 1)[0].fitness.values)


if __name__ == "__main__":
    main()
