"""A job graph: subprocesses side by side; finished ones skipped, killed ones resumed.

Each job is a command. Its fingerprint covers the command, the texts that decide its
result and the fingerprints of the jobs it needs; a stamp file keeps the fingerprint of
what was done, so that a second call skips finished jobs, a changed config redoes
exactly what depends on it, and a killed job is told to go on where it was.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pld_mmdet import interrupts
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.engine.state.newest import find_latest
from pld_mmdet.engine.state.outfolder import locked
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_state

LAST_CHECKPOINT = re.compile(r"\{last_checkpoint:(?P<folder>[^}]+)\}")


@dataclass(frozen=True)
class Job:
    """One command of the graph.

    Args:
        name: Unique; also the path of the log, so ``seed_0/lpld/train`` is fine.
        command: Program and arguments. ``{last_checkpoint:DIR}`` inside an argument
            becomes DIR's newest checkpoint when the job starts.
        needs: Names of the jobs that must be done before.
        outputs: Files that exist afterwards; a missing one means not done.
        key: Text that decides the result beside the command (the resolved config).
        seconds: How long it usually takes, for the order and the time left.
        work_dir: The folder that this job alone writes, with its ``progress.json``.
            Moved aside when it holds the work of another fingerprint.
        resume: Arguments added when the same job was started before and not finished.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    outputs: tuple[Path, ...] = ()
    key: str = ""
    seconds: float = 60.0
    work_dir: Path | None = None
    resume: tuple[str, ...] = ()


@dataclass
class Running:
    """A started job: its process, its log and when it began (monotonic seconds)."""

    job: Job
    process: subprocess.Popen
    log: Path
    began: float

    def progress(self) -> dict:
        """The job's own ``progress.json`` of this start, or an empty dict."""
        folder = self.job.work_dir
        return read_state(folder / "progress.json") if folder else {}


def default_workers() -> int:
    """2 on two or more cores without GPU, else 1 (two trainings share no GPU)."""
    return 2 if available_cores() >= 2 and not gpu_name() else 1


def gpu_name() -> str | None:
    """The first GPU that this process may use, asked without importing torch."""
    query = shutil.which("nvidia-smi")
    if query is None or os.environ.get("CUDA_VISIBLE_DEVICES", "all") == "":
        return None
    command = [query, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    names = answer.stdout.strip().splitlines() if answer.returncode == 0 else []
    return names[0] if names else None


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class JobGraph:
    """Runs jobs in the order of their needs, at most ``workers`` at a time.

    With one worker a job gets all cores; with several each gets one thread, always, so
    that a number does not depend on what happened to run beside it.

    Args:
        jobs: The graph; ``needs`` name other jobs of it.
        out: Folder for ``logs/`` and ``stamps/``. One graph at a time may use it.
        workers: Processes side by side [``default_workers()``].
        on_done: Called with each job that has just been done (not with skipped ones).

    Raises:
        UserError: Two jobs of one name, an unknown or circular need.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        out: Path,
        workers: int | None = None,
        on_done: Callable[[Job], None] | None = None,
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.out = Path(out)
        self.workers = workers or default_workers()
        self.on_done = on_done
        if len(self.jobs) != len(jobs):
            raise UserError(
                "Two jobs have one name.", "Rename a row of the experiment."
            )
        self.fingerprints: dict[str, str] = {}
        self.priority: dict[str, float] = {}
        order = list(self._sorted())
        for job in order:
            self.fingerprints[job.name] = self._fingerprint(job)
        for job in reversed(order):  # the longest way from here to the end goes first
            after = [self.priority[j.name] for j in order if job.name in j.needs]
            self.priority[job.name] = job.seconds + max(after, default=0.0)
        self.done: set[str] = set()
        self.skipped: set[str] = set()
        self.running: dict[str, Running] = {}
        self.took: dict[str, float] = {}

    def _sorted(self) -> Iterator[Job]:
        waiting, ready = dict(self.jobs), set()
        while waiting:
            free = [job for job in waiting.values() if set(job.needs) <= ready]
            if not free:
                names = ", ".join(waiting)
                raise UserError(
                    f"These jobs wait for each other or for an unknown one: {names}.",
                    "Check `init` of the rows in the config's experiment.",
                )
            for job in free:
                ready.add(job.name)
                del waiting[job.name]
                yield job

    def _fingerprint(self, job: Job) -> str:
        parents = [self.fingerprints[name] for name in job.needs]
        text = json.dumps([job.command, job.key, parents])
        return hashlib.sha256(text.encode()).hexdigest()

    def _stamp(self, job: Job) -> Path:
        return self.out / "stamps" / f"{job.name.replace('/', '.')}.json"

    def log(self, job: Job) -> Path:
        """Where the job's output goes."""
        return self.out / "logs" / f"{job.name.replace('/', '.')}.log"

    def is_done(self, job: Job) -> bool:
        """Whether this very job was finished and its outputs still exist."""
        stamp = read_state(self._stamp(job))
        same = stamp.get("fingerprint") == self.fingerprints[job.name]
        done = same and stamp.get("state") == "done"
        return done and all(path.exists() for path in job.outputs)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with it, however it ends."""
        with locked(self.out):
            yield

    def run(self, show: Callable[["JobGraph"], None] | None = None) -> None:
        """Run what is not done. ``show`` is called about five times a second.

        Raises:
            UserError: A job failed. The others are stopped; nothing done is lost.
            KeyboardInterrupt: Ctrl-C, or SIGTERM; the children are stopped first.
        """
        with self.locked(), _signals_as_interrupt():
            for job in self.jobs.values():
                if self.is_done(job):
                    self.skipped.add(job.name)
            self.done |= self.skipped
            try:
                while len(self.done) < len(self.jobs):
                    self._start_ready()
                    if show:
                        show(self)
                    time.sleep(0.2)
                    self._collect()
                if show:
                    show(self)
            finally:
                self.stop()

    def _start_ready(self) -> None:
        busy = self.done | self.running.keys()
        waiting = [job for name, job in self.jobs.items() if name not in busy]
        ready = [job for job in waiting if set(job.needs) <= self.done]
        ready.sort(key=lambda job: -self.priority[job.name])
        for job in ready[: self.workers - len(self.running)]:
            self.running[job.name] = self._start(job)

    def _start(self, job: Job) -> Running:
        path, wanted = self._stamp(job), self.fingerprints[job.name]
        stamp = read_state(path)
        _stop_orphan(stamp)
        command = [_fill(argument) for argument in job.command]
        if stamp.get("fingerprint") == wanted and stamp.get("state") == "started":
            command += job.resume
        elif job.work_dir and job.work_dir.exists():
            replaced = self.out / "replaced" / time.strftime("%Y%m%d_%H%M%S")
            target = replaced / job.name.replace("/", ".")
            target.parent.mkdir(parents=True, exist_ok=True)
            job.work_dir.rename(target)
        if job.work_dir:
            job.work_dir.mkdir(parents=True, exist_ok=True)
            (job.work_dir / "progress.json").unlink(missing_ok=True)
        threads = str(1 if self.workers > 1 else available_cores())
        log = self.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as output:
            output.write(f"\n=== {time.strftime('%F %T')} {shlex.join(command)}\n")
            output.flush()
            # Its own process group: a signal reaches its data loaders too.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"},
            )
        stamp = dict(fingerprint=wanted, state="started", command=command)
        write_json(path, stamp | {"pid": process.pid})
        return Running(job, process, log, time.monotonic())

    def _collect(self) -> None:
        for name, running in list(self.running.items()):
            code = running.process.poll()
            if code is None:
                continue
            del self.running[name]
            _signal_group(running.process.pid, signal.SIGKILL)  # strayed loaders
            self.took[name] = time.monotonic() - running.began
            missing = [str(path) for path in running.job.outputs if not path.exists()]
            if code != 0 or missing:
                raise _failure(running, code, missing)
            stamp = read_state(self._stamp(running.job))
            stamp.update(state="done", seconds=round(self.took[name], 1))
            write_json(self._stamp(running.job), stamp)
            self.done.add(name)
            if self.on_done:
                self.on_done(running.job)

    def stop(self) -> None:
        """Stop all children: politely first, so that they can save, then hard."""
        for patience, number in ((5.0, signal.SIGINT), (3.0, signal.SIGTERM)):
            for running in self.running.values():
                _signal_group(running.process.pid, number)
            limit = time.monotonic() + patience
            while time.monotonic() < limit and any(
                running.process.poll() is None for running in self.running.values()
            ):
                time.sleep(0.05)
        for running in self.running.values():
            _signal_group(running.process.pid, signal.SIGKILL)
            running.process.wait()
        self.running.clear()

    def seconds_left(self) -> float:
        """Time left, by playing the rest of the schedule.

        A running job's own estimate is used where it gives one; other lengths are
        scaled by how fast this machine is.
        """
        scale = self._pace()
        ends: dict[str, float] = dict.fromkeys(self.done, 0.0)
        lanes = [0.0] * self.workers
        for lane, (name, running) in enumerate(self.running.items()):
            spent = time.monotonic() - running.began
            left = running.progress().get("eta_seconds")
            if left is None:
                # overdue: a quarter of what it took so far, and not "a second"
                left = max(running.job.seconds * scale - spent, spent / 4, 1.0)
            ends[name] = lanes[lane] = float(left)
        rest = [job for name, job in self.jobs.items() if name not in ends]
        while rest:
            free = [job for job in rest if all(name in ends for name in job.needs)]
            job = max(free, key=lambda job: self.priority[job.name])
            lane = lanes.index(min(lanes))
            start = max([lanes[lane], *(ends[name] for name in job.needs)])
            ends[job.name] = lanes[lane] = start + job.seconds * scale
            rest.remove(job)
        return max(ends.values(), default=0.0)

    def _pace(self) -> float:
        """Seconds here over usual seconds, of finished jobs and those with an estimate.

        Where there are runs, they alone count: data that is there already took no time,
        which says nothing about the machine.
        """
        pairs = [(self.jobs[name], took) for name, took in self.took.items()]
        for running in self.running.values():
            left = running.progress().get("eta_seconds")
            if left is not None:
                pairs.append((running.job, time.monotonic() - running.began + left))
        if any(job.work_dir for job in self.jobs.values()):
            pairs = [(job, took) for job, took in pairs if job.work_dir]
        expected = sum(job.seconds for job, _ in pairs)
        return sum(took for _, took in pairs) / expected if expected else 1.0


def _fill(argument: str) -> str:
    return LAST_CHECKPOINT.sub(lambda found: _newest(found["folder"]), argument)


def _newest(folder: str) -> str:
    path = find_latest(folder)
    if path is None:
        raise UserError(
            f"{folder} holds no checkpoint, though its training was done.",
            "Run the same command again: it is trained anew.",
        )
    return path


def _failure(running: Running, code: int, missing: list[str]) -> UserError:
    text = running.log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    tail = "\n".join(f"    {line}" for line in lines[-12:])
    why = f"ended with exit code {code}"
    if code == 0:
        why = f"ended well but did not write {', '.join(missing)}"
    elif code < 0:
        why = f"was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            why += " (often: the machine ran out of memory)"
    return UserError(
        f"{running.job.name} {why}. The end of {running.log}:\n{tail}",
        "Mend the cause and run the same command again: finished jobs are kept, and "
        "this one goes on where it was.",
    )


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _stop_orphan(stamp: dict) -> None:
    """Stop the process that a killed runner left behind; two must not write one folder.

    The process number may belong to somebody else by now: the command decides.
    """
    if stamp.get("state") != "started":
        return
    if _arguments(stamp["pid"]) == " ".join(stamp["command"]).split():
        print(f"Stopping process {stamp['pid']}, left by a killed run.", flush=True)
        _signal_group(stamp["pid"], signal.SIGKILL)
        while _arguments(stamp["pid"]):  # a dead process has no arguments any more
            time.sleep(0.05)


def _arguments(pid: int) -> list[str]:
    """Words of a process's command line; none when it has ended."""
    if os.path.isdir("/proc/self"):
        try:
            text = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return text.replace("\0", " ").split()
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    return listing.stdout.split()


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """A closed terminal or a polite kill stops the children like Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # the tools' own handler ends a program in order, and remembers the signal
    ours = signal.getsignal(signal.SIGTERM) is interrupts._arrived
    numbers = (signal.SIGHUP,) if ours else (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
