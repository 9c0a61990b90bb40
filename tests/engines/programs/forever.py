"""A far process that works until someone ends it; its root sleeps."""

import time

import cloudpool as multiprocessing


def work(ready):
    ready.set()
    while True:
        time.sleep(0.1)


if __name__ == "__main__":
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=work, args=(ready,))
    process.start()
    ready.wait(120)
    print("working", flush=True)
    time.sleep(600)
