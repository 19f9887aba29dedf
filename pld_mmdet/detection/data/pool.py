"""Many small jobs on all cores, with progress and time left."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from pld_mmdet.errors import UserError

Job = TypeVar("Job")
# Without a terminal (a log file, a pipe) progress is a line this often, in seconds.
LINE_EVERY = 10.0


def default_workers() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job], Any], jobs: Sequence[Job], workers: int, title: str
) -> list[Any]:
    """Call a function on every job in worker processes.

    Args:
        function: A function of one argument that can be pickled.
        jobs: The arguments.
        workers: Processes; 1 works in this process.
        title: What the progress bar says.

    Returns:
        The results in the order of the jobs.

    Raises:
        UserError: A worker was killed from outside.
    """
    if not jobs:
        return []
    results = []
    workers = max(1, min(workers, len(jobs)))
    with _progress(title, len(jobs)) as advance, _without_cv2_threads():
        if workers == 1:
            for job in jobs:
                results.append(function(job))
                advance()
            return results
        chunk = max(1, min(16, len(jobs) // (workers * 4)))
        others = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            workers, initializer=_start_worker, initargs=(os.getpid(),)
        )
        try:
            for result in executor.map(function, jobs, chunksize=chunk):
                results.append(result)
                advance()
        except BrokenProcessPool as error:
            raise UserError(
                f"{title}: a worker process was killed (memory is the usual cause).",
                "Call the same command again with --workers 1; finished work is kept.",
            ) from error
        except BaseException:
            # Nobody waits for what they are at, which may be long. A file that one was
            # writing is no file yet.
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise
        finally:
            executor.shutdown(cancel_futures=True)
    return results


def _start_worker(parent: int) -> None:
    # Ctrl-C goes to the whole group: the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        # A parent that is killed cannot end its workers.
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def _without_cv2_threads() -> Iterator[None]:
    """End OpenCV's thread pool before processes are forked, and restore it after.

    A fork copies the pool's locks but not its threads: the first call that touches the
    pool in a worker would wait for ever. One ends the threads; zero does without them
    and lets them live. One thread each is right anyway, because the processes share the
    cores already.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    console = Console()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)
        return
    started = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= LINE_EVERY and done < total:
            last = now
            left = (now - started) / done * (total - done)
            print(f"{title}: {done}/{total}, {left:.0f} s left", flush=True)

    yield advance
    if done == total:
        seconds = time.monotonic() - started
        print(f"{title}: {total}/{total} in {seconds:.0f} s", flush=True)
