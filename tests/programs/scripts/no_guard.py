# Written on Linux, where everything is forked: no main guard, the pool is a global, functions are lambdas. fork
from multiprocessing import Pool, Process, Queue, Value, cpu_count

table = {}
for i in range(10):
    table[i] = i * i


def look_up(i):
    return table[i]


pool = Pool(2)
print(pool.map(look_up, range(10)))

q = Queue()
counter = Value("i", 0)


def bump(n):
    for _ in range(n):
        with counter.get_lock():
            counter.value += 1


jobs = [Process(target=lambda n=n: (bump(n), q.put((n, table[n])))) for n in range(5)]
for p in jobs:
    p.start()
print(sorted(q.get() for p in jobs))
for p in jobs:
    p.join()
print(counter.value, [p.exitcode for p in jobs])
table[3] = -1  # the workers have their copy
print(pool.apply(look_up, (3,)), cpu_count() > 0)
pool.close()
pool.join()
