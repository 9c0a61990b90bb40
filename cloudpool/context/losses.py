"""Tasks whose workers died: run again, a chunk's items one by one; what is given up becomes an error that says all.

a worker's tasks --> done: their results are in its last words
                     not begun: sent again, as if nothing had been
                     begun: one more death, sent again; a chunk as its items, which are joined again into the chunk's outcome
                            deaths > retries: WorkerLostError for that item
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloudpool.context import tasks as protocol
from cloudpool.context.exits import Exit, Exits
from cloudpool.context.tasks import Task, Tasks
from cloudpool.errors import WorkerLostError
from cloudpool.seen import Seen

Outcome = tuple[bool, Any]


@dataclass(slots=True)
class Split:
    """A chunk that killed its worker and is done item by item."""

    values: list[Any]
    left: int
    answered: Seen = field(default_factory=Seen)
    failure: Any = None


class Losses:
    """The split chunks of a pool's calls, and how its workers ended.

    The collector's; results of a call whose caller waits are the caller's.
    """

    def __init__(self, tasks: Tasks, exits: Exits) -> None:
        self._tasks, self._exits = tasks, exits
        self._splits: dict[tuple[int, int], Split] = {}

    def exit(self, pid: int) -> Exit:
        """How that worker ended. Waits for the news."""
        return self._exits.of(pid)

    def done(self, exit: Exit) -> dict[bytes, bytes]:
        """Task ids, and the results that the worker had not sent when it died."""
        return {result.partition(b" ")[0]: result for result in exit.results}

    def blamed(self, tasks: list[Task], exit: Exit) -> list[Task]:
        """Which of the tasks that a worker had not done, as far as is known, count the death as theirs.

        The one that it was at. Without retries each that may have begun: none is run twice, so all before it, of whose
        results nothing is known, and all where nothing is known of the worker.
        """
        at = next((n for n, task in enumerate(tasks) if task.id == exit.task), None)
        if not self._tasks.retries and not exit.has_spoken:
            return tasks
        if at is None:
            return tasks[:1] if not exit.is_from_outside else []
        return tasks[at if self._tasks.retries else 0 : at + 1]

    def again(self, task: Task, exit: Exit, call_items: int) -> list[Task] | WorkerLostError:
        """What is to be sent instead of a task, in which a worker died, or the error if it is given up.

        `call_items` are in a chunk of its call. Raises what unpickling a chunk raises.
        """
        has_begun = exit.task == task.id or exit.exitcode is None
        blamed = task._replace(deaths=task.deaths + 1)
        if blamed.deaths > self._tasks.retries:
            return self._lost(blamed, exit, call_items)
        # Unpickling may be what kills, and would kill the root next: then a chunk is tried as a whole.
        if task.items == 1 or not has_begun or exit.item is None:
            return [blamed]
        job, index = map(int, task.id.split(b"."))
        items = self._tasks.unpack_task(task)
        self._splits[job, index] = Split([None] * len(items), len(items))
        ids = [b"%b.%d" % (task.id, n) for n in range(len(items))]
        return [
            task._replace(
                id=id,
                items=1,
                deaths=blamed.deaths if 0 <= n - exit.item < protocol.SUSPECTS else task.deaths,
                payload=self._tasks.pack_task((item,), id, task.token, task.mode),
            )
            for n, (id, item) in enumerate(zip(ids, items, strict=True))
        ]

    def too_much(self, task: Task, exit: Exit) -> bool:
        """Whether working at that task was too much for its host."""
        # Unpickling may have been what was too much, and would be for the root.
        return exit.met_limit and exit.task == task.id and exit.item is not None

    def is_first(self, job: int, index: int, item: int) -> bool:
        """Whether an item of a split chunk has had no result yet; from now on it has."""
        split = self._splits.get((job, index))
        return split is not None and 0 <= item < len(split.values) and split.answered.add(item)

    def is_answered(self, job: int, index: int, item: int) -> bool:
        split = self._splits.get((job, index))
        return split is None or item in split.answered

    def joined(self, job: int, index: int, item: int, outcome: Outcome) -> Outcome | None:
        """An item of a split chunk has come: the chunk's outcome once it is complete."""
        split = self._splits[job, index]
        success, value = outcome
        if success:
            split.values[item] = value[0]
        elif split.failure is None:
            split.failure = value
        split.left -= 1
        if split.left:
            return None
        del self._splits[job, index]
        return (True, split.values) if split.failure is None else (False, split.failure)

    def _lost(self, task: Task, exit: Exit, items: int) -> WorkerLostError:
        _, index, *within = map(int, task.id.split(b"."))
        deaths = task.deaths
        about = exit.about if exit.task == task.id and exit.about else None
        named = f" ({about})" if about else ""
        item = None if task.mode == protocol.APPLY else index * items + sum(within)
        if item is None:
            what = f"The call {about}" if about else "The function of Pool.apply"
        elif task.items == 1:
            what = f"Item {item}{named} of a Pool's call"
        else:
            what = f"One of the items {item} to {item + items - 1} of a Pool's call"
        if exit.task == task.id or self._tasks.retries:
            again = f" in each of {deaths} attempts" if deaths > 1 else ""
            happened = f"ended the worker process that ran it{again}: the last one died {exit} on {exit.host}"
        else:
            happened = (
                f"may have run in a worker process that died {exit} on {exit.host} before its result came"
            )
        printed = "".join("\n    " + line for line in exit.lines)
        return WorkerLostError(
            f"{what} {happened}.\n"
            "The Pool goes on. The setting retries (CLOUDPOOL_RETRIES) says how often such an item is run again."
            + (f"\nThe last lines that this worker printed:{printed}" if printed else ""),
            item=item,
            about=about,
            attempts=deaths,
            exitcode=exit.exitcode,
            signal=exit.signal,
            host=exit.host,
            last_lines=exit.lines,
        )
