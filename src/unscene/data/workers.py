"""Work for several processes, which all end when one of them fails, at Ctrl-C, and when their parent is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from unscene.errors import InputError

Work = Callable[[Any, Callable[[int], None]], None]  # (job, report): report(n) says that n more units are done

# One thread each, for NumPy and torch, and for Mesa's software renderer.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")
INTERVAL = 0.2  # seconds between two looks at the workers
PATIENCE = 5.0  # seconds that a worker has to tidy up when it is told to stop


def run_jobs(work: Work, jobs: Sequence[Any], processes: int, report: Callable[[int], None]) -> None:
    """Do ``work(job, report)`` for all jobs, in so many processes; with one, in this.

    Processes are spawned, as renderers do not survive a fork, and have one thread each; ``work`` and the jobs must be
    picklable. Jobs are begun in their order.
    Raises what InputError a job raises, at once, and InputError if a process dies.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        for job in jobs:
            work(job, report)
        return
    context = get_context("spawn")
    begun, done = context.Value("q", 0), context.Value("q", 0)
    workers: dict[BaseProcess, Connection] = {}
    try:
        with _inherited_by_workers():
            for _ in range(processes):
                receiver, sender = context.Pipe(duplex=False)
                worker = context.Process(target=_serve, args=(work, jobs, begun, done, sender), daemon=True)
                worker.start()
                sender.close()
                workers[worker] = receiver
        _watch(workers, done, report)
    finally:
        _stop(list(workers))


def _watch(workers: dict[BaseProcess, Connection], done: Any, report: Callable[[int], None]) -> None:
    """Until all have ended, or one has failed."""
    seen = 0
    running = list(workers)
    while running:
        wait([worker.sentinel for worker in running], timeout=INTERVAL)
        running = [worker for worker in workers if worker.exitcode is None]
        if done.value > seen:
            report(done.value - seen)
            seen = done.value
        for worker, receiver in workers.items():
            if worker.exitcode:
                raise _failure(worker.exitcode, receiver)


def _failure(exitcode: int, receiver: Connection) -> Exception:
    try:
        kind, message = receiver.recv()
    except EOFError:  # it died without a word
        return InputError(
            f"a process that was drawing died (exit code {exitcode}), perhaps for want of memory; try again with fewer "
            "processes, what is finished is kept"
        )
    return kind(message)


def _stop(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(PATIENCE)
        worker.kill()
        worker.join()


@contextmanager
def _inherited_by_workers() -> Iterator[None]:
    """One thread, set before they import anything; and deaf to Ctrl-C, which the parent answers."""
    before = {name: os.environ.get(name) for name in THREADS}
    main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _serve(work: Work, jobs: Sequence[Any], begun: Any, done: Any, sender: Connection) -> None:
    """A worker's life: take the next job until there is none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that temporary files are removed
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def report(units: int) -> None:
        with done.get_lock():
            done.value += units

    try:
        while (index := _next(begun)) < len(jobs):
            work(jobs[index], report)
    except InputError as error:
        sender.send((InputError, str(error)))
        sys.exit(1)
    except Exception:
        sender.send((RuntimeError, traceback.format_exc()))
        sys.exit(1)


def _next(begun: Any) -> int:
    with begun.get_lock():
        begun.value += 1
        return begun.value - 1


def _die_with_parent() -> None:
    wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
