"""The lookout's thread: there while something is posted, and never during a fork."""

import threading

from cloudpool.store.lookout import Lookout


class Channel:
    """Something of it is always out."""

    def look_after(self):
        return True


def test_fork_in_the_middle_of_the_threads_start_waits_for_it_and_ends_it(monkeypatch):
    lookout, begun, go = Lookout(), threading.Event(), threading.Event()
    failures, before = [], set(threading.enumerate())

    class Slow(threading.Thread):
        def start(self):
            begun.set()
            go.wait()
            super().start()

    def stop():
        try:
            lookout.stop()
        except RuntimeError as error:
            failures.append(error)

    poster, stopper = (
        threading.Thread(target=lookout.notice, args=(Channel(),)),
        threading.Thread(target=stop),
    )
    monkeypatch.setattr(threading, "Thread", Slow)
    poster.start()
    begun.wait()
    stopper.start()
    stopper.join(0.2)  # it waits for the start, or has failed by then
    go.set()
    poster.join()
    stopper.join()
    assert failures == []
    assert "cloudpool-lookout" not in [
        thread.name for thread in threading.enumerate() if thread not in before
    ]
