"""uvicorn with two worker processes that share a socket; it is told to stop by a signal, as a supervisor would."""

# requires: uvicorn
import os
import signal
import socket
import threading
import urllib.request

import uvicorn
from uvicorn.supervisors import Multiprocess


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"pid %d" % os.getpid()})


def visit(port):
    with urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=30) as answer:
        pid = int(answer.read().split()[1])
    print(pid != os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(8)
    config = uvicorn.Config("servers:app", workers=2, log_level="critical", lifespan="off")
    supervisor = Multiprocess(config, sockets=[listening])
    visitor = threading.Thread(target=visit, args=(listening.getsockname()[1],))
    visitor.start()
    supervisor.run()
    visitor.join()
    print("stopped")
