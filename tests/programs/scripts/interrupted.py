# Workers ignore SIGINT, the parent handles KeyboardInterrupt, terminates the pool and says so. fork spawn
import multiprocessing
import os
import signal
import sys
import threading


def init_worker(ready):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready.wait()  # an interpreter that is still starting dies of Ctrl-C


def crack(n):
    return n * 7 % 13


def forever(_):
    threading.Event().wait()


def main():
    ready = multiprocessing.Barrier(4)
    pool = multiprocessing.Pool(3, init_worker, (ready,))
    try:
        ready.wait()
        print(pool.map(crack, range(20)))
        result = pool.map_async(forever, range(3))
        # What the terminal does when the user presses Ctrl-C
        threading.Timer(0.3, os.killpg, (os.getpgrp(), signal.SIGINT)).start()
        result.get(60)
    except KeyboardInterrupt:
        print("Caught KeyboardInterrupt, terminating workers")
        pool.terminate()
        pool.join()
        print("workers gone", len(multiprocessing.active_children()))
        return 130
    else:
        print("Quitting normally")
        pool.close()
        pool.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    sys.exit(main())
