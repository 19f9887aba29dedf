"""How a run ends that nothing in its config ends: what happened, and how to go on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from mmengine.dist import get_world_size

from pld_mmdet.engine.state.files import is_full
from pld_mmdet.engine.state.outfolder import is_ours, lost
from pld_mmdet.errors import UserError

_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]+)\.|exited unexpectedly)"
)
# gloo's and NCCL's words for a process that does not answer any more
_RANK = re.compile(
    r"(?i)connection (closed by peer|reset|refused)|broken pipe|no data received"
    r"|socket ?(timeout|closed)|remote process exited|timed out waiting"
    r"|NCCL (error|communicator was aborted)|recvValue failed|failed to recv"
)
_GO_ON = "go on with the same command and --resume"


def explained(error: BaseException, work_dir: str | Path) -> UserError | None:
    """The sentence for an end that comes from outside the run.

    Args:
        error: What a library made of it.
        work_dir: The run's folder.

    Returns:
        None for all other ends, bugs among them.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileNotFoundError) and not is_ours(work_dir):
        return lost(work_dir)
    if isinstance(error, OSError) and is_full(error):
        return UserError(
            f"The disk is full ({error}); {work_dir} keeps its newest whole "
            "checkpoint.",
            f"Free space, then {_GO_ON}.",
        )
    worker = _WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if worker is not None or _from_a_loader(error):
        how = f" (pid {worker['pid'].strip()})" if worker else ""
        known = worker is not None and worker["signal"]
        how += f" was killed by signal {worker['signal']}" if known else " is gone"
        return UserError(
            f"A process that loads data{how}: often memory ran out, or somebody ended "
            "it. The last checkpoint is whole.",
            "Free memory or use fewer workers (--cfg-options "
            f"train_dataloader.num_workers=1), then {_GO_ON}.",
        )
    if not isinstance(error, RuntimeError):
        return None
    if get_world_size() > 1 and _RANK.search(str(error)):
        return UserError(
            "Another process of this training does not answer any more "
            f"({str(error).strip().splitlines()[0][:120]}). The last checkpoint is "
            "whole.",
            f"Its own words say why (often memory ran out); mend it, then {_GO_ON}.",
        )
    return None


def _from_a_loader(error: BaseException) -> bool:
    """Whether a batch could not be fetched, as its process has gone with its memory."""
    if not isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        return False
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    loading = any(one.endswith("utils/data/dataloader.py") for one in frames)
    return loading and "multiprocessing" in frames[-1]


@contextmanager
def endings_told(work_dir: str | Path) -> Iterator[None]:
    """Raise the sentence of :func:`explained` in place of a library's error."""
    try:
        yield
    except Exception as error:
        told = explained(error, work_dir)
        if told is None or told is error:
            raise
        raise told from error
