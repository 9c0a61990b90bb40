# A token goes round a ring of processes connected by pipes. fork spawn
import multiprocessing as mp
import sys


def node(rank, left, right, rounds):
    for _ in range(rounds):
        token = left.recv()
        token["hops"] += 1
        token["path"].append(rank)
        right.send(token)
    left.close()
    right.close()


def main(n=5, rounds=3):
    pipes = [mp.Pipe() for _ in range(n + 1)]
    workers = []
    for rank in range(n):
        w = mp.Process(
            target=node, args=(rank, pipes[rank][1], pipes[rank + 1][0], rounds), name="node-%d" % rank
        )
        w.start()
        workers.append(w)
    start, end = pipes[0][0], pipes[n][1]
    token = {"hops": 0, "path": []}
    for _ in range(rounds):
        start.send(token)
        token = end.recv()
        print(token["hops"], token["path"])
    for w in workers:
        w.join()
        print(w.name, w.exitcode)

    r, w = mp.Pipe(duplex=False)
    w.send_bytes(b"raw bytes")
    print(r.poll(), r.recv_bytes())
    w.close()
    try:
        r.recv()
    except EOFError:
        print("end of file")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mp.set_start_method(sys.argv[1])
    main()
