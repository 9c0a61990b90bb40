"""A far process whose life is heard at an address of the test's: a byte at a time, until it is ended."""

import socket
import sys
import time

import cloudpool as multiprocessing


def beat(address):
    with socket.create_connection(address) as line:
        while True:
            line.sendall(b".")
            time.sleep(0.1)


if __name__ == "__main__":
    host, port = sys.argv[1:]
    process = multiprocessing.Process(target=beat, args=((host, int(port)),))
    process.start()
    process.join()
