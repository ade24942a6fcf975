"""Batches prepared in the background while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Drawn = TypeVar("Drawn")
Batch = TypeVar("Batch")


class Prefetcher(Generic[Drawn, Batch]):
    """An endless iterator over batches of which the next ones are being prepared.

    What a batch holds is drawn by whoever asks, a fixed number of batches ahead, so that no
    thread's speed decides it: the same calls give the same batches. Only the work that this
    makes, copying and transferring, is done in a thread. What it raises is raised by ``next``
    in the place of the batch.
    """

    def __init__(
        self, draw: Callable[[], Drawn], prepare: Callable[[Drawn], Batch], depth: int
    ) -> None:
        """Draws nothing yet.

        Args:
            draw: Says quickly what the next batch holds.
            prepare: Makes the batch; called in a thread where there is a depth.
            depth: Batches that are drawn ahead; 0 for none and no thread.
        """
        self._draw, self._prepare, self._depth = draw, prepare, depth
        self._waiting: deque[tuple[Drawn, Future[Batch]]] = deque()
        self._pool = ThreadPoolExecutor(1, "prefetch") if depth else None
        self._closed = False

    @property
    def ahead(self) -> Drawn | None:
        """What the first batch holds that was drawn and not asked for yet; None without any."""
        return self._waiting[0][0] if self._waiting else None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            StopIteration: After ``close``.
            BaseException: What ``draw`` raised, or ``prepare`` for this batch.
        """
        if self._closed:
            raise StopIteration
        if self._pool is None:
            return self._prepare(self._draw())
        while len(self._waiting) <= self._depth:
            drawn = self._draw()
            self._waiting.append((drawn, self._pool.submit(self._prepare, drawn)))
        try:
            return self._waiting.popleft()[1].result()
        except CancelledError:
            raise StopIteration from None

    def close(self) -> None:
        """Ends the thread; what was prepared is dropped. May be called twice."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
