"""The examples over data in storage: what they print is what one pass over the same data finds."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from needed import needed

ROOT = Path(__file__).resolve().parents[2]


def printed(name, *args, cwd):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *args], cwd=cwd, env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_words_are_those_of_all_files(tmp_path):
    first = printed("word_count.py", cwd=tmp_path)
    assert first[0].startswith("Nothing is under reviews/")
    words = Counter(word for path in (tmp_path / "reviews").iterdir() for word in path.read_text().split())
    expected = [f"{times:8} {word}" for word, times in words.most_common(5)]
    assert first[1:-1] == expected
    assert printed("word_count.py", "reviews/*.txt", "--chunk-size", "77 kB", cwd=tmp_path)[:-1] == expected
    assert first[-1] == f"{words.total():8} words in 20 pieces"


def test_greenness_is_that_of_whole_tiles(tmp_path):
    np = needed("numpy")
    lines = printed("ndvi.py", cwd=tmp_path)[1:]
    for line, path in zip(lines, sorted((tmp_path / "tiles").iterdir()), strict=False):
        red, infrared = np.moveaxis(np.load(path).astype("f8"), -1, 0)
        assert line == f"{((infrared - red) / (infrared + red)).mean():8.4f} {path.name}"
    assert lines[-1] == "1048576 pixels in 20 pieces"


def test_reads_are_those_of_all_files_and_do_not_depend_on_the_pieces(tmp_path):
    line = printed("fastq_count.py", cwd=tmp_path)[1]
    data = [line.strip() for path in (tmp_path / "reads").iterdir() for line in path.read_text().split("\n")]
    bases = "".join(line for n, line in enumerate(data) if data[n - 1].startswith("@read"))
    assert line.startswith(f"20000 reads, {len(bases)} bases: ")
    again = printed("fastq_count.py", "--chunk-size", "9999 B", cwd=tmp_path)[0]
    assert again.rpartition(",")[0] == line.rpartition(",")[0]
