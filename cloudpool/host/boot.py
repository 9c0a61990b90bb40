"""The agent's first moments: `python -c "... main()" SESSION FOLDER BINARY ROOT_PID LEASE_S DURABLE URL_FD SAID_FD`.

It leaves the root's process group and family, and starts the server before it imports the rest of itself, so that both
get ready side by side. Then it says `ready`, after what the root is to be warned of, or why not.
"""

import marshal
import os
import signal
import sys
from contextlib import suppress

from cloudpool.errors import CloudpoolError
from cloudpool.host import descriptors, folder as folders
from cloudpool.settings import ServerUrl
from cloudpool.store.bucket import Place
from cloudpool.store.embedded import Server


def main() -> None:
    session_id, folder, binary, root_pid, lease_s, durable, url_fd, said_fd = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(
        signal.SIGCHLD, signal.SIG_DFL
    )  # a program that ignores it would have it ignored here: the server is waited for
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # stderr stays the root's: should the agent fail, its traceback is seen
        os.dup2(null, standard)
    descriptors.raise_limit()
    held = folders.claim(folder)
    said = int(said_fd)
    server = None
    try:
        if binary:
            server = Server.start(binary, folder, os.path.join(folder, folders.SERVER_SOCKET))
        from cloudpool.host.agent import Agent  # the server gets ready meanwhile
        from cloudpool.host.session import Key

        with os.fdopen(int(url_fd), "rb") as file:
            url, key, far_url, patience_s, server_said, _leash, place = marshal.load(file)
        agent = Agent(
            session_id,
            folder,
            ServerUrl(url),
            server,
            int(root_pid),
            float(lease_s),
            durable == "True",
            Key(key),
            ServerUrl(far_url),
            patience_s,
            Place.decode(place),
        )
        if server_said >= 0:  # and the leash stays open for as long as this process lives
            agent.watch_server(server_said)
    except (CloudpoolError, OSError, EOFError) as error:  # EOFError: the root has ended
        if server is not None:
            with suppress(ProcessLookupError, ChildProcessError):  # it may be what ended
                server.stop()
        folders.remove(folder)
        with suppress(BrokenPipeError):  # the root has ended
            os.write(said, str(error).encode())
        os._exit(1)
    try:
        with suppress(BrokenPipeError):  # the root has ended, as the loop is about to hear
            os.write(said, agent.warning.encode() + b"ready\n")
        os.close(said)
        folders.sweep()
        agent.run()
    finally:
        agent.end()
    os.close(held)
