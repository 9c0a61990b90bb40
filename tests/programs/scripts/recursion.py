# Processes that have pools of their own, the way people get around "daemonic processes are not allowed to have children". fork
import multiprocessing
import multiprocessing.pool


class NoDaemonProcess(multiprocessing.Process):
    @property
    def daemon(self):
        return False

    @daemon.setter
    def daemon(self, value):
        pass


class NoDaemonContext(type(multiprocessing.get_context())):
    Process = NoDaemonProcess


# We sub-class multiprocessing.pool.Pool instead of multiprocessing.Pool
# because the latter is only a wrapper function, not a proper class.
class NestablePool(multiprocessing.pool.Pool):
    def __init__(self, *args, **kwargs):
        kwargs["context"] = NoDaemonContext()
        super(NestablePool, self).__init__(*args, **kwargs)


def inner(x):
    return x * x


def outer(n):
    pool = multiprocessing.Pool(2)
    result = pool.map(inner, range(n))
    pool.close()
    pool.join()
    return sum(result)


def branch(depth, q):
    if depth == 0:
        q.put(outer(3))
        return
    children = [multiprocessing.Process(target=branch, args=(depth - 1, q)) for _ in range(2)]
    for c in children:
        c.start()
    for c in children:
        c.join()


if __name__ == "__main__":
    pool = NestablePool(2)
    print(pool.map(outer, [2, 3, 4, 5]))
    pool.close()
    pool.join()
    q = multiprocessing.Queue()
    p = multiprocessing.Process(target=branch, args=(2, q))
    p.start()
    print([q.get() for _ in range(4)])
    p.join()
    print(p.exitcode)
