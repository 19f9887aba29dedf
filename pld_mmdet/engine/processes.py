"""Process groups on machines without a GPU (mmengine's always asks for CUDA)."""

import datetime
import os

import torch.distributed

# (rank, number of processes) in the environment that each launcher makes
_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}


def start_cpu_group(launcher: str, timeout: float | None = None) -> None:
    """Start torch's gloo group from the variables that the launcher set.

    Args:
        launcher: ``pytorch``, ``slurm`` or ``mpi``.
        timeout: Seconds after which a missing process is an error.
    """
    if torch.distributed.is_initialized():
        return
    rank, size = (os.environ[name] for name in _VARIABLES[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=size)
    os.environ.setdefault("LOCAL_RANK", rank)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    wait = {} if timeout is None else {"timeout": datetime.timedelta(seconds=timeout)}
    torch.distributed.init_process_group("gloo", **wait)
