"""A tour of multiprocessing: each thing is used once, and a line says what came of it."""

import cloudpool as multiprocessing


def guide(queue, pipe, lock, total, names):
    queue.put("hello")
    pipe.send(pipe.recv().upper())
    with lock:
        total.value += 1
    names["child"] = multiprocessing.current_process().name


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool, multiprocessing.Manager() as manager:
        print("Pool   ", pool.map(abs, range(-3, 3)))
        queue, lock, total = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i", 41)
        (here, there), names = multiprocessing.Pipe(), manager.dict(parent="MainProcess")
        process = multiprocessing.Process(target=guide, args=(queue, there, lock, total, names), name="guide")
        process.start()
        here.send("ping")
        print("Queue  ", queue.get())
        print("Pipe   ", here.recv())
        process.join()
        print("Process", process.name, process.exitcode)
        print("Lock   ", lock.acquire(block=False))
        print("Value  ", total.value)
        print("Manager", names.copy())
