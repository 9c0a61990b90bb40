"""An image for hosts elsewhere: this Python, this cloudpool and what it needs, at the versions that are installed here.

describe --> Dockerfile, requirements.txt and a wheel of the files of cloudpool that are in use --> docker, podman or buildah
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import cloudpool
from cloudpool.deploy import distributions
from cloudpool.errors import CloudpoolError

BUILDERS = {"docker": "build", "podman": "build", "buildah": "bud"}
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
TAG = f"cloudpool:python{MINOR}"

DOCKERFILE = """\
# A host of cloudpool {version} for Python {minor}. More goes in by lines below the RUN, such as: RUN pip install pandas
FROM docker.io/library/python:{minor}-slim
COPY . /tmp/cloudpool
RUN cd /tmp/cloudpool && pip install --no-cache-dir --root-user-action=ignore -r requirements.txt && rm -rf /tmp/cloudpool
ENV PYTHONUNBUFFERED=1
USER 1000
CMD ["python3", "-m", "cloudpool", "host"]
"""


def build(tag: str, builder: str | None, requirements: str | None, *, is_all: bool) -> None:
    """Build the image; the builder's words go to the terminal. Raises CloudpoolError."""
    program = builder or next(filter(shutil.which, BUILDERS), None)
    if program is None or shutil.which(program) is None:
        raise CloudpoolError(
            f"there is no {builder or 'docker, podman or buildah'} here to build an image with.\n"
            "Install one; or let --write-only write what it would be built from, and build that elsewhere."
        )
    with tempfile.TemporaryDirectory(prefix="cloudpool-image-") as folder:
        describe(folder, requirements, is_all=is_all)
        status = subprocess.run([program, BUILDERS[program], "-t", tag, folder], check=False).returncode
    if status:
        raise CloudpoolError(
            f"{program} could not build the image {tag} (status {status}); its own words are above."
        )


def describe(folder: str, requirements: str | None, *, is_all: bool) -> None:
    """Write what an image is built from into `folder`. Raises CloudpoolError."""
    os.makedirs(folder, exist_ok=True)
    # Its own files, never what an index has of the name: that may be anybody's.
    lines = [
        "./" + os.path.basename(wheel(folder)),
        *_pinned(distributions.everything() if is_all else distributions.needed()),
    ]
    if requirements is not None:
        lines += distributions.lines(requirements)
    Path(folder, "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    Path(folder, "Dockerfile").write_text(
        DOCKERFILE.format(version=cloudpool.__version__, minor=MINOR), encoding="utf-8"
    )


def _pinned(chosen: Iterable[metadata.Distribution]) -> list[str]:
    """name==version, each once. Those that came from a folder or a repository of code are nowhere to be had: they travel."""
    found = {d.metadata["Name"]: d.version for d in chosen if d.read_text("direct_url.json") is None}
    return [f"{name}=={version}" for name, version in found.items()]


def wheel(folder: str) -> str:
    """A wheel of cloudpool's files as they are here; its path."""
    name = f"cloudpool-{cloudpool.__version__}"
    about = f"{name}.dist-info"
    path = os.path.join(folder, f"{name}-py3-none-any.whl")
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, content in (*_files(), *_descriptions(about)):
            archive.writestr(inside, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{inside},sha256={digest},{len(content)}\n")
        archive.writestr(f"{about}/RECORD", "".join(record) + f"{about}/RECORD,,\n")
    return path


def _files() -> Iterator[tuple[str, bytes]]:
    package = Path(cloudpool.__file__).parent
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            yield str(path.relative_to(package.parent)), path.read_bytes()


def _descriptions(about: str) -> Sequence[tuple[str, bytes]]:
    needs = "".join(f"Requires-Dist: {name}\n" for name in distributions.NEEDED)
    what = f"Metadata-Version: 2.1\nName: cloudpool\nVersion: {cloudpool.__version__}\n{needs}"
    how = "Wheel-Version: 1.0\nGenerator: cloudpool\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return (f"{about}/METADATA", what.encode()), (f"{about}/WHEEL", how.encode())
