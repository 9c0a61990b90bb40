"""Manager's objects in loky's workers, which are nobody's Process: the usual way to share a dict among joblib's jobs."""

# requires: joblib
# one host: the processes are loky's
import multiprocessing

from joblib import Parallel, delayed


def note(shared, lock, queue, i):
    with lock:
        shared[i] = i * i
        shared["sum"] = shared.get("sum", 0) + i
    queue.put(i)
    return len(shared) > 1


def main():
    with multiprocessing.Manager() as manager:
        shared, lock, queue, done = manager.dict(), manager.Lock(), manager.Queue(), manager.Value("i", 0)
        print(Parallel(n_jobs=2)(delayed(note)(shared, lock, queue, i) for i in range(10)))
        print(shared["sum"], sorted(queue.get() for _ in range(10)), queue.empty(), done.value)
    with multiprocessing.Manager() as manager:
        words = manager.list()
        Parallel(n_jobs=2)(delayed(words.append)(str(i)) for i in range(4))
        print(sorted(words))


if __name__ == "__main__":
    main()
