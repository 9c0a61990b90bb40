"""A server that a program keeps for one session, where other hosts reach it: what a runner's `server` names."""

from __future__ import annotations

import importlib
import json
import secrets
import subprocess
import sys
from typing import Any

from cloudpool import settings
from cloudpool.errors import RunnerError
from cloudpool.host.interpreter import import_places, program_places
from cloudpool.settings import ServerUrl


class KeptServer:
    """A server elsewhere, for this session alone, and the program that keeps it while its stdin is open.

    The program's module has `request(session id, settings, password, folder) -> bytes`, which it reads first, and `main()`,
    which answers in lines of JSON: {"waiting": why}, any number of them; {"local_url", "pod_url", "grace_s"} when the server
    is ready, or {"error"}; later {"lost": why}. Raises RunnerError.
    """

    def __init__(self, module: str, session_id: str, folder: str, chosen: settings.Settings) -> None:
        paths = f"sys.path[:0] = {import_places()!r}; sys.path += {program_places()!r}"
        program = f"import sys; {paths}; from {module} import main; main()"
        password = secrets.token_urlsafe(32)
        request = importlib.import_module(module).request(session_id, chosen, password, folder)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.leash, self.said = self._stdin.fileno(), self._stdout.fileno()
        try:
            self._stdin.write(request)
            self._stdin.flush()
            answer = self._await_ready()
        except BaseException:
            self.let_go()
            raise
        self.url, self.far_url = ServerUrl(answer["local_url"]), ServerUrl(answer["pod_url"])
        self.patience_s = float(answer["grace_s"])

    def _await_ready(self) -> dict[str, Any]:
        for line in self._stdout:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise RunnerError(answer["error"])
            if "waiting" not in answer:
                return answer
            print(
                f"cloudpool: waiting for the session's server: {answer['waiting']}",
                file=sys.stderr,
                flush=True,
            )
        raise RunnerError("the program that was to start the session's server has ended without a word.")

    def let_go(self) -> None:
        """From now on it is the agent's, if that has it; else it ends."""
        self._stdin.close()
        self._stdout.close()
        self._process.returncode = 0  # the agent's to look after: this process does not wait for it
