"""The agent's book: which processes live, and who holds which object. Pure bookkeeping: no sockets, no server."""

from __future__ import annotations

from collections.abc import Iterable


class Member:
    """A process of the session on this host. `name` is empty until it first speaks."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.known_as = 0  # its os.getpid(), which on a far host is not the kernel's
        self.is_guest = False  # it lives on when the session ends
        self.pidfd = pidfd
        self.name = ""
        self.holds: set[str] = set()
        self.has_spoken = False  # then it says itself what it holds
        # Connections on which it has said hello; a forked child that has not spoken keeps them open.
        self.lines = 0
        self.is_dead = False
        # Once it has come to its orderly end: the objects it used, a party, what that rightly has there.
        self.ended: list[tuple[str, str, int]] | None = None


class Census:
    """Members by pid, and the holders of each object: members, fork tickets and messages under way."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self._tickets: dict[str, tuple[Member, set[str]]] = {}  # of forks: by whom, and what the child holds
        self._refs: dict[str, int] = {}
        self._pinned: set[str] = set()
        self._transits: dict[str, tuple[str, str]] = {}  # what is in a message, in which object that waits
        self._waiting: dict[str, set[str]] = {}  # transits by that object
        self._arrived_early: set[str] = set()

    def hold(self, holds: set[str], ids: Iterable[str]) -> None:
        for object_id in ids:
            if object_id not in holds:
                holds.add(object_id)
                self._refs[object_id] = self._refs.get(object_id, 0) + 1

    def release(self, ids: Iterable[str]) -> list[str]:
        """Take one reference from each; those that nobody holds any more."""
        free = []
        for object_id in ids:
            left = self._refs.get(object_id, 0) - 1
            if left > 0:
                self._refs[object_id] = left
            else:
                self._refs.pop(object_id, None)
                if object_id not in self._pinned:
                    free.append(object_id)
        return free

    def drop(self, member: Member, object_id: str) -> list[str]:
        if object_id in member.holds:
            member.holds.discard(object_id)
            return self.release([object_id])
        # Its maker never told of it, so it was never shared. Of another's object an unknown drop says nothing: what makes
        # it known may be under way on another socket.
        is_makers = bool(member.name) and f".{member.name}." in object_id
        return [object_id] if is_makers and self.is_free(object_id) else []

    def is_free(self, object_id: str) -> bool:
        return object_id not in self._refs and object_id not in self._pinned

    def pin(self, object_id: str) -> None:
        self._pinned.add(object_id)

    def ticket(self, member: Member, ticket: str) -> None:
        self.hold(self._tickets.setdefault(ticket, (member, set()))[1], member.holds)

    def redeem(self, member: Member, ticket: str) -> list[str]:
        """The child of a fork is known: it holds what its ticket stood for, unless it has said itself what it holds."""
        _, held = self._tickets.pop(ticket, (member, ()))
        if not member.has_spoken:
            self.hold(member.holds, held)
        return self.release(held)

    def void(self, ticket: str) -> list[str]:
        _, held = self._tickets.pop(ticket, (None, ()))
        return self.release(held)

    def hung_up(self, member: Member) -> list[str]:
        """One of the member's lines has ended."""
        member.lines -= 1
        return self._void_tickets(member)

    def _void_tickets(self, member: Member) -> list[str]:
        """Once it has died, and each child that it has not told of has spoken for itself, or ended."""
        if member.lines or not member.is_dead:
            return []
        theirs = [ticket for ticket, (parent, _) in self._tickets.items() if parent is member]
        return [object_id for ticket in theirs for object_id in self.void(ticket)]

    def depart(self, member: Member, object_id: str, transit: str, into: str = "") -> None:
        """An object's handle goes off in a message; who sends it holds it. Its arrival may have been heard of first: two sockets, no order."""
        self.hold(member.holds, [object_id])
        if transit in self._arrived_early:
            self._arrived_early.discard(transit)
            return
        self._transits[transit] = object_id, into
        self._waiting.setdefault(into, set()).add(transit)
        self._refs[object_id] = self._refs.get(object_id, 0) + 1

    def arrive(self, member: Member, object_id: str, transit: str) -> list[str]:
        self.hold(member.holds, [object_id])
        return self.arrived(transit)

    def held(self) -> list[str]:
        """All that somebody here holds."""
        return list(self._refs)

    def arrived(self, transit: str) -> list[str]:
        """A message's handle is held by whoever has got it, here or on another host."""
        if transit not in self._transits:
            self._arrived_early.add(transit)
            return []
        return self.release([self._forget(transit)])

    def _forget(self, transit: str) -> str:
        object_id, into = self._transits.pop(transit)
        self._waiting[into].discard(transit)
        if not self._waiting[into]:
            del self._waiting[into]
        return object_id

    def gone(self, into: str) -> list[str]:
        """An object went, and with it the messages that waited in it; what only those held."""
        return self.release([self._forget(transit) for transit in list(self._waiting.get(into, ()))])

    def bury(self, member: Member) -> list[str]:
        """The member is gone; the objects that only it held."""
        if self.members.get(member.pid) is member:  # else its number is another's by now
            del self.members[member.pid]
        held, member.holds = member.holds, set()
        member.is_dead = True
        return self.release(held) + self._void_tickets(member)
