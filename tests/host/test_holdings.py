"""What a process tells of its handles comes to the agent in the order in which it was so, whichever thread says it."""

import threading

import pytest

from cloudpool.host.census import Census, Member
from cloudpool.host.holdings import Holdings

WAIT_S = 60


class Told:
    """A process's handles, and the agent's book as what it is told makes it. `before` is called before a message goes off."""

    def __init__(self):
        self.census, self.member = Census(), Member(1, -1)
        self.member.name = "1.1"
        self.before = lambda _op: None
        self.holdings = Holdings(self.tell, self.wait, lambda: "1.1", threading.RLock())

    def wait(self):
        self.before("wait")

    def tell(self, op, *said):
        self.before(op)
        if op == "holds":
            self.census.hold(self.member.holds, *said)
        elif op == "drop":
            self.census.drop(self.member, *said)
        elif op == "send":
            self.census.depart(self.member, *said)
        elif op == "got":
            self.census.arrive(self.member, *said)
        elif op == "ticket":
            self.census.ticket(self.member, *said)


@pytest.fixture
def told():
    return Told()


def in_another_thread(call):
    """Have a thread call it; how to wait for that."""
    thread = threading.Thread(target=call)
    thread.start()
    return lambda: thread.join(WAIT_S) or not thread.is_alive()


def test_a_handle_that_another_thread_drops_while_it_is_told_of_is_free(told):
    told.holdings.hold("a")
    waits = []

    def drop(op):
        if op == "holds":
            waits.append(in_another_thread(lambda: told.holdings.drop("a")))

    told.before = drop
    told.holdings.tell_all()
    assert [wait() for wait in waits] == [True]
    assert told.census.is_free("a")


def test_a_handle_that_a_garbage_collection_drops_while_it_is_told_of_is_free(told):
    told.holdings.hold("a")
    told.before = lambda op: op == "holds" and told.holdings.drop("a")
    told.holdings.announce("t")
    assert told.member.holds == set()
    told.census.void("t")
    assert told.census.is_free("a")


def test_a_handle_that_comes_back_while_the_last_one_is_dropped_is_held(told):
    told.holdings.hold("a")
    told.holdings.tell_all()
    told.census.depart(Member(2, -1), "a", "a>1.2.1")
    waits = []

    def arrive(op):
        if op == "drop":
            waits.append(in_another_thread(lambda: told.holdings.arrive("a", "a>1.2.1")))

    told.before = arrive
    told.holdings.drop("a")
    assert [wait() for wait in waits] == [True]
    assert told.member.holds == {"a"}


def test_a_handle_that_is_dropped_while_its_arrival_is_told_is_free(told):
    told.census.depart(Member(2, -1), "a", "a>1.2.1")
    waits = []

    def drop(op):
        if op == "got":
            waits.append(in_another_thread(lambda: told.holdings.drop("a")))

    told.before = drop
    told.holdings.arrive("a", "a>1.2.1")
    assert [wait() for wait in waits] == [True]
    assert told.member.holds == set()


def test_a_message_goes_off_when_the_agent_has_dealt_with_the_handles_in_it(told):
    told.holdings.hold("a")
    said = []
    told.before = said.append
    with told.holdings.in_message(read_once=True):
        told.holdings.depart("a")
    assert said == ["send", "wait"]
    with told.holdings.in_message(read_once=True):
        pass
    assert said == ["send", "wait"]


def test_a_message_that_a_signal_keeps_from_going_off_holds_nothing(told):
    told.holdings.hold("a")

    def interrupt(op):
        if op == "wait":
            raise KeyboardInterrupt

    told.before = interrupt
    with pytest.raises(KeyboardInterrupt), told.holdings.in_message(read_once=True):
        told.holdings.depart("a")
    told.holdings.drop("a")
    assert told.census.is_free("a")
