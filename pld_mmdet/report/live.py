"""Serves the page of a growing run on this machine, from the standard library.

The page is made in a process of its own from the files of the work dir: it can neither
slow the training down nor end it, and it can watch a run that was started elsewhere.
"""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pld_mmdet.errors import UserError
from pld_mmdet.report.live_page import build_live_page
from pld_mmdet.report.live_state import read_run
from pld_mmdet.report.markup import asset, encoded

HOST = "127.0.0.1"  # never seen by another machine
ROOT = Path(__file__).resolve().parents[2]
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; img-src data:; connect-src 'self';"
    " style-src 'unsafe-inline'; script-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
}


def listen(port: int) -> socket.socket:
    """A listening socket on this machine.

    Args:
        port: 0 takes a free one.

    Raises:
        UserError: The port cannot be had.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
        server.listen(16)
    except (OSError, OverflowError) as error:
        server.close()
        raise UserError(
            f"The page's port {port} of this machine cannot be used ({error}).",
            "Name another one, or leave the number out: a free one is taken then.",
        ) from error
    return server


def address(server: socket.socket) -> str:
    """What to type into the browser."""
    return f"http://{HOST}:{server.getsockname()[1]}/"


class _Page(BaseHTTPRequestHandler):
    """Answers with the present page."""

    server: "LiveServer"
    timeout = 30  # a browser that keeps a silent connection does not keep a thread

    def do_GET(self) -> None:
        """Send the page."""
        # A name that leads here from outside (DNS rebinding) gets nothing.
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host not in (HOST, "localhost") or self.path not in ("/", "/live.js"):
            self.send_error(404)
            return
        if self.path == "/":
            kind, text = "text/html", build_live_page(read_run(self.server.folder))
        else:
            kind, text = "text/javascript", asset("live.js")
        body = encoded(text)
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """Say nothing: the terminal belongs to the training."""


class LiveServer(ThreadingHTTPServer):
    """Serves the page of one folder until it is shut down or its parent is gone.

    Args:
        server: Listening socket, from :func:`listen`.
        folder: Work dir of the run.
        parent: Process that it ends with; None serves until Ctrl-C.
    """

    daemon_threads = True

    def __init__(
        self, server: socket.socket, folder: str | Path, parent: int | None = None
    ) -> None:
        super().__init__(server.getsockname(), _Page, bind_and_activate=False)
        self.socket.close()
        self.socket = server
        self.folder = Path(folder)
        self.parent = parent

    def service_actions(self) -> None:
        """End with the run, also when that was killed. Called twice a second."""
        if self.parent is not None and os.getppid() != self.parent:
            raise KeyboardInterrupt

    def handle_error(self, request, client_address) -> None:
        """Ignore a browser that went away."""


@contextmanager
def watched(
    folder: str | Path, port: int | None, say: Callable[[str], None] = print
) -> Iterator[None]:
    """Serve the page of a folder while the body runs.

    Args:
        folder: Work dir; may be empty still.
        port: 0 for a free one; None serves nothing.
        say: Gets the address.

    Raises:
        UserError: The port cannot be had.
    """
    if port is None:
        yield
        return
    server = listen(port)
    say(f"Watch:    {address(server)}  (on this machine only; ends with the run)")
    # Not forked: a fork would share the training's threads, loaders and GPU.
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with server:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "pld_mmdet.report.live", str(folder)),
                *("--socket", str(server.fileno()), "--parent", str(os.getpid())),
            ],
            pass_fds=[server.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
    try:
        yield
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        child.kill()


def is_first_process() -> bool:
    """Whether this is the process of rank 0, before any process group exists."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if n in os.environ), "0") == "0"


def serve(
    folder: str | Path, port: int = 0, say: Callable[[str], None] = print
) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: There is no such folder, or the port cannot be had.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"The folder {folder} does not exist.",
            "Name the --out of adapt.py or the --work-dir of train.py.",
        )
    server = listen(port)
    if not (Path(folder) / "progress.json").is_file():
        say(f"No run has written to {folder} yet: the page waits for its first step.")
    say(f"Watching {folder}: {address(server)}  (Ctrl-C ends it, not the run)")
    with suppress(KeyboardInterrupt), LiveServer(server, folder) as live:
        live.serve_forever()


def _child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    args = parser.parse_args()
    server = socket.socket(fileno=args.socket)
    with suppress(KeyboardInterrupt):
        os.nice(5)  # the training comes first
        with LiveServer(server, args.folder, args.parent) as live:
            live.serve_forever()


if __name__ == "__main__":
    _child()
