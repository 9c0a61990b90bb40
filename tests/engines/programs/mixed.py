"""Processes here and elsewhere, on one queue and one lock."""

import cloudpool


def work(queue, lock, total, where):
    for _ in range(20):
        with lock:
            total.value += 1
    queue.put(where)


if __name__ == "__main__":
    here, there = cloudpool.get_context("fork"), cloudpool.get_context()
    queue, lock, total = here.Queue(), here.Lock(), here.Value("i", 0, lock=False)
    processes = [
        ctx.Process(target=work, args=(queue, lock, total, name))
        for ctx, name in ((here, "here"), (there, "there"), (here, "here"), (there, "there"))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(sorted(queue.get() for _ in processes), total.value, [p.exitcode for p in processes])
