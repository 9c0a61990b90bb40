"""Partitions of sequences in memory."""

import pickle

import pytest
from hypothesis import given, strategies as st
from needed import needed

from cloudpool.chunking import partition


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_pieces_of_a_size_are_the_items_in_order_and_only_the_last_is_shorter(items, size):
    pieces = partition(items, chunk_size=size)
    assert [x for piece in pieces for x in piece] == items
    assert [len(p) for p in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert all(pieces)


@given(st.integers(0, 200), st.integers(1, 250))
def test_a_number_of_pieces_differ_by_one_item_at_most_and_none_is_empty(length, chunks):
    pieces = partition(range(length), chunks=chunks)
    sizes = [len(p) for p in pieces]
    assert len(pieces) == min(chunks, length)
    assert [x for p in pieces for x in p] == list(range(length))
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert all(sizes)


@given(st.integers(0, 60), st.integers(1, 20), st.slices(20))
def test_slices_are_pieces_again_and_survive_a_pickle(length, chunks, cut):
    pieces = partition(range(length), chunks=chunks)
    expected = list(pieces)[cut]
    assert told(pieces[cut]) == told(expected)
    again = pickle.loads(pickle.dumps(pieces[cut]))
    assert told(again) == told(expected)
    assert told(pickle.loads(pickle.dumps(again[::-1]))) == told(expected[::-1])


def told(pieces):
    return [(piece.index, piece.start, piece.stop, list(piece)) for piece in pieces]


def test_pieces_are_of_the_kind_of_their_items_and_not_copied_where_slices_are_views():
    np = needed("numpy")
    assert partition(range(0, 100, 2), chunk_size=20)[1].items == range(40, 80, 2)
    assert partition(b"abcde", chunks=2)[0].items == b"abc"
    array = np.arange(10).reshape(5, 2)
    piece = partition(array, chunks=2)[-1]
    assert np.shares_memory(piece.array(), array)
    assert piece.array().tolist() == [[6, 7], [8, 9]]
    assert [row.tolist() for row in piece] == [[6, 7], [8, 9]]
    assert piece[0].tolist() == [6, 7]


def test_pieces_of_a_frame_are_frames():
    pd = needed("pandas")
    frame = pd.DataFrame({"a": range(7), "b": list("abcdefg")}, index=range(100, 107))
    pieces = pickle.loads(pickle.dumps(partition(frame, chunk_size=3)))
    assert pd.concat(piece.frame() for piece in pieces).equals(frame)
    assert [row.b for row in pieces[2]] == ["g"]
    with pytest.raises(TypeError, match="not of a data frame"):
        partition([1], chunks=1)[0].frame()


def test_nothing_is_made_of_a_huge_range():
    pieces = partition(range(10**15), chunk_size=10**6)
    assert len(pieces) == 10**9
    assert pieces[-1].items == range(10**15 - 10**6, 10**15)
    assert len(pickle.dumps(pieces)) < 300


def test_a_pickle_carries_the_items_of_its_pieces_only():
    pieces = partition(bytes(1_000_000), chunk_size=1000)
    assert len(pickle.dumps(pieces[3:5])) < 3000


def test_no_items_are_no_pieces():
    assert list(partition([])) == []
    assert list(partition([], chunks=3)) == []
    assert list(partition([], chunk_size=3)) == []


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name", ["chunks", "chunk_size"])
def test_numbers_below_one_are_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {number}"):
        partition([1], **{name: number})


@pytest.mark.parametrize("name", ["chunks", "chunk_size"])
def test_numbers_that_are_not_whole_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a whole number"):
        partition([1], **{name: 1.5})


@pytest.mark.parametrize("numbers", [{}, {"chunks": 1, "chunk_size": 1}])
def test_neither_or_both_numbers_are_refused(numbers):
    with pytest.raises(TypeError, match="either chunks or chunk_size"):
        partition([1], **numbers)


def test_options_of_objects_in_storage_are_refused():
    with pytest.raises(TypeError, match="a list is cut by chunk_size or chunks"):
        partition([1, 2], chunks=1, format="csv")


@pytest.mark.parametrize("items", [iter([1]), {1}, {1: 2}, 7])
def test_what_has_no_slices_is_refused(items):
    with pytest.raises(TypeError, match="needs a sequence"):
        partition(items, chunks=1)


def test_an_index_out_of_range_says_how_many_there_are():
    with pytest.raises(IndexError, match="there are 2 pieces, so no piece 2"):
        partition([1, 2], chunks=2)[2]
