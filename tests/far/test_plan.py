"""Who goes where, as the fleet's plan says it: every event in any order, and no process waits for room that cannot come."""

from __future__ import annotations

import itertools
import signal

from hypothesis import given, settings, strategies as st

from cloudpool.runners.plan import Host, Launch, Plan

numbers = itertools.count(1)


def launch(plan, name):
    plan.waiting[name] = Launch(name, 1, ())


def ask(plan):
    """As the fleet asks for the hosts that are needed."""
    wanted = plan.to_start()
    for _ in range(wanted):
        plan.coming[next(numbers)] = 0.0
    return wanted


def come(plan, slots):
    number = min(plan.coming)
    del plan.coming[number]
    host = plan.hosts[number] = Host(number, number, slots, set(), 0.0)
    return host


def test_first_process_asks_for_one_host_and_goes_there():
    plan = Plan(4, 2)
    launch(plan, "a")
    assert plan.assign() == []
    assert ask(plan) == 1
    assert ask(plan) == 0
    assert plan.assign() == []
    host = come(plan, 2)
    assert [(h, sent.process_id) for h, sent in plan.assign()] == [(host, "a")]
    assert plan.to_start() == 0


def test_as_many_hosts_as_the_processes_need():
    plan = Plan(10, 4)
    for n in range(9):
        launch(plan, n)
    assert ask(plan) == 3


def test_no_more_hosts_than_there_can_be():
    plan = Plan(2, 2)
    for n in range(20):
        launch(plan, n)
    assert ask(plan) == 2


def test_more_processes_than_room_are_shared_out_once_all_hosts_are_there():
    plan = Plan(2, 2)
    for n in range(20):
        launch(plan, n)
    ask(plan)
    first = come(plan, 2)
    assert len(plan.assign()) == 2  # the others wait for the one that is coming
    second = come(plan, 2)
    assert len(plan.assign()) == 18
    assert len(first.running) == len(second.running) == 10


def test_hosts_that_do_not_come_are_not_waited_for():
    plan = Plan(2, 2)
    for n in range(6):
        launch(plan, n)
    ask(plan)
    come(plan, 2)
    plan.assign()
    plan.coming.clear()
    plan.most_hosts = 1  # the engine has refused
    assert len(plan.assign()) == 4


def test_hosts_that_are_late_are_given_up_for_those_that_are_there():
    plan = Plan(3, 1)
    for n in range(3):
        launch(plan, n)
    ask(plan)
    come(plan, 1)
    plan.assign()
    plan.coming[max(plan.coming)] = 70.0
    (late,) = plan.late(60.0)
    del plan.coming[late]
    plan.shrink()
    assert ask(plan) == 0
    assert plan.assign() == []  # one is still to come
    come(plan, 1)
    assert len(plan.assign()) == 2
    plan.grow()
    launch(plan, "later")
    assert ask(plan) == 1


def test_least_loaded_host_gets_the_next():
    plan = Plan(2, 4)
    for n in range(8):
        launch(plan, n)
    ask(plan)
    small, large = come(plan, 2), come(plan, 4)
    plan.assign()
    assert (len(small.running), len(large.running)) in {(3, 5), (2, 6)}


def test_host_that_has_gone_gives_back_what_ran_there():
    plan = Plan(1, 2)
    launch(plan, "a")
    ask(plan)
    host = come(plan, 2)
    plan.assign()
    assert [lost.process_id for lost in plan.gone(host)] == ["a"]
    assert not plan.is_busy()
    assert plan.ended("a") is None


def test_signals_that_end_no_process_leave_it_waiting():
    plan = Plan(1, 1)
    launch(plan, "a")
    for signalnum in (0, signal.SIGCONT, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGTSTP):
        assert plan.cancel("a", signalnum) is None
    assert "a" in plan.waiting
    assert plan.cancel("a", signal.SIGUSR1).process_id == "a"
    assert not plan.waiting


EVENTS = st.lists(
    st.sampled_from(["launch", "launch", "launch", "come", "come", "fail", "late", "grow", "end", "gone"]),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    events=EVENTS,
    most_hosts=st.integers(1, 4),
    slots=st.integers(1, 3),
    pick=st.randoms(use_true_random=False),
)
def test_every_process_is_placed_in_the_end(events, most_hosts, slots, pick):
    plan = Plan(most_hosts, slots)
    launched, ended = set(), set()
    for n, event in enumerate(events):
        if event == "launch":
            launch(plan, n)
            launched.add(n)
        elif event == "come" and plan.coming:
            come(plan, slots)
        elif event == "fail" and plan.coming:
            del plan.coming[min(plan.coming)]
        elif event == "late" and plan.coming and plan.hosts:
            del plan.coming[min(plan.coming)]
            plan.shrink()
        elif event == "grow":
            plan.grow()
        elif event == "end" and plan.places:
            process_id = pick.choice(sorted(plan.places))
            plan.ended(process_id)
            ended.add(process_id)
        elif event == "gone" and plan.hosts:
            ended |= {
                lost.process_id
                for lost in plan.gone(pick.choice(sorted(plan.hosts.values(), key=lambda h: h.epoch)))
            }
        ask(plan)
        plan.assign()
        check(plan, launched - ended)
        # Nobody waits without a host that is to come.
        assert plan.coming or not plan.waiting
    while plan.coming:
        come(plan, slots)
        plan.assign()
        ask(plan)
    check(plan, launched - ended)
    assert not plan.waiting


def check(plan, alive):
    placed = [process_id for host in plan.hosts.values() for process_id in host.running]
    assert len(placed) == len(set(placed)) == len(plan.places)
    assert set(placed) | set(plan.waiting) == alive
    assert len(plan.hosts) + len(plan.coming) <= plan.most_hosts


def test_host_that_is_closing_takes_no_more_and_counts_no_more():
    plan = Plan(1, 1)
    launch(plan, "a")
    ask(plan)
    host = come(plan, 1)
    assert [sent.process_id for _, sent in plan.assign()] == ["a"]
    host.is_closing = True
    launch(plan, "b")
    assert plan.assign() == []
    assert plan.to_start() == 1


def test_process_that_is_declined_waits_for_another_host_unless_it_was_ended_meanwhile():
    plan = Plan(1, 2)
    for name in "ab":
        launch(plan, name)
    ask(plan)
    come(plan, 2)
    plan.assign()
    plan.places["b"][1].signals.append(15)
    assert plan.declined("a") is None
    assert plan.declined("b").process_id == "b"
    assert (list(plan.waiting), plan.places) == (["a"], {})
    assert plan.declined("a") is None  # said twice


def test_hosts_that_have_not_come_are_asked_for_again_less_and_less_often():
    plan = Plan(2, 1)
    plan.coming = {1: 0.0, 2: 5.0}
    found = [(now, number) for now in range(100) for number in plan.unheard(now, 10)]
    assert found == [(11, 1), (16, 2), (31, 1), (36, 2), (71, 1), (76, 2)]


def test_what_ended_a_process_that_did_not_begin_is_the_first_signal_that_ends_any():
    sent = Launch("a", 1, (), [signal.SIGCONT, signal.SIGTERM, signal.SIGCONT, signal.SIGKILL])
    assert sent.ended_by() == signal.SIGTERM
    assert Launch("a", 1, (), [signal.SIGCONT]).ended_by() is None
