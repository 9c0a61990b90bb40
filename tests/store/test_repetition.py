"""A script that is sent again after a cut does its work once: the answer was lost, not the command."""

import pytest

from cloudpool.store import scripts
from cloudpool.store.keys import PARTS

BASE = "cp:test:{thing}:"


@pytest.fixture
def run(store):
    """run(name, *args): a script's answer; its keys are gone at the end."""

    def run(name, *args):
        return store.call("EVAL", scripts.source(name), 1, BASE, *args)

    yield run
    store.call("DEL", *store.call("KEYS", BASE + "*") or ["none"])


@pytest.fixture
def part(store):
    """part(name): what is in a part of the thing."""

    def part(name):
        kind = store.call("TYPE", BASE + name)
        return (
            store.call("LRANGE", BASE + name, 0, -1)
            if kind == b"list"
            else store.call("HGETALL", BASE + name)
        )

    return part


def test_put_is_put_once_and_not_before_an_earlier_one(run, part):
    assert run("queue_put", "p", 2, 0, 0, 0, "b") == -1
    assert [run("queue_put", "p", 1, 0, 0, 0, "a") for _ in range(2)] == [1, 1]
    assert run("queue_put", "p", 2, 0, 0, 0, "b") == 1
    assert run("queue_put", "q", 1, 0, 0, 0, "c") == 1
    assert part("items") == [b"a", b"b", b"c"]


def test_put_to_a_full_one_joins_the_line_once(run, part):
    run("queue_put", "p", 1, 1, 0, 1, "a")
    assert [run("queue_put", "q", 1, 1, 0, 1, "b") for _ in range(2)] == [0, 0]
    assert part("line") == [b"q"]


def test_acknowledgement_leaves_what_it_says(run, part, store):
    store.call("RPUSH", BASE + "taken:p", "kept", "got")
    for _ in range(2):
        run("queue_taken", "p", 1, 1, 0, 0)
        assert part("taken:p") == [b"kept"]


def test_late_repetition_of_an_acknowledgement_leaves_what_was_taken_since(run, part, store):
    run("queue_taken", "p", 1, 0, 0, 0)
    store.call("RPUSH", BASE + "taken:p", "next")
    run("queue_taken", "p", 1, 0, 0, 0)
    assert part("taken:p") == [b"next"]


def test_acknowledgement_leaves_an_item_though_another_was_taken_away(run, part, store):
    store.call("SADD", BASE + "parties", "p/1", "q/1")
    store.call("RPUSH", BASE + "taken:p/1", "first", "second")
    store.call("HSET", BASE + "state", "unfinished", 2)
    assert run("queue_done", "q/1", 1, 0, 1)[1] == b"first"
    assert run("account", "taken", "seen", "p/1") == [2, b"second"]
    run("queue_taken", "p/1", 1, 2, 0, 0)
    assert part("taken:p/1") == [b"second"]


def test_done_counts_once(run, store):
    for n in (1, 2):
        run("queue_put", "p", n, 0, 0, 0, "x")
    assert [run("queue_done", "p", 1, 0, 0) for _ in range(2)] == [[0, b"", 0], [0, b"", 0]]
    assert run("queue_unfinished")[0] == 1


def test_done_names_its_blob_each_time_and_no_other(run, store):
    store.call("SADD", BASE + "parties", "p/1")
    store.call("HSET", BASE + "state", "unfinished", 2)
    store.call("RPUSH", BASE + "taken:p/1", "bblob.1.1 70000", "psmall")
    assert [run("queue_done", "p/1", 1, 0, 1) for _ in range(2)] == [[1, b"bblob.1.1 70000", 0]] * 2
    assert [run("queue_done", "p/1", 2, 0, 1) for _ in range(2)] == [[0, b"psmall", 0], [0, b"", 0]]
    run("reap_queue", "p", "dead", 0)
    assert store.call("EXISTS", BASE + "seen") == 0


def test_release_counts_once_though_others_release_in_between(run, part):
    assert run("semaphore_release", "p/1", 0, 0, 1) == 1
    assert run("semaphore_release", "q/1", 0, 0, 1) == 1
    assert run("semaphore_release", "p/1", 0, 0, 1) == 1
    assert len(part("avail")) == 2


def test_party_account_is_the_same_after_another_has_released_its_token(run, store):
    store.call("SADD", BASE + "parties", "p/1", "q/1")
    store.call("RPUSH", BASE + "held:p/1", "t")
    assert run("account", "held", "state", "p/1") == [1, b"t"]
    assert run("semaphore_release", "q/1", 1, 0, 1) == 1
    assert run("account", "held", "state", "p/1") == [1, b""]


def test_event_is_changed_once_though_others_change_it_in_between(run, store):
    run("event_change", "p", 1, "set", 0)
    run("event_change", "q", 1, "clear", 0)
    run("event_change", "p", 1, "set", 0)
    assert store.call("EXISTS", BASE + "flag") == 0


def test_arrival_at_a_barrier_counts_once(run):
    assert [run("barrier_arrive", 3, "p:1", 0, 0) for _ in range(2)] == [[0, 1], [0, 1]]
    assert run("barrier_arrive", 3, "q:1", 0, 0) == [1, 1]


def test_arrival_is_told_again_when_its_phase_is_over(run, part):
    for party, index in (("p", 0), ("q", 1)):
        assert run("barrier_arrive", 2, f"{party}:1", 0, 0) == [index, 1]
    for party, index in (("p", 0), ("q", 1)):
        assert run("barrier_arrive", 2, f"{party}:1", 0, 0) == [index, 1]
    assert part("line") == []


def test_barrier_is_reset_once(run, part):
    run("barrier_end", 0, "reset", 0, "p", 1)
    run("barrier_arrive", 2, "q:1", 0, 0)
    run("barrier_end", 0, "reset", 0, "p", 1)
    assert part("line") == [b"q:1"]


def test_end_of_a_phase_is_told_to_who_asks_again(run):
    run("barrier_arrive", 2, "p:1", 1, 0)
    assert [run("barrier_end", 1, "passed", 0, "p", 1) for _ in range(2)] == [b"passed", b"passed"]
    assert run("barrier_arrive", 2, "p:2", 1, 0) == [0, 2]


def test_wait_at_a_condition_joins_the_line_once(run):
    assert [run("condition_wait", "p", "p:1", 0) for _ in range(2)] == [1, 1]


def test_wait_that_has_been_woken_does_not_join_the_line_again(run, part):
    run("condition_wait", "p", "p:1", 0)
    run("condition_notify", 1, 0, "n", 1)
    run("condition_wait", "p", "p:1", 0)
    assert part("line") == []
    assert part("wake:p") == [b"p:1"]


def test_leaving_a_condition_says_twice_that_it_was_woken(run):
    run("condition_wait", "p", "p:1", 0)
    run("condition_notify", 1, 0, "n", 1)
    assert [run("condition_leave", "p", "p:1", "", 0) for _ in range(2)] == [1, 1]


def test_notify_wakes_once(run, part):
    for party in ("p", "q"):
        run("condition_wait", party, f"{party}:1", 0)
    assert [run("condition_notify", 1, 0, "n", 1) for _ in range(2)] == [1, 0]
    assert part("line") == [b"q:1"]


def test_message_is_sent_once(run, part):
    for _ in range(2):
        assert run("pipe_send", "a", "p", 1, 0, 100, 1, "x") == 1
    assert part("a") == [b"x"]


def test_receipt_of_a_message_gives_room_once(run, store):
    run("pipe_send", "a", "p", 1, 0, 100, 5, "x")
    store.call("LMOVE", BASE + "a", BASE + "taken-a:q", "LEFT", "RIGHT")
    assert [run("pipe_taken", "q", "a", 100, 5, 0, 1) for _ in range(2)] == [1, 0]
    assert store.call("HGET", BASE + "state", "bytes a") == b"0"


def test_late_repetition_of_a_receipt_leaves_the_next_message(run, part, store):
    run("pipe_taken", "q", "a", 100, 5, 0, 1)
    store.call("RPUSH", BASE + "taken-a:q", "next")
    run("pipe_taken", "q", "a", 100, 5, 0, 1)
    assert part("taken-a:q") == [b"next"]


def test_reap_of_a_process_is_final(run, part, store):
    store.call("SADD", BASE + "parties", "p/1", "q/1")
    store.call("RPUSH", BASE + "taken:p/1", "a", "b")
    store.call("RPUSH", BASE + "taken:q/1", "c")
    assert [run("reap_queue", "p", "dead", 0) for _ in range(2)] == [2, 0]
    assert part("items") == [b"a", b"b"]
    assert store.call("SMEMBERS", BASE + "parties") == [b"q/1"]


@pytest.mark.parametrize("kind", PARTS)
def test_free_leaves_no_key(kind, run, store):
    parts = PARTS[kind]
    if parts.party:
        store.call("SADD", BASE + "parties", "p/1")
    for name in [*(own for own in parts.own if own != "parties"), *(f"{party}:p/1" for party in parts.party)]:
        store.call("SET", BASE + name, "x")
    arguments = (len(parts.own), *parts.own, *parts.party)
    store.call("EVAL", scripts.source("free"), 1, BASE, *arguments)
    assert store.call("KEYS", BASE + "*") == []


def test_worker_whose_results_wait_is_given_more_once(run, part, store):
    store.call("RPUSH", BASE + "tasks", "2 x", "3 x", "4 x")
    store.call("RPUSH", BASE + "running:p", "1 x")
    done = ("p", 1, 0, "", 1, "1", "result", 1)
    assert [run("pool_done", 2, *done) for _ in range(2)] == [[b"2 x", b"3 x"], None]
    assert (part("running:p"), part("tasks"), part("results")) == ([b"1 x", b"2 x", b"3 x"], [b"4 x"], [])
    store.call("DEL", BASE + "tasks")  # others were faster: what it was given is its own, whatever is left
    assert run("pool_done", 2, *done) is None
    assert (part("running:p"), part("results")) == ([b"1 x", b"2 x", b"3 x"], [])


@pytest.mark.parametrize("line", [[], ["."]])
def test_results_wait_for_nothing_where_no_task_is(run, part, store, line):
    if line:
        store.call("RPUSH", BASE + "tasks", *line)
    store.call("RPUSH", BASE + "running:p", "1 x", "2 x")
    done = ("p", 1, 0, "", 2, "1", "results", 1)
    assert [run("pool_done", 2, *done) for _ in range(2)] == [[each.encode() for each in line], None]
    assert (part("running:p"), part("results")) == ([each.encode() for each in line], [b"results"])
