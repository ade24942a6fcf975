"""Batches prepared in the background while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Batch = TypeVar("Batch")

_POLL_SECONDS = 0.1


class Prefetcher(Generic[Batch]):
    """An endless iterator over transferred batches.

    With a depth, a thread samples and transfers ahead of the consumer. An exception in
    that thread is raised again by ``next``. With depth 0 everything happens when a batch
    is asked for, so that the sampler is never ahead of the learner.
    """

    def __init__(
        self, sample: Callable[[], Any], transfer: Callable[[Any], Batch], depth: int
    ) -> None:
        """Starts the thread.

        Args:
            sample: Returns the next batch in host memory.
            transfer: Takes it to the device.
            depth: Batches that wait, transferred; 0 for none and no thread.
        """
        self._sample = sample
        self._transfer = transfer
        self._closed = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        if depth > 0:
            self._queue: queue.Queue[Batch] = queue.Queue(depth)
            self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            StopIteration: After ``close``.
            BaseException: What ``sample`` or ``transfer`` raised, after the batches that
                were ready before.
        """
        if self._closed.is_set():
            raise StopIteration
        if self._thread is None:
            return self._transfer(self._sample())
        while True:
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._closed.is_set():
                    raise StopIteration from None
                if self._failure is not None and self._queue.empty():
                    raise self._failure from None

    def close(self) -> None:
        """Stops and joins the thread; what was prepared is dropped. May be called twice."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Prefetcher[Batch]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while not self._closed.is_set():
                self._put(self._transfer(self._sample()))
        except BaseException as error:  # Also a KeyboardInterrupt belongs to the consumer.
            self._failure = error

    def _put(self, batch: Batch) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(batch, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
