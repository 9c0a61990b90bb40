"""What a thread has put into one queue, and may have held back: as its channel and the sender know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cloudpool.store.wire import Reply


class Held(Protocol):
    """Numbers are its own count. They are plain attributes: to look at them calls nothing."""

    number: int  # of the last one put
    sent: int  # up to this one they are written to the owner's line, or in the server
    there: int  # up to this one they are known to be in the server
    last_at: float  # when the last one was put
    unsure: bool  # what was written to the owner's line may not have arrived

    def send(self) -> None:
        """Post what is not sent, on the owner's line, and hold nothing back for it."""

    def send_by(self, call_many: Callable[[list[tuple[Any, ...]]], list[Reply]]) -> None:
        """Have another line send what may not be in the server, and wait. As often as one likes: each is put once."""
