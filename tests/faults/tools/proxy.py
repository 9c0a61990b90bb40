"""A proxy that breaks connections: between cloudpool's processes and a real server, in a process of its own.

    with Proxy(server.url, seed=7) as proxy:       # a URL of redis:// or unix://, or a socket's path
        os.environ["CLOUDPOOL_REDIS_URL"] = proxy.url
        proxy.set(rate=0.05)      # each piece of a request or reply: cut the connection at a random byte of it
        proxy.set(delay_s=0.01)   # hold each piece back that long
        proxy.arm("reply", 3, port)   # once: cut the connection from that local port before its third byte from now on
        proxy.arm("request", 0)       # once: as above, on the next connection that is made
    proxy.arm("request", 9, -1)   # once: as above, on whichever of the present ones gets there first
        proxy.cut_all()
        proxy.freeze(), proxy.thaw()          # nothing passes, no connection breaks
        proxy.freeze("10.0.0.7")              # the same for what that address has connected, or will
        proxy.refuse(), proxy.accept()        # connections are cut, new ones are closed at once
        proxy.counts()            # {"connections": .., "requests": .., "replies": .., "cuts": .., "armed": ..}

What is sent before the cut's byte arrives, nothing else does. The client sees the end or a reset; the server hears of it at
once, or, one time in three, only a second later (a half-open connection, on which its command may still be executed).
The same seed makes the same choices for the same pieces, but who is first is the scheduler's choice.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

HALF_OPEN_S = 1.0
CHUNK = 65536


class Proxy:
    """The proxy's process, and the line to it. Whoever makes it closes it. Usable by one thread at a time."""

    def __init__(self, upstream: str, seed: int = 0, listens: str = "127.0.0.1", **options: Any) -> None:
        parts = urlsplit(upstream)
        is_tcp = parts.scheme in ("redis", "rediss")
        address = f"{parts.hostname}:{parts.port}" if is_tcp else parts.path
        self.seed = seed
        self._process = subprocess.Popen(
            [sys.executable, __file__, address, str(seed), listens],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = self._heard()
        userinfo = parts.netloc.rpartition("@")[0] if is_tcp else ""
        netloc = f"{userinfo}@{listens}:{self.port}" if userinfo else f"{listens}:{self.port}"
        self.url = urlunsplit(
            (parts.scheme if is_tcp else "redis", netloc, parts.path if is_tcp else "/0", "", "")
        )
        self.set(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set(self, **options: float) -> None:
        """`rate`: of pieces at which a connection is cut. `delay_s`: of each piece."""
        self._tell("set", options)

    def arm(self, direction: str, byte: int, port: int = 0) -> None:
        """Cut one connection once, before the `byte`th byte from now on of its "request" or "reply" direction."""
        self._tell("arm", direction, byte, port)

    def disarm(self) -> None:
        self._tell("disarm")

    def cut_all(self) -> None:
        self._tell("cut_all")

    def freeze(self, address: str = "") -> None:
        self._tell("freeze", address)

    def thaw(self, address: str = "") -> None:
        self._tell("thaw", address)

    def refuse(self) -> None:
        self._tell("refuse")

    def accept(self) -> None:
        self._tell("accept")

    def counts(self) -> dict[str, int]:
        """Of connections, bytes each way, and cuts; `expected` is how many cuts the rate was to give."""
        counts: dict[str, int] = self._tell("counts")
        return counts

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.kill()
        self._process.wait()

    def _tell(self, *message: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


# -- the process --------------------------------------------------------------------------------------------------------


class Link:
    """One connection through the proxy."""

    def __init__(self, hub: Hub, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.hub, self.client, self.server = hub, client, server
        self.address, self.port = client.get_extra_info("peername")[:2]
        self.armed: dict[str, int] = {}

    async def pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub = self.hub
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                hub.counts[direction] += 1
                if hub.delay_s:
                    await asyncio.sleep(hub.delay_s)
                await hub.flows[""].wait()
                await hub.flows[self.address].wait()
                at = self.where_to_cut(direction, data)
                if at is not None:
                    hub.counts["cuts"] += 1
                    writer.write(data[:at])
                    with suppress(OSError):
                        await writer.drain()
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        self.client.close()
        self.server.close()

    def where_to_cut(self, direction: str, data: bytes) -> int | None:
        hub = self.hub
        if direction in self.armed:
            at = self.armed[direction]
            if at < len(data):
                for link in hub.links:
                    link.armed.pop(direction, None)
                hub.counts["armed"] -= 1
                return at
            self.armed[direction] -= len(data)
        hub.counts["expected"] += hub.rate
        if hub.rate and hub.random.random() < hub.rate:
            return hub.random.randrange(len(data))
        return None

    def cut(self) -> None:
        """Break both sides; the server may hear of it later."""
        for side in (self.client, self.server):
            if self.hub.random.random() < 0.5:  # a reset instead of an end
                with suppress(OSError):
                    sock = side.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        if self.hub.random.random() < 1 / 3:
            asyncio.get_running_loop().call_later(HALF_OPEN_S, self.server.close)
        else:
            self.server.close()


def flowing() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


class Hub:
    """All connections, and what is to become of them."""

    def __init__(self, upstream: str, seed: int) -> None:
        self.upstream = upstream
        self.random = random.Random(seed)
        self.rate = self.delay_s = 0.0
        self.flows: defaultdict[str, asyncio.Event] = defaultdict(flowing)  # by address, "" of all
        self.is_open = True
        self.links: set[Link] = set()
        self.next_armed: dict[str, int] = {}
        self.counts: dict[str, float] = {
            "connections": 0,
            "request": 0,
            "reply": 0,
            "cuts": 0,
            "armed": 0,
            "expected": 0.0,
        }

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            if not self.is_open:
                raise ConnectionRefusedError
            if self.upstream.startswith("/"):
                from_server, to_server = await asyncio.open_unix_connection(self.upstream)
            else:
                host, _, port = self.upstream.rpartition(":")
                from_server, to_server = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        link = Link(self, writer, to_server)
        link.armed, self.next_armed = self.next_armed, {}
        self.links.add(link)
        await asyncio.gather(
            link.pump("request", reader, to_server),
            link.pump("reply", from_server, writer),
            return_exceptions=True,
        )
        self.links.discard(link)

    def set(self, options: dict[str, float]) -> None:
        for name, value in options.items():
            setattr(self, {"rate": "rate", "delay_s": "delay_s"}[name], value)

    def arm(self, direction: str, byte: int, port: int) -> None:
        self.counts["armed"] += 1
        if not port:
            self.next_armed[direction] = byte
        for link in self.links:
            if port in (link.port, -1):
                link.armed[direction] = byte

    def disarm(self) -> None:
        self.counts["armed"] = 0
        self.next_armed.clear()
        for link in self.links:
            link.armed.clear()

    def cut_all(self) -> None:
        for link in self.links:
            self.counts["cuts"] += 1
            link.cut()

    def freeze(self, address: str) -> None:
        self.flows[address].clear()

    def thaw(self, address: str) -> None:
        self.flows[address].set()

    def refuse(self) -> None:
        self.is_open = False
        self.cut_all()

    def accept(self) -> None:
        self.is_open = True


async def main() -> None:
    hub = Hub(sys.argv[1], int(sys.argv[2]))
    listener = await asyncio.start_server(hub.connected, sys.argv[3], 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        name, *arguments = json.loads(line)
        answer = hub.counts if name == "counts" else getattr(hub, name)(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
