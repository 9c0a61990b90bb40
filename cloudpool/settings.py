"""Settings: one frozen object, read once, that remembers where each value came from.

    argument  >  environment         >  project's file                        >  user's file                      >  default
    run --on     CLOUDPOOL_REDIS_URL    cloudpool.toml, or [tool.cloudpool]      ~/.config/cloudpool/config.toml
                                        in pyproject.toml, the nearest one
                                        upwards from the script's folder

A value that cannot be used, or a key in a file that is not a setting, is an error that names its place, also where another
place overrides it. The first Queue() of a program waits for this module, so TOML, URLs and spelling help are imported only
when there is some.
"""

from __future__ import annotations

import os
import sys

from cloudpool.errors import SettingsError

__all__ = [
    "NAMES",
    "PREFIX",
    "ServerUrl",
    "Settings",
    "adopt",
    "current",
    "is_loopback",
    "read",
    "redacted",
    "reload",
    "script_folder",
]

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, NoReturn

PREFIX = "CLOUDPOOL_"
TABLES = ("docker", "kubernetes", "lambda")  # of a file; their keys' names begin with theirs
INSIDE = ("cloudpool", "multiprocessing")  # frames of these no warning points at


class _Row:
    """How one setting is read: `parse` takes text, or what TOML made of it, and raises ValueError("is not ...")."""

    __slots__ = ("default", "meaning", "parse")

    def __init__(self, parse: Callable[[object], Any], default: object, meaning: str) -> None:
        self.parse = parse
        self.default = default
        self.meaning = meaning


def _setting(parse: Callable[[object], Any], default: object, meaning: str = "") -> Any:
    """A row, for type checkers of the type that is annotated beside the call."""
    return _Row(parse, default, meaning)


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in choices:
            return value.strip().lower()
        raise ValueError(f"is none of {', '.join(choices)}{_hint(str(value), choices)}")

    return parse


def _whole(least: int, most: float = float("inf")) -> Callable[[object], int]:
    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
            return number
        limit = f" and at most {most}" if most < float("inf") else ""
        raise ValueError(f"is not a whole number of at least {least}{limit}")

    return parse


def _seconds(value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        number = 0.0
    if 0 < number < float("inf"):
        return number
    raise ValueError("is not a number of seconds above 0")


def _amount(value: object) -> float:
    try:
        return _seconds(value)
    except ValueError:
        raise ValueError("is not a number above 0") from None


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError("is not one of 1, 0, true, false, yes, no, on, off")


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError("is not a text")


def _words(value: object) -> tuple[str, ...]:
    """A list; in the environment its words stand between commas."""
    words = value.split(",") if isinstance(value, str) else value
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(word.strip() for word in words if word.strip())
    raise ValueError("is not a list of texts")


_QUANTITY = {
    "": 1,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def quantity(text: str) -> float:
    """What Kubernetes takes "500m", "1.5" or "2Gi" for. Raises ValueError."""
    number = text.rstrip("kKMGTim")
    unit = text[len(number) :]
    if unit in _QUANTITY and 0 < float(number) < float("inf"):
        return float(number) * _QUANTITY[unit]
    raise ValueError(text)


def _quantity(value: object) -> str:
    text = str(value).strip()
    try:
        quantity(text)
    except ValueError:
        raise ValueError("is not a quantity of Kubernetes, such as 2, 500m or 4Gi") from None
    return text


def _json(kind: type, what: str) -> Callable[[object], Any]:
    """A table or a list of a file; in the environment it is JSON."""

    def parse(value: object) -> Any:
        import json

        try:
            found = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            found = None
        if isinstance(found, kind):
            return found
        raise ValueError(f"is not {what} (in the environment: JSON)")

    return parse


def _texts(value: object) -> dict[str, str]:
    found = _json(dict, "a table of texts")(value)
    if all(isinstance(text, str) for text in found.values()):
        return found  # type: ignore[no-any-return] # JSON's keys are texts
    raise ValueError("is not a table of texts (in the environment: JSON)")


def _docker_memory(value: object) -> str:
    text = str(value).strip().lower()
    if text.rstrip("bkmg").isdecimal() and len(text) - len(text.rstrip("bkmg")) <= 1:
        return text
    raise ValueError("is not an amount of memory for Docker, such as 512m or 4g")


def _docker_mounts(value: object) -> tuple[str, ...]:
    mounts = _words(value)
    for mount in mounts:
        here, _, there = mount.partition(":")
        if not there.startswith("/") or not os.path.isabs(here) or not os.path.exists(here):
            raise ValueError(f"has {mount}, which is not /a/folder/here:/its/name/there, perhaps with :ro")
    return mounts


def _prices(value: object) -> dict[str, dict[str, float]]:
    what = 'a table such as {"eu-west-1": {"x86_64": 0.0000166667, "arm64": 0.0000133334, "requests": 0.20}}'
    found = _json(dict, what)(value)
    known = ("x86_64", "arm64", "requests")
    for prices in found.values():
        good = isinstance(prices, dict) and all(name in known for name in prices)
        if not good or not all(isinstance(p, int | float) and p >= 0 for p in prices.values()):
            raise ValueError(f"is not {what}: USD a GB-second, and a million requests")
    return {region: {name: float(p) for name, p in prices.items()} for region, prices in found.items()}


def _start_method(value: object) -> str:
    from cloudpool import methods

    return _one_of(*methods.names())(value)


def _chain(value: object) -> tuple[str, ...]:
    chain = tuple(_start_method(word) for word in _words(value))
    if len(chain) > 1 and len(set(chain)) == len(chain):
        return chain
    raise ValueError("is not a list of two or more different start methods, such as lambda,kubernetes")


class ServerUrl(str):
    """A server's URL, whose repr has no password: what a traceback with local variables shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted(self))


def _redis_url(value: object) -> ServerUrl:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(str(value))
        good = not url.fragment and url.port != 0  # .port raises ValueError for what is no port
        if url.scheme == "unix":
            good = good and len(url.path) > 1
        else:
            good = good and url.scheme in ("redis", "rediss") and bool(url.hostname)
            good = good and (url.path in ("", "/") or url.path[1:].isdecimal())
    except ValueError:
        good = False
    if good:
        return ServerUrl(value)
    raise ValueError(
        "is not a URL of a Redis or Valkey server. The forms are redis://[[user]:password@]host[:port][/db],\n"
        "rediss://... (the same over TLS) and unix://[[user]:password@]/path/to/socket[?db=0].\n"
        "Write the characters / ? # @ : % in a password as %2F %3F %23 %40 %3A %25."
    )


def _blob_url(value: object) -> str:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(str(value).strip())
        good = not (url.query or url.fragment or url.username or url.password)
        if url.scheme == "file":
            good = good and url.netloc in ("", "localhost") and len(url.path) > 1
        else:
            good = good and url.scheme == "s3" and bool(url.netloc)
    except ValueError:
        good = False
    if good:
        return str(value).strip().rstrip("/")
    raise ValueError(
        "is not a place for large payloads: s3://bucket/prefix, or file:///folder for one that all hosts share.\n"
        "Other storage that speaks S3 (Google's, MinIO, R2) is s3:// too, with AWS_ENDPOINT_URL."
    )


class Settings:
    """All settings. Get them from `current()`; to add one, add a line here, and the code that reads it."""

    start_method: str | None = _setting(_start_method, None, "the stdlib's")
    redis_url: ServerUrl | None = _setting(_redis_url, None, "embedded")
    workers: int | None = _setting(_whole(1), None, "os.cpu_count()")
    lease_s: float = _setting(_seconds, 15.0)
    retries: int = _setting(_whole(0), 2)
    serializer: str = _setting(_one_of("cloudpickle", "dill"), "cloudpickle")
    progress: bool = _setting(_switch, False)
    debug: bool = _setting(_switch, False)
    stats: bool = _setting(_switch, False)
    budget_usd: float | None = _setting(_amount, None, "none")
    allow_plain_tcp: bool = _setting(_switch, False)
    durable: bool = _setting(_switch, False)
    # Far hosts, whoever runs them:
    idle_s: float = _setting(_seconds, 60.0)
    start_timeout_s: float = _setting(_seconds, 300.0)
    packages: str = _setting(_one_of("ship", "image", "check"), "ship")
    files: tuple[str, ...] | None = _setting(_words, None, "what lies beside the script")
    prefix: bool = _setting(_switch, False)
    blob_url: str | None = _setting(_blob_url, None, "the server")
    blob_credentials: str = _setting(_one_of("host", "root"), "host")
    overflow: tuple[str, ...] | None = _setting(_chain, None, "none")
    # In a file these are the keys of a table [docker]:
    docker_image: str | None = _setting(_text, None, "cloudpool:pythonX.Y")
    docker_hosts: int = _setting(_whole(1), 1)
    docker_slots: int | None = _setting(_whole(1), None, "os.cpu_count()")
    docker_cpus: float | None = _setting(_amount, None, "all")
    docker_memory: str | None = _setting(_docker_memory, None, "no limit")
    docker_network: str | None = _setting(_text, None, "the engine's")
    docker_mounts: tuple[str, ...] | None = _setting(_docker_mounts, None, "none")
    # And these of [kubernetes]:
    kubernetes_context: str | None = _setting(_text, None, "the kubeconfig's current one")
    kubernetes_namespace: str | None = _setting(_text, None, "the context's")
    kubernetes_image: str | None = _setting(_text, None, "cloudpool:pythonX.Y")
    kubernetes_hosts: int = _setting(_whole(1), 4)
    kubernetes_slots: int | None = _setting(_whole(1), None, "kubernetes_cpu, rounded up")
    kubernetes_cpu: str = _setting(_quantity, "1")
    kubernetes_memory: str = _setting(_quantity, "2Gi")
    kubernetes_gpu: int | None = _setting(_whole(1), None, "none")
    kubernetes_node_selector: dict[str, str] | None = _setting(_texts, None, "none")
    kubernetes_tolerations: list[Any] | None = _setting(_json(list, "a list of tables"), None, "none")
    kubernetes_service_account: str | None = _setting(_text, None, "the namespace's default")
    kubernetes_priority_class: str | None = _setting(_text, None, "the cluster's default")
    kubernetes_labels: dict[str, str] | None = _setting(_texts, None, "none")
    kubernetes_pod_patch: dict[str, Any] | None = _setting(_json(dict, "a table"), None, "none")
    kubernetes_deadline_s: float | None = _setting(_seconds, None, "none")
    kubernetes_server_memory: str = _setting(_quantity, "1Gi")
    kubernetes_forward_grace_s: float = _setting(_seconds, 120.0)
    # And these of [lambda]; the region, the endpoint and who one is come from AWS's usual places:
    lambda_function: str = _setting(_text, "cloudpool")
    lambda_region: str | None = _setting(_text, None, "AWS's usual places")
    lambda_hosts: int = _setting(_whole(1), 100)
    lambda_slots: int = _setting(_whole(1), 1)
    lambda_idle_s: float = _setting(_seconds, 2.0)
    lambda_invokes: int = _setting(_whole(1), 32)
    lambda_memory: int = _setting(_whole(128, 10240), 1769)
    lambda_timeout_s: int = _setting(_whole(1, 900), 900)
    lambda_architecture: str | None = _setting(_one_of("x86_64", "arm64"), None, "this machine's")
    lambda_prices: dict[str, dict[str, float]] | None = _setting(_prices, None, "AWS's list")

    def __init__(self, values: Mapping[str, object], sources: Mapping[str, str]) -> None:
        self.__dict__.update(values, _sources=dict(sources))

    def values(self) -> dict[str, object]:
        """All of them, plain: for a program that is to have the same."""
        return {name: str(v) if isinstance(v := getattr(self, name), ServerUrl) else v for name in NAMES}

    def source(self, name: str) -> str:
        """Where the value of setting `name` came from: "default", a file, an environment variable or "argument"."""
        return str(self.__dict__["_sources"][name])

    def shown(self, name: str) -> str:
        """The value of setting `name` as text that may be printed: no password, and what a missing one means."""
        value = getattr(self, name)
        return f"({_ROWS[name].meaning})" if value is None else _printable(name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are read once and do not change: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"settings are read once and do not change: cannot delete {name!r}")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self.shown(name)}' for name in NAMES)})"


_ROWS: dict[str, _Row] = {name: row for name, row in vars(Settings).items() if isinstance(row, _Row)}
NAMES = tuple(_ROWS)

_current: Settings | None = None


def current() -> Settings:
    """The settings of this process: read at the first call, inherited over fork. Raises SettingsError."""
    return _current if _current is not None else reload()


def start_method_from_outside() -> str | None:
    """What whoever starts the program has said, by an argument or the environment. Settings that are not read yet stay so."""
    if _current is not None and _current.source("start_method") == "argument":
        return _current.start_method
    return os.environ.get("CLOUDPOOL_START_METHOD")


def adopt(values: Mapping[str, object]) -> None:
    """Be a process of a program that has these."""
    global _current
    _current = Settings(values, dict.fromkeys(values, "the program's root"))


def reload(arguments: Mapping[str, object] | None = None, *, folder: str | None = None) -> Settings:
    """Read all places again, `arguments` (those that are not None) above the others, and make that the current settings."""
    global _current
    _current = read(arguments or {}, os.environ, script_folder() if folder is None else folder)
    return _current


def read(arguments: Mapping[str, object], environ: Mapping[str, str], folder: str) -> Settings:
    """Settings from these arguments, this environment, the project's file upwards from `folder` and the user's file."""
    values = {name: row.default for name, row in _ROWS.items()}
    sources = dict.fromkeys(_ROWS, "default")
    for place, name, value in _given(arguments, environ, folder):
        values[name] = _parsed(place, name, value)
        sources[name] = place
    return Settings(values, sources)


def redacted(url: str) -> str:
    """`url` without what could be a password, however malformed it is: for messages, logs and reprs."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    credentials, at, address = rest.rpartition("@")
    if at and "?" in credentials:
        return f"{scheme}{separator}***"  # no telling which part is what
    if at:
        user, colon, _ = credentials.partition(":")
        credentials = f"{user}:***" if colon else "***"
    else:
        # Without an @ the part after the colon is a port, unless the host was forgotten and it is a password.
        host, colon, port = address.partition(":")
        is_port = port.partition("/")[0].partition("?")[0].isdecimal()
        if colon and not is_port and not address.startswith(("/", "[")):
            address = f"{host}:***"
    address, question, query = address.partition("?")
    options = [f"{o.partition('=')[0]}=***" if "pass" in o.partition("=")[0] else o for o in query.split("&")]
    return f"{scheme}{separator}{credentials}{at}{address}{question}{'&'.join(options)}"


def is_loopback(url: str) -> bool:
    """Whether that server is reached from its own machine alone: by a socket's path, or an address of the loopback."""
    from urllib.parse import urlsplit  # not for the many programs without a URL

    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    return parts.scheme == "unix" or host in ("localhost", "::1") or host.startswith("127.")


def script_folder() -> str:
    """Where the search for the project's file begins: the script's folder; without a script, the current one.

    An installed tool that runs the user's code (pytest, a notebook's kernel) is not the script.
    """
    path: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is None and sys.argv and os.path.isfile(sys.argv[0]):
        path = sys.argv[0]  # a spawned child that has not rebuilt the main module yet
    if path is not None:
        folder = os.path.dirname(os.path.realpath(path))
        installed = "site-packages" in folder or "dist-packages" in folder
        if not installed and os.path.dirname(path) != os.path.dirname(sys.executable):
            return folder
    return os.getcwd()


def _given(
    arguments: Mapping[str, object], environ: Mapping[str, str], folder: str
) -> Iterator[tuple[str, str, object]]:
    """(place, setting, raw value) of every value given anywhere, the weakest place first."""
    for place, table in _files(folder):
        for name, value in _flat(table):
            if name not in _ROWS:
                raise SettingsError(f"{place}: {name} is not a setting of cloudpool{_hint(name, NAMES)}.")
            yield place, name, value
    for variable in environ:
        if variable.startswith(PREFIX):
            name = variable[len(PREFIX) :].lower()
            if name not in _ROWS or variable != variable.upper():
                _warn_unknown(variable)
            elif environ[variable]:  # empty is how a shell unsets one for a single command
                yield f"environment {variable}", name, environ[variable]
    for name, value in arguments.items():
        if value is not None:
            if name not in _ROWS:
                raise SettingsError(f"argument: {name} is not a setting of cloudpool{_hint(name, NAMES)}.")
            yield "argument", name, value


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values; those of a runner's table, [docker] image, have names like docker_image."""
    for name, value in table.items():
        if name in TABLES and isinstance(value, dict):
            yield from ((f"{name}_{inner}", found) for inner, found in value.items())
        else:
            yield name, value


def _parsed(place: str, name: str, value: object) -> object:
    try:
        return _ROWS[name].parse(value)
    except ValueError as reason:
        shown = _printable(name, value)
        # "from None": what Python's own errors quote is not redacted.
        raise SettingsError(f"{place}: {name} = {shown} {str(reason).rstrip('.')}.") from None


def _printable(name: str, value: object) -> str:
    return redacted(str(value)) if name == "redis_url" else str(value)


def _files(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, table) of the user's file and then the project's, where they exist."""
    user = os.path.expanduser("~/.config/cloudpool/config.toml")
    table = _table(user)
    if table is not None:
        yield user, table
    start = folder
    while True:
        path = os.path.join(folder, "cloudpool.toml")
        table = _table(path, start)
        if table is None:
            path = os.path.join(folder, "pyproject.toml")
            table = _table(path, start, "tool", "cloudpool")
            path += " [tool.cloudpool]"
        if table is not None:
            yield path, table
            return
        if os.path.dirname(folder) == folder:
            return
        folder = os.path.dirname(folder)


def _table(path: str, start: str | None = None, *tables: str) -> dict[str, Any] | None:
    """The (nested) table of a TOML file, or None where there is none."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from None
    if tables and tables[-1].encode() not in content:
        return None  # most pyproject.toml files: not worth the import of a parser
    if start is not None and not _trusted(path, start):
        return None
    import tomllib

    try:
        table: Any = tomllib.loads(content.decode())
    except ValueError as error:
        raise SettingsError(f"{path}: is not TOML: {error}.") from None
    for name in tables:
        table = table.get(name) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _trusted(path: str, start: str) -> bool:
    """Whether the file belongs to this user, to root, or to the owner of the folder where the search started.

    In a folder that all may write to (/tmp), a stranger's file could name a server whose pickles run as code here.
    """
    owner = os.stat(path).st_uid
    if owner in (0, os.geteuid(), os.stat(start).st_uid):
        return True
    import warnings

    warnings.warn(f"{path} is ignored: it belongs to another user (uid {owner}).", stacklevel=outside())
    return False


def _warn_unknown(variable: str) -> None:
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return  # the root has said it
    import warnings

    hint = _hint(variable, [PREFIX + name.upper() for name in NAMES])
    message = f"{variable} in the environment is not a setting of cloudpool{hint}."
    warnings.warn(message, stacklevel=outside())


def outside() -> int:
    """The stacklevel, for the caller's warning, of the first frame outside: the line that a user knows.

    Inside are cloudpool and what it builds on; so is code of no module, which is what the stdlib's sharedctypes execs.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", INSIDE[0]).partition(".")[0] in INSIDE:
        level, frame = level + 1, frame.f_back
    return level


def _hint(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
