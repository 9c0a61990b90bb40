"""The sender's thread: it sends what is held back by others, and a fork waits for it, but not for ever."""

import os
import threading
import time

import pytest
from waiting import until

from cloudpool.store import sender
from cloudpool.store.sender import Sender


class Puts:
    """One that is held back, until it is sent; that may take its time."""

    number, last_at, unsure = 1, 0.0, False

    def __init__(self):
        self.sent = self.there = 0
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def send_by(self, call_many):
        self.begun.set()
        self.may_go_on.wait()
        call_many([])
        self.sent = 1


class Line:
    """A connection; cut, it answers nothing."""

    is_cut = False

    def call_many(self, commands):
        if self.is_cut:
            raise ConnectionResetError


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def hung_up():
    return []


@pytest.fixture
def sending(line, hung_up):
    made = Sender(lambda: line, hung_up.append)
    yield made
    made.stop()


def test_what_it_takes_it_sends(sending):
    puts = Puts()
    assert sending.takes(puts)
    until(lambda: puts.sent)


def test_it_ends_when_there_is_nothing_to_do_and_comes_again(sending, hung_up, monkeypatch):
    monkeypatch.setattr(sender, "IDLE_S", 0.01)
    for count in 1, 2:
        puts = Puts()
        assert sending.takes(puts)
        until(lambda count=count: len(hung_up) == count)
        assert puts.sent


def test_a_stop_sends_what_is_held_and_leaves_no_thread(sending, hung_up, monkeypatch):
    monkeypatch.setattr(sender, "HOLD_S", 60.0)
    puts = Puts()
    puts.last_at = time.monotonic()
    assert sending.takes(puts)
    threads = os.listdir("/proc/self/task")
    sending.stop()
    assert puts.sent
    assert hung_up
    assert len(os.listdir("/proc/self/task")) == len(threads) - 1


def test_between_two_stops_and_the_last_go_on_it_takes_nothing(sending):
    sending.stop()
    sending.stop()
    assert not sending.takes(Puts())
    sending.go_on()
    assert not sending.takes(Puts())
    sending.go_on()
    assert sending.takes(Puts())


def test_a_stop_does_not_wait_for_ever_and_what_is_held_then_goes_later(sending, monkeypatch):
    monkeypatch.setattr(sender, "FORK_S", 0.05)
    stuck, behind = Puts(), Puts()
    stuck.may_go_on.clear()
    assert sending.takes(stuck)
    stuck.begun.wait()
    assert sending.takes(behind)
    sending.stop()
    assert not behind.sent
    sending.go_on()
    stuck.may_go_on.set()
    until(lambda: behind.sent)


def test_what_a_cut_connection_has_not_sent_goes_by_the_next_one(sending, line, hung_up):
    line.is_cut = True
    first, second = Puts(), Puts()
    assert sending.takes(first)
    until(lambda: hung_up)
    assert not first.sent
    line.is_cut = False
    assert sending.takes(second)
    until(lambda: first.sent and second.sent)


def test_a_handler_that_begins_it_in_the_middle_of_a_begin_leaves_one(hung_up):
    first, second, lines = Puts(), Puts(), []

    def dial():
        line = Line()
        lines.append(line)
        if len(lines) == 1:
            assert sending.takes(second)
        return line

    sending = Sender(dial, hung_up.append)
    assert sending.takes(first)
    assert hung_up == [lines[0]]
    until(lambda: first.sent and second.sent)
    sending.stop()
    assert hung_up == lines


def test_where_it_cannot_dial_it_takes_nothing(hung_up):
    def dial():
        raise OSError

    assert not Sender(dial, hung_up.append).takes(Puts())


def test_its_own_thread_may_fork(sending):
    """A finalizer may, that is collected there."""

    class Forking(Puts):
        def send_by(self, call_many):
            sending.stop()
            sending.go_on()
            super().send_by(call_many)

    puts = Forking()
    assert sending.takes(puts)
    until(lambda: puts.sent)
