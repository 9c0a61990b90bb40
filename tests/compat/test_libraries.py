"""Libraries through their public interface: on cloudpool they do what they do on the stdlib.

Each script in scripts/ drives one library or a few of a kind, and says in `# requires:` what must be installed. All run
unedited under `python -m cloudpool run`; those that hand the library a pool, queue or context also with their import
line changed, where the library itself still imports the stdlib. `# one host:` says why one cannot have its processes elsewhere,
`# kills:` that it ends its processes, and how.
"""

import re
from pathlib import Path

import pytest
from running import FAR, assert_same_on_cloudpool

SCRIPTS = sorted((Path(__file__).resolve().parent / "scripts").glob("*.py"))


IMPORT = re.compile(r"^(import|from) multiprocessing\b", flags=re.MULTILINE)
EDITABLE = [script for script in SCRIPTS if IMPORT.search(script.read_text())]


def need_what_it_requires(script):
    if said := re.search(r"^# requires: (.*)$", script.read_text(), flags=re.MULTILINE):
        for name in said[1].split():
            pytest.importorskip(name)
    if FAR and (said := re.search(r"^# one host: (.*)$", script.read_text(), flags=re.MULTILINE)):
        pytest.skip(said[1])


def kills(script):
    return re.search(r"^# kills: ", script.read_text(), flags=re.MULTILINE) is not None


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_library_does_the_same_unedited_under_run(script, tmp_path, tcp_server):
    need_what_it_requires(script)
    assert_same_on_cloudpool(tcp_server, [script], tmp_path, kills=kills(script))


@pytest.mark.parametrize("script", EDITABLE, ids=[script.stem for script in EDITABLE])
def test_library_does_the_same_when_given_cloudpools_pools_and_contexts(script, tmp_path, tcp_server):
    need_what_it_requires(script)
    text = re.sub(
        r"^import multiprocessing$",
        "import cloudpool as multiprocessing",
        script.read_text(),
        flags=re.MULTILINE,
    )
    text = re.sub(r"^from multiprocessing\b", "from cloudpool", text, flags=re.MULTILINE)
    assert not IMPORT.search(text)
    edited = tmp_path / script.name
    edited.write_text(text)
    assert_same_on_cloudpool(tcp_server, [script], tmp_path, kills=kills(script), on_cloudpool=[edited])
