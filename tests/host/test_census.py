"""The agent's book of holders: an object is free when no process, no fork under way and no message holds it."""

import pytest

from cloudpool.host.census import Census, Member


@pytest.fixture
def census():
    return Census()


@pytest.fixture
def members():
    return Member(1, -1), Member(2, -1)


def test_object_is_free_when_its_last_holder_drops_it(census, members):
    one, other = members
    census.hold(one.holds, ["a"])
    census.hold(other.holds, ["a"])
    assert census.drop(one, "a") == []
    assert census.drop(other, "a") == ["a"]


def test_holding_twice_counts_once(census, members):
    one, _ = members
    census.hold(one.holds, ["a"])
    census.hold(one.holds, ["a"])
    assert census.drop(one, "a") == ["a"]


def test_object_that_its_maker_never_told_of_is_free_when_it_drops_it(census, members):
    maker, other = members
    maker.name, other.name = "1.1", "1.2"
    assert census.drop(other, "lock.1.1.7") == []  # what makes it known may be under way from its maker
    assert census.drop(maker, "lock.1.1.7") == ["lock.1.1.7"]


def test_sender_that_never_told_of_its_object_holds_it_beside_the_message(census, members):
    sender, receiver = members
    census.depart(sender, "a", "a>1")
    assert census.arrive(receiver, "a", "a>1") == []
    assert census.drop(receiver, "a") == []
    assert census.drop(sender, "a") == ["a"]


def test_child_that_has_said_itself_what_it_holds_is_not_given_its_ticket(census, members):
    parent, child = members
    census.hold(parent.holds, ["a", "b"])
    census.ticket(parent, "t")
    child.has_spoken = True
    census.hold(child.holds, ["a"])
    assert census.redeem(child, "t") == []
    assert census.drop(parent, "b") == ["b"]


def test_object_that_others_hold_is_not_freed_by_one_who_never_told_of_it(census, members):
    one, other = members
    census.hold(one.holds, ["a"])
    assert census.drop(other, "a") == []


def test_fork_under_way_holds_what_the_parent_held(census, members):
    parent, child = members
    census.hold(parent.holds, ["a"])
    census.ticket(parent, "t")
    assert census.drop(parent, "a") == []
    assert census.redeem(child, "t") == []
    assert child.holds == {"a"}
    assert census.drop(child, "a") == ["a"]


def test_fork_that_came_to_nothing_frees_what_only_it_held(census, members):
    parent, _ = members
    census.hold(parent.holds, ["a", "b"])
    census.ticket(parent, "t")
    assert census.drop(parent, "a") == []
    assert census.void("t") == ["a"]
    assert census.void("t") == []


def test_message_under_way_holds_what_is_in_it(census, members):
    sender, receiver = members
    census.hold(sender.holds, ["a"])
    census.depart(sender, "a", "a>1")
    assert census.drop(sender, "a") == []
    assert census.arrive(receiver, "a", "a>1") == []
    assert census.drop(receiver, "a") == ["a"]


def test_arrival_that_is_heard_of_before_the_departure_counts(census, members):
    sender, receiver = members
    census.hold(sender.holds, ["a"])
    assert census.arrive(receiver, "a", "a>1") == []
    census.depart(sender, "a", "a>1")
    assert census.drop(sender, "a") == []
    assert census.drop(receiver, "a") == ["a"]


def test_pinned_object_stays(census, members):
    census.hold(members[0].holds, ["a"])
    census.pin("a")
    assert census.drop(members[0], "a") == []


def test_dead_member_holds_nothing(census, members):
    one, other = members
    census.hold(one.holds, ["a", "b"])
    census.hold(other.holds, ["b"])
    assert census.bury(one) == ["a"]
    assert census.bury(other) == ["b"]


def test_fork_whose_parent_died_before_it_told_of_the_child_holds_until_that_has_let_go(census, members):
    parent, _ = members
    parent.lines = 1
    census.members[parent.pid] = parent
    census.hold(parent.holds, ["a", "b"])
    census.ticket(parent, "t")
    census.ticket(parent, "u")
    assert census.bury(parent) == []
    assert census.void("u") == []
    assert sorted(census.hung_up(parent)) == ["a", "b"]
    assert census.hung_up(parent) == []


def test_fork_of_one_whose_line_ended_before_it_died_holds_until_then(census, members):
    parent, _ = members
    parent.lines = 2
    census.members[parent.pid] = parent
    census.hold(parent.holds, ["a"])
    census.ticket(parent, "t")
    assert census.hung_up(parent) == census.hung_up(parent) == []
    assert census.bury(parent) == ["a"]
