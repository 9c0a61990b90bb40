# Quicksort in a tree of processes, each half comes back over a pipe. fork spawn
from multiprocessing import Pipe, Process, set_start_method
import random
import sys


def quicksort(numbers, conn, procs):
    if procs <= 0 or len(numbers) <= 1:
        conn.send(sorted(numbers))
        conn.close()
        return
    pivot = numbers.pop(random.randint(0, len(numbers) - 1))
    left = [x for x in numbers if x < pivot]
    right = [x for x in numbers if x >= pivot]
    left_in, left_out = Pipe()
    right_in, right_out = Pipe()
    left_proc = Process(target=quicksort, args=(left, left_out, procs - 1))
    right_proc = Process(target=quicksort, args=(right, right_out, procs - 1))
    left_proc.start()
    right_proc.start()
    conn.send(left_in.recv() + [pivot] + right_in.recv())
    conn.close()
    left_proc.join()
    right_proc.join()


def main():
    random.seed(11)
    numbers = [random.randint(0, 10**9) for _ in range(20000)]
    expected = sorted(numbers)
    here, there = Pipe()
    p = Process(target=quicksort, args=(numbers, there, 2))
    p.start()
    result = here.recv()
    p.join()
    print(result == expected, len(result), result[0], result[-1], p.exitcode)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        set_start_method(sys.argv[1])
    main()
