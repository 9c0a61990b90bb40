"""Whatever the sizes, the records of all partitions in order are those that an independent reader finds in the whole object."""

import csv
import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from needed import needed

from cloudpool.chunking import delimited, partition
from cloudpool.chunking.formats import csv as csv_format

# TEST_EXAMPLES=2000 looks harder.
FULL = settings(
    max_examples=int(os.environ.get("TEST_EXAMPLES", "200")),
    deadline=None,  # the machine is shared
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# Few letters, so that what matters comes often.
LINES = st.lists(
    st.sampled_from(["a", "bc", "", "\n", "\r\n", "\r", "é", "x" * 40, '"', ",", ">", "@"]), max_size=60
)
TEXT = LINES.map("".join)
SIZES = st.one_of(st.integers(1, 12), st.integers(1, 400))
HOW = st.one_of(
    SIZES.map(lambda n: {"chunk_size": n}), st.integers(1, 30).map(lambda n: {"chunks": n}), st.just({})
)


_dice = random.Random(7)
NOISE = [_dice.getrandbits(100) for _ in range(4_000)]  # compresses badly


def records(url, how, **options):
    """Of all partitions in order, sent as a pool would send them."""
    parts = pickle.loads(pickle.dumps(partition(url, **how, **options)))
    assert [part.index for part in parts] == list(range(len(parts)))
    return [record for part in parts for record in pickle.loads(pickle.dumps(part))]


def lines_of(text, newline="\n"):
    """As Python reads them from a file."""
    return list(io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=newline))


@FULL
@given(st.lists(TEXT, min_size=1, max_size=4), HOW, st.booleans(), st.sampled_from(["\n", "\r"]))
def test_text(store, texts, how, pack, newline):
    urls = [store(f"text/{n}.txt", text.encode()) for n, text in enumerate(texts)]
    expected = [line for text in texts for line in lines_of(text, newline)]
    assert records(urls, how, pack=pack, newline=newline) == expected
    read = b"".join(part.read() for part in partition(urls, **how, pack=pack, newline=newline))
    assert read == "".join(texts).encode()


@FULL
@given(TEXT, HOW, st.sampled_from(["latin-1", "cp1252", "utf-8-sig", "koi8-r"]))
def test_text_in_other_encodings(store, text, how, encoding):
    data = text.encode(encoding, "replace")
    url = store("encoded.txt", data)
    expected = list(io.TextIOWrapper(io.BytesIO(data), encoding, newline="\n"))
    assert records(url, how, encoding=encoding) == expected


@FULL
@given(st.binary(max_size=300), HOW)
def test_bytes(store, data, how):
    url = store("data.bin", data)
    assert b"".join(records(url, how)) == data
    assert b"".join(part.read() for part in partition(url, **how)) == data


def split(data, delimiter):
    parts = data.split(delimiter)
    return [part + delimiter for part in parts[:-1]] + [part for part in parts[-1:] if part]


@FULL
@given(
    st.lists(st.sampled_from([b"a", b"b", b"|", b"ab", b"||", b"\0", b"abc" * 9]), max_size=60).map(b"".join),
    st.sampled_from([b"|", b"ab", b"\0", b"||", b"|a|", b"abc"]),
    HOW,
)
def test_delimited(store, data, delimiter, how):
    url = store("delimited.dat", data)
    assert records(url, how, format=delimited(delimiter)) == split(data, delimiter)


CELLS = st.sampled_from(["", "a", '"', '"a"', '"a,b"', '"x\ny"', '"x""y"', 'a"b', '"a"b', '""', '"\n"', "é"])
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=25)
ENDINGS = st.sampled_from(["\n", "\r\n", "\r"])


@FULL
@given(ROWS, ENDINGS, st.booleans(), HOW, st.booleans())
def test_csv(store, rows, ending, final, how, header):
    text = ending.join(rows) + (ending if final else "")
    url = store("table.csv", text.encode())
    expected = list(csv.reader(io.StringIO(text, newline="")))
    assert records(url, how, header=header) == expected[1 if header else 0 :]
    if header:
        for part in partition(url, **how):
            assert part.header == (expected or [[]])[0]
            rows_of_file = list(csv.reader(io.TextIOWrapper(part.open(), newline="")))
            assert rows_of_file[1:] == list(part)
            assert rows_of_file[:1] == expected[:1]


@pytest.mark.parametrize("delimiter", ["|", ",", "\t"])
@pytest.mark.parametrize(
    "encoding", ["shift_jis", "gbk", "gb18030", "big5", "euc_jp", "latin-1", "utf-8-sig"]
)
def test_csv_in_encodings_in_which_a_delimiters_byte_may_be_part_of_a_letter(store, encoding, delimiter):
    letters = bytes([0x83, 0x7C]).decode(encoding, "ignore") or "x"
    text = f'h|k\n{letters}"x|1\n'.replace("|", delimiter) + f'"a\nb"{delimiter}2\n' * 5
    url = store("letters.csv", text.encode(encoding))
    expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]
    for size in (5, 10, 20):
        assert records(url, {"chunk_size": size}, delimiter=delimiter, encoding=encoding) == expected
    cut = len(partition(url, chunk_size=10, delimiter=delimiter, encoding=encoding)) > 1
    assert cut == (delimiter != "|" or encoding in ("latin-1", "utf-8-sig"))


@FULL
@given(ROWS, ENDINGS, SIZES, st.integers(1, 30))
def test_csv_is_cut_between_rows_wherever_its_blocks_end(rows, ending, size, block):
    text = ending.join(rows) + ending
    begins, taken = {0}, 0

    def counted():
        nonlocal taken
        for line in io.StringIO(text, newline=""):
            taken += len(line.encode())
            yield line

    for _ in csv.reader(counted()):
        begins.add(taken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_format, "BLOCK_BYTES", block)
        places = csv_format.Scanner(b",", b'"').places(io.BufferedReader(io.BytesIO(text.encode())), size)
    assert set(places) <= begins
    assert places == sorted(set(places))


@FULL
@given(
    st.lists(st.lists(st.sampled_from(["", "a", '"b,c"', '"d""e"', 'f"g']), min_size=1).map("\t".join)), HOW
)
def test_tsv_without_newlines_in_values_is_cut_unread(store, rows, how):
    text = "".join(f"{row}\n" for row in ["h\ti", *rows])
    url = store("table.tsv", text.encode())
    expected = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))[1:]
    assert records(url, how, newlines_in_values=False) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@FULL
@given(st.lists(JSON, max_size=20), st.sampled_from(["\n", "\r\n", "\n \n\n"]), st.booleans(), HOW)
def test_json_lines(store, values, ending, final, how):
    text = ending.join(json.dumps(value, ensure_ascii=False) for value in values) + (ending if final else "")
    assert records(store("values.jsonl", text.encode()), how) == values


NAMES = st.text("abc @>+|", max_size=8)
SEQUENCES = st.lists(st.text("ACGTN", max_size=12), max_size=4)


@FULL
@given(
    st.lists(st.tuples(NAMES, SEQUENCES), max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans(), HOW
)
def test_fasta(store, found, ending, final, how):
    parser = needed("Bio.SeqIO.FastaIO").SimpleFastaParser
    text = ending.join(line for name, lines in found for line in (">" + name, *lines))
    text += ending if final else ""
    made = records(store("genes.fa", text.encode()), how)
    # Biopython strips titles and reads with universal newlines.
    assert [(name.rstrip(), sequence) for name, sequence in made] == list(
        parser(io.StringIO(text.replace("\r\n", "\n")))
    )


QUALITIES = st.text("@+IJ!>", min_size=0, max_size=12)
READS = st.lists(st.tuples(NAMES, QUALITIES.filter(bool)), max_size=15)


@FULL
@given(READS, st.sampled_from(["\n", "\r\n"]), st.booleans(), HOW)
def test_fastq_of_four_lines(store, reads, ending, final, how):
    parser = needed("Bio.SeqIO.QualityIO").FastqGeneralIterator
    lines = [line for name, q in reads for line in ("@" + name, "ACGTN"[len(name) % 5] * len(q), "+", q)]
    text = ending.join(lines) + (ending if final else "")
    made = records(store("reads.fastq", text.encode()), how)
    assert made == [(name, "ACGTN"[len(name) % 5] * len(q), q) for name, q in reads]
    if reads:
        assert [(name.rstrip(), s, q) for name, s, q in made] == [
            (name.rstrip(), s, q) for name, s, q in parser(io.StringIO(text.replace("\r\n", "\n") + "\n"))
        ]


def wrapped(text, width):
    return [text[n : n + width] for n in range(0, len(text), width)]


@FULL
@given(READS, st.integers(1, 9), HOW)
def test_fastq_of_many_lines(store, reads, width, how):
    lines = [
        line
        for name, q in reads
        for line in ("@" + name, *wrapped("A" * len(q), width), "+", *wrapped(q, width))
    ]
    url = store("long.fq", "".join(f"{line}\n" for line in lines).encode())
    assert records(url, how, multiline=True) == [(name, "A" * len(q), q) for name, q in reads]
    if any(len(q) > width for _, q in reads):
        with pytest.raises(ValueError, match="multiline=True"):
            records(url, how)


# A piece of a byte reads the footer for it: once is enough.
@example([30], 7, {"chunk_size": 1})
@FULL
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 9),
    st.integers(400, 6000).map(lambda n: {"chunk_size": n}) | st.integers(1, 8).map(lambda n: {"chunks": n}),
)  # fmt: skip
def test_parquet(store, counts, group, how):
    pa = needed("pyarrow")
    pq = needed("pyarrow.parquet")
    rows = sum(counts)
    table = pa.table(
        {
            "n": pa.array(range(rows), pa.int32()),
            "s": pa.array([str(n) * 3 for n in range(rows)], pa.string()),
        }
    )
    data = io.BytesIO()
    pq.write_table(table, data, row_group_size=group)
    url = store("table.parquet", data.getvalue())
    parts = partition(url, **how)
    assert pa.concat_tables(part.table() for part in parts).equals(table)
    batches = records(url, how)
    assert pa.Table.from_batches(batches, table.schema).equals(table)
    assert pa.concat_tables(pq.read_table(part.open()) for part in parts).equals(table)


@FULL
@given(
    st.integers(0, 20), st.lists(st.integers(0, 3), max_size=2), st.sampled_from(["<i2", ">f8", "?", "S3", "<c8"]),
    st.booleans(), HOW,
)  # fmt: skip
def test_npy(store, rows, shape, dtype, fortran, how):
    np = needed("numpy")
    count = rows * int(np.prod(shape, dtype=int))
    array = np.arange(count).astype(dtype).reshape(rows, *shape, order="F" if fortran else "C")
    data = io.BytesIO()
    np.save(data, array)
    url = store("array.npy", data.getvalue())
    parts = partition(url, **how)
    assert np.array_equal(np.concatenate([part.array() for part in parts]), array)
    assert np.array_equal(np.concatenate([np.load(part.open()) for part in parts]), array)
    made = records(url, how)
    assert len(made) == rows
    assert all(np.array_equal(one, other) for one, other in zip(made, array, strict=True))


FILES = st.lists(st.binary(max_size=200), max_size=6)


@FULL
@given(FILES, HOW)
def test_zip(store, files, how):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        for n, content in enumerate(files):
            archive.writestr(f"folder/{n}", content)
    url = store("files.zip", data.getvalue())
    made = [(member.name, member.read()) for part in partition(url, **how) for member in part]
    assert made == [(f"folder/{n}", content) for n, content in enumerate(files)]


@FULL
@given(FILES, HOW, st.booleans())
def test_tar(store, files, how, compressed):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz" if compressed else "w") as archive:
        for n, content in enumerate(files):
            about = tarfile.TarInfo(f"{n}" * (150 if n % 2 else 1))  # a long name has a header of its own
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    url = store("files.tar.gz" if compressed else "files.tar", data.getvalue())
    made = [(member.name, member.read()) for part in partition(url, **how) for member in part]
    assert made == [(f"{n}" * (150 if n % 2 else 1), content) for n, content in enumerate(files)]


# -- compressed -------------------------------------------------------------------------------------------------------


@FULL
@given(st.lists(TEXT, max_size=4), HOW)
def test_gzip_of_several_members(store, texts, how):
    url = store("text.txt.gz", b"".join(gzip.compress(text.encode()) for text in texts))
    assert records(url, how) == lines_of("".join(texts))


def bgzipped(data, size):
    """As bgzip writes it: blocks, each a gzip member with its size in an extra field, and an empty one."""
    made = []
    for n in [*range(0, len(data), size), None]:
        plain = b"" if n is None else data[n : n + size]
        member = gzip.compress(plain, mtime=0)
        body = member[10:]
        made.append(
            b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", 18 + len(body) - 1) + body
            if plain
            else bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
        )
    return b"".join(made)


@FULL
@given(TEXT, st.integers(1, 50), HOW, st.sampled_from(["gz", "bgz"]))
def test_bgzip(store, text, size, how, suffix):
    url = store(f"text.txt.{suffix}", bgzipped(text.encode(), size))
    assert gzip.decompress(bgzipped(text.encode(), size)) == text.encode()
    assert records(url, how) == lines_of(text)


@FULL
@given(st.integers(0, 3), st.integers(1, 4), st.integers(20_000, 60_000))
def test_bgzip_within_bgzip_is_not_taken_for_it(store, seed, chunks, size):
    inner = bgzipped(b"".join(b"%d\n" % number for number in NOISE[seed:]), size)
    # Stored as it is, so that the inner blocks stand in the outer ones to the last byte.
    blocks = []
    for n in range(0, len(inner), 60_000):
        plain = inner[n : n + 60_000]
        body = gzip.compress(plain, 0, mtime=0)[10:]
        blocks.append(
            b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", 18 + len(body) - 1) + body
        )
    url = store("twice.bgz", b"".join(blocks) + bgzipped(b"", 1))
    assert b"".join(records(url, {"chunks": chunks * 10}, format="bytes")) == inner


@FULL
@given(st.lists(TEXT.filter(bool), max_size=6), HOW, st.sampled_from(["table", "index", "neither"]))
def test_zstd(store, texts, how, known):
    zstandard = needed("zstandard")
    frames = [zstandard.compress(text.encode()) for text in texts]
    data = b"".join(frames)
    if known == "table":
        rows = b"".join(
            struct.pack("<II", len(f), len(t.encode())) for f, t in zip(frames, texts, strict=True)
        )
        table = rows + struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
        data += struct.pack("<II", 0x184D2A5E, len(table)) + table
    url = store("text.txt.zst", data)
    assert records(url, how, index=known == "index") == lines_of("".join(texts))
    if known != "neither" and len(texts) > 2:
        assert len(partition(url, chunk_size=1, index=known == "index")) >= len(texts)


@FULL
@given(st.integers(0, 3999), st.integers(10_000, 200_000), st.integers(1, 2))
def test_gzip_with_an_index(store, seed, size, members):
    needed("indexed_gzip")
    lines = [b"%d %d\n" % (n, number) for n, number in enumerate(NOISE[seed:] + NOISE[:seed])]
    half = len(lines) // members
    data = b"".join(gzip.compress(b"".join(lines[n : n + half])) for n in range(0, half * members, half))
    url = store("indexed.txt.gz", data)
    made = records(url, {"chunk_size": size}, index=True)
    assert [line.encode() for line in made] == lines[: half * members]
