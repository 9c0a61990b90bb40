"""Which objects a URL means, how they are shared out, and what a partition is."""

import ast
import io
import os
import pickle
import re
from pathlib import Path

import pytest
from needed import needed

from cloudpool.chunking import Partition, partition
from cloudpool.chunking.stores import memory
from cloudpool.chunking.stores.files import FileStore
from cloudpool.errors import FormatError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.txt", "b.csv", "sub/c.txt", "sub/deep/d.txt", "empty.txt", "[odd] name.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name.startswith("empty") else f"{name}\n")
    return tmp_path


def names(parts, folder):
    return [part.url.removeprefix(f"file://{folder}/") for part in parts]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["%5Bodd%5D%20name.txt", "a.txt", "b.csv", "empty.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("*.txt", ["%5Bodd%5D%20name.txt", "a.txt", "empty.txt"]),
        ("**/*.txt", ["%5Bodd%5D%20name.txt", "a.txt", "empty.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("sub", ["sub/c.txt", "sub/deep/d.txt"]),
        ("sub/", ["sub/c.txt", "sub/deep/d.txt"]),
        ("su?/[cx].txt", ["sub/c.txt"]),
        ("[odd] name.txt", ["%5Bodd%5D%20name.txt"]),
        ("[!b]*.csv", None),
    ],
)
def test_a_url_is_an_object_a_prefix_or_a_glob(folder, pattern, expected):
    if expected is None:
        with pytest.raises(FileNotFoundError, match="no object"):
            partition(f"{folder}/{pattern}")
    else:
        assert names(partition(f"{folder}/{pattern}"), folder) == expected
        assert list(partition(f"file://{folder}/{pattern}")) == list(partition(f"{folder}/{pattern}"))


def test_a_list_of_urls_and_paths_is_all_of_them_in_order(folder):
    urls = [folder / "sub", f"{folder}/a.txt", f"file://{folder}/b.csv"]
    assert names(partition(urls), folder) == ["sub/c.txt", "sub/deep/d.txt", "a.txt", "b.csv"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.txt", "sub/b.txt"]),
        ("sub", ["sub/b.txt"]),
        ("*", ["a.txt"]),
        ("?_*", None),
        ("**", ["a.txt", "sub/b.txt"]),
        ("**/*.txt", ["a.txt", "sub/b.txt"]),
        ("_*", ["_SUCCESS"]),
        (".hidden.txt", [".hidden.txt"]),
        (".*.txt", [".hidden.txt"]),
        ("**/_*/*", ["_tmp/e.txt"]),
        ("_tmp/", ["_tmp/e.txt"]),
        ("_tmp", ["_tmp/e.txt"]),
        ("sub/.git/**", ["sub/.git/c.txt"]),
        ("sub/[.]git/*", None),
    ],
)
def test_what_begins_with_a_dot_or_an_underscore_is_hidden_until_it_is_named(
    tmp_path, store, pattern, expected
):
    there = ["a.txt", ".hidden.txt", "_SUCCESS", "_tmp/e.txt", "sub/b.txt", "sub/_b.txt", "sub/.git/c.txt"]
    memory.OBJECTS.clear()
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        store(f"h/{name}", name.encode())
    for place in (f"{tmp_path}/", "memory://h/"):
        if expected is None:
            with pytest.raises(FileNotFoundError, match=r"begin with \. or _ must be named"):
                partition(place + pattern)
        else:
            assert [part.read().decode() for part in partition(place + pattern)] == expected


def test_folders_that_cannot_matter_are_not_walked_and_each_file_is_asked_about_once(folder, monkeypatch):
    (folder / ".git").mkdir()
    walked, asked = [], []
    scan, ask = os.scandir, os.stat
    monkeypatch.setattr(os, "scandir", lambda path: walked.append(path) or scan(path))
    monkeypatch.setattr(os, "stat", lambda path, **how: asked.append(path) or ask(path, **how))
    for pattern, folders in {
        "*.txt": [""],
        "*/*.txt": ["", ".git/", "sub/"],
        "s*": [""],
        "": ["", "sub/", "sub/deep/"],
    }.items():
        found = list(
            FileStore().list(f"{folder}/", pattern.count("/") if pattern else None, hidden=bool(pattern))
        )
        assert sorted(path.removeprefix(f"{folder}/") for path in walked) == folders
        assert len(found) == (6 if not pattern else 5 if "/" in pattern else 4)
        walked.clear()
    assert set(asked) == {f"{folder}/"}  # the others by scandir


def test_include_and_exclude_are_globs_on_the_key(folder):
    assert names(partition(folder, include="*.txt", exclude=["empty*", "deep/*", "[[]*"]), folder) == [
        "a.txt",
        "sub/c.txt",
    ]
    with pytest.raises(FileNotFoundError, match="left by include and exclude"):
        partition(folder, include="*.jpg")


def test_a_number_of_chunks_is_shared_out_by_size(store):
    urls = [store(f"share/{n}.txt", bytes(size)) for n, size in enumerate((100, 700, 0, 200))]
    parts = partition(urls, chunks=10)
    assert [sum(part.url == url for part in parts) for url in urls] == [1, 6, 1, 2]
    assert len(partition(urls, chunks=2)) == 4  # one each at least
    assert len(partition(urls, chunks=2, pack=True)) == 3


def test_small_objects_are_packed_together_in_order(store):
    urls = [store(f"pack/{n}.txt", b"%d\n" % n * size) for n, size in enumerate((10, 10, 30, 1, 1))]
    parts = partition(urls, chunk_size=45, pack=True)
    assert [part.size for part in parts] == [40, 45, 15, 4]
    assert [part.index for part in parts] == [0, 1, 2, 3]
    assert len(pickle.loads(pickle.dumps(parts[0])).parts) == 2
    assert parts[0].open().readlines() == [b"0\n"] * 10 + [b"1\n"] * 10


def test_a_partition_says_what_it_is(folder):
    part = partition(folder / "a.txt", chunk_size=4)[1]
    assert repr(part) == f"<Partition 1: file://{folder}/a.txt, bytes 4 to 6 of 6>"
    assert (part.index, part.start, part.stop, part.size, part.object_size) == (1, 4, 6, 2, 6)
    assert part == pickle.loads(pickle.dumps(part))
    assert part.metadata == {}
    assert isinstance(part.open(), io.BufferedReader)
    assert isinstance(part, Partition)


def test_a_partition_of_ten_thousand_objects_is_cheap_to_send(store):
    for n in range(10_000):
        store(f"cheap/{n:05}.txt", b"x\n")
    parts = partition("memory://cheap/")
    assert len(parts) == 10_000
    assert len(pickle.dumps(parts[5000])) < 600
    assert len(pickle.dumps(parts[10:20])) < 2500
    assert parts[::-2][1].index == 9997
    with pytest.raises(IndexError, match="there are 10000 partitions, so no partition 10000"):
        parts[10_000]


def test_pandas_and_csv_read_a_piece_as_a_file_with_a_header(tmp_path):
    pd = needed("pandas")
    path = tmp_path / "t.csv"
    path.write_text("n,s\n" + "".join(f'{n},"line\n{n}"\n' for n in range(1000)))
    parts = partition(path, chunk_size=1000)
    assert len(parts) > 10
    assert pd.concat([pd.read_csv(part.open()) for part in parts], ignore_index=True).equals(
        pd.read_csv(path)
    )
    assert parts[3].header == ["n", "s"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_pack_of_csv_is_a_file_with_one_header(store, encoding):
    texts = ["", "a,é\n0,0", '"a",é\r\n1,1\r\n', "a,é", "", "a,é\n2,2\n"]
    urls = [
        store(f"pack{n}.csv", text.encode(encoding if n > 1 else "utf-8")) for n, text in enumerate(texts)
    ]
    (pack,) = partition(urls, pack=True, encoding=encoding)
    assert list(pack) == [["0", "0"], ["1", "1"], ["2", "2"]]
    assert pack.read() == pack.open().read() == "a,é\n0,0\n1,1\r\n2,2\n".encode()
    (pack,) = partition([urls[2], store("other.csv", b"b,c\n3,3\n")], pack=True, encoding=encoding)
    with pytest.raises(FormatError, match=r"other\.csv has another header than memory://pack2\.csv"):
        pack.read()


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("jsonl", ["1\n2", "3", "", '{"a": 4}\n', "5"]),
        ("fa", [">a\nAC\nGT", ">b\nA", "", ">c\nT\n", ">d\n"]),
        ("fq", ["@a\nAC\n+\nII", "@b\nA\n+\nI\n", "", "@c\nT\n+\nI"]),
    ],
)
def test_a_pack_of_objects_that_lack_a_last_line_feed_glues_no_records(store, name, texts):
    urls = [store(f"{n}.{name}", text.encode()) for n, text in enumerate(texts)]
    (pack,) = partition(urls, pack=True)
    (joined,) = partition(store(f"joined.{name}", pack.read()))
    assert list(joined) == list(pack) == [record for url in urls for record in partition(url)[0]]


@pytest.mark.parametrize("format", ["npy", "parquet", "zip", "tar"])
def test_a_pack_of_what_cannot_be_joined_is_no_file(store, format):
    (pack,) = partition([store(f"{n}.{format}", b"x") for n in range(2)], pack=True)
    for act in (pack.open, pack.read):
        with pytest.raises(TypeError, match=r"are no file together: iterate, or open each of \.parts"):
            act()


def test_a_format_of_ones_own_is_as_the_documentation_has_it(store):
    page = (Path(__file__).parents[2] / "docs/chunking.md").read_text()
    program = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "(Format)" in text)
    assert [type(part) for part in ast.parse(program).body] == [ast.ImportFrom, ast.ClassDef]
    assert program.count("\n") <= 10
    said = {}
    exec(program, said)
    paragraphs = [b"p%d\nq" % n for n in range(50)]
    url = store(
        "own.txt", b"\n\n".join(paragraphs[:25]) + b"\n\n\n\n\n" + b"\n\n".join(paragraphs[25:]) + b"\n\n"
    )
    for size in (1, 2, 17, 1000):
        parts = partition(url, format=said["Paragraphs"](), chunk_size=size)
        assert [record for part in parts for record in part] == paragraphs


def test_output_appears_whole_or_not_at_all(tmp_path, store):
    part = partition(store("out.txt", b"abc\n" * 10), chunk_size=8)[2]
    with part.output(tmp_path, suffix=".txt") as file:
        file.write(part.read())
        assert list(tmp_path.glob("part-*")) == []
    assert (tmp_path / "part-00002.txt").read_bytes() == part.read()
    assert file.url == f"file://{tmp_path}/part-00002.txt"
    with pytest.raises(KeyError), part.output(f"file://{tmp_path}/", suffix=".txt") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "part-00002.txt").read_bytes() == part.read()
    assert os.listdir(tmp_path) == ["part-00002.txt"]
    with part.output("memory://out/") as file, io.TextIOWrapper(file, encoding="utf-8") as text:
        text.write("é")
    assert memory.OBJECTS["out/part-00002"] == "é".encode()


def test_what_is_put_around_an_output_does_not_make_it_appear_after_an_error(tmp_path, store):
    (part,) = partition(store("out.txt", b"abc\n"))
    with pytest.raises(KeyError), io.TextIOWrapper(part.output(tmp_path)) as text:
        text.write("half")
        raise KeyError
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyError), part.output(tmp_path) as file, io.TextIOWrapper(file) as text:
        text.write("half")
        raise KeyError
    assert os.listdir(tmp_path) == []
    with part.output(tmp_path) as file:
        with io.TextIOWrapper(file) as text:
            text.write("whole")
        with pytest.raises(ValueError, match="closed file"):
            file.write(b"more")
        assert list(tmp_path.glob("part-*")) == []
    assert (tmp_path / "part-00000").read_text() == "whole"


def test_an_output_appears_by_commit_and_not_by_close(tmp_path, store):
    (part,) = partition(store("out.txt", b"abc\n"))
    file = part.output(tmp_path)
    file.write(b"x")
    with pytest.warns(RuntimeWarning, match=r"part-00000 was closed without commit\(\)"):
        file.close()
    assert os.listdir(tmp_path) == []
    file = part.output(tmp_path)
    file.write(b"x")
    file.commit()
    file.close()
    assert (tmp_path / "part-00000").read_bytes() == b"x"
    with pytest.raises(ValueError, match="already"):
        file.commit()


def test_an_output_with_an_encoding_takes_text(tmp_path, store):
    (part,) = partition(store("out.txt", b"abc\n"))
    with part.output(tmp_path, encoding="utf-16") as file:
        assert file.write("é") == 1
        print("b", file=file)
    assert (tmp_path / "part-00000").read_text("utf-16") == "éb\n"
    with pytest.raises(TypeError, match="encoding"), part.output(tmp_path) as file:
        file.write("text")
    with pytest.raises(LookupError):
        part.output(tmp_path, encoding="klingon")
