"""Real processes that run a tool, forked so that libraries are imported only once."""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

import pld_mmdet.engine.hooks  # noqa: F401  (imported before the fork)
from pld_mmdet.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 150.0  # seconds of a process; a test has 240 (pyproject.toml)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fresh_start() -> None:
    """Forget what the parent made: a run within the same second would share its log."""
    for instances in (MessageHub, MMLogger, DefaultScope, Visualizer):
        instances._instance_dict.clear()


def forked(function: Callable[[], None], folder: Path = Path("/")) -> int:
    """Run a function in a process of its own; its exit code, 2 for a ``UserError``."""

    def child() -> None:
        fresh_start()
        os.chdir(folder)
        try:
            function()
        except UserError as error:
            print(f"error: {error.what}\nfix: {error.fix}", flush=True)
            os._exit(2)
        sys.stdout.flush()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(timeout=LIMIT)
    assert process.exitcode is not None, f"still at it after {LIMIT:g} s"
    return process.exitcode


def _child(
    tool: str, arguments: list[str], environment: dict, log: str, folder: Path
) -> None:
    os.setsid()
    fresh_start()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(ROOT / f"tools/{tool}.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def prepare(*words) -> None:
    """Run ``tools/prepare.py WORDS`` at the repository's root, in this process."""
    main = runpy.run_path(str(ROOT / "tools/prepare.py"))["main"]
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        main([str(word) for word in words])
    finally:
        os.chdir(before)


class Tool:
    """One run of ``python tools/<tool>.py ARGUMENTS`` in a process of its own.

    Args:
        tool: Its name without .py.
        arguments: Command line.
        log: File that receives stdout and stderr.
        folder: Where it is called.
        environment: Added to the environment.
    """

    def __init__(
        self, tool: str, *arguments, log: Path, folder: Path = ROOT, **environment
    ) -> None:
        self.log = log
        self.process = multiprocessing.get_context("fork").Process(
            target=_child,
            args=(
                tool,
                list(map(str, arguments)),
                {k: str(v) for k, v in environment.items()},
                str(log),
                folder,
            ),
        )
        self.process.start()

    def finish(self, code: int | tuple[int, ...] = 0) -> str:
        """Wait for the end, check the exit code, return the output."""
        self.process.join(timeout=LIMIT)
        output = self.log.read_text()
        codes = code if isinstance(code, tuple) else (code,)
        assert self.process.exitcode in codes, output
        return output

    def wait_for(self, path: Path) -> None:
        """Wait until a file exists while the process lives."""
        end = time.time() + 90
        while not path.exists():
            assert time.time() < end, self.log.read_text()
            assert self.process.is_alive(), self.log.read_text()
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and its loader processes."""
        os.killpg(self.process.pid, number)
        self.process.join(timeout=60)
