"""Runs the parts of experiments that are not done yet, several at a time."""

from __future__ import annotations

import concurrent.futures
import datetime
import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.jobs.local import Slot, gpus, make_slots
from benchmarks.tdm.work import Cell, Work, read_record, write_record
from common.command.line import prepare

EXPERIMENTS = {
    "collect": "benchmarks.tdm.gather",
    "choices": "benchmarks.tdm.choices",
    "pretrain": "benchmarks.tdm.pretrain",
    "specialist": "benchmarks.tdm.specialist",
    "few-shot": "benchmarks.tdm.few_shot",
    "zero-shot": "benchmarks.tdm.zero_shot",
}
"""Modules with ``compute(work, cell)``, by experiment."""
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def default_jobs() -> int:
    """One job for each core; one where there is a GPU."""
    return 1 if gpus(os.environ) else len(os.sched_getaffinity(0))


def run(work: Work, cells: Sequence[Cell], jobs: int) -> None:
    """Computes every cell that has no record, and prints how long the rest may take.

    Args:
        work: Where everything lies.
        cells: What to do, in this order.
        jobs: Processes, each on cores of its own; with one, this process does it.

    Raises:
        UserError: A record is of other settings, or a cell cannot be computed.
    """
    missing = [cell for cell in cells if read_record(work, cell) is None]
    done, begin = len(cells) - len(missing), time.monotonic()
    if done:
        print(f"{done} of {len(cells)} parts are done already", flush=True)
    finished = _here(work, missing) if jobs == 1 else _apart(work, missing, jobs)
    for number, (cell, seconds) in enumerate(finished, 1):
        each = (time.monotonic() - begin) / number
        left = datetime.timedelta(seconds=round(each * (len(missing) - number)))
        place = f"{done + number} of {len(cells)}"
        print(f"{place}: {cell}: {seconds:.0f} s; about {left} left", flush=True)


def compute(work: Work, cell: Cell) -> float:
    """Computes one cell and writes its record; returns its seconds."""
    prepare()
    begin = time.monotonic()
    found: dict[str, Any] = importlib.import_module(EXPERIMENTS[cell.experiment]).compute(
        work, cell
    )
    seconds = time.monotonic() - begin
    write_record(work, cell, found | {"seconds": round(seconds, 1)})
    return seconds


def _here(work: Work, cells: Sequence[Cell]) -> Iterator[tuple[Cell, float]]:
    for cell in cells:
        yield cell, compute(work, cell)


def _apart(work: Work, cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, float]]:
    """Yields cells as they are finished; each process keeps to one slot of the machine."""
    context = multiprocessing.get_context("spawn")
    slots = context.SimpleQueue()
    cores = sorted(os.sched_getaffinity(0))
    for slot in make_slots(jobs, None, gpus(os.environ), cores):
        slots.put(slot)
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_take_slot, initargs=(slots,)
    ) as pool:
        futures = {pool.submit(compute, work, cell): cell for cell in cells}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _take_slot(slots: Any) -> None:
    """Binds this process to a slot, before it computes anything."""
    slot: Slot = slots.get()
    os.sched_setaffinity(0, slot.cores)
    os.environ.update(slot.environment)
    if len(slot.cores) == 1:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
