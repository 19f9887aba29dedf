"""Process groups on machines without a GPU, and what all processes must share."""

import datetime
import os
import subprocess

import torch.distributed
from mmengine.dist import broadcast, get_world_size
from torch import nn

# (rank, number of processes) in the environment that each launcher makes
_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}


def start_cpu_group(launcher: str, timeout: float | None = None) -> None:
    """Start torch's gloo group from the variables that the launcher set.

    mmengine's own start asks for CUDA.

    Args:
        launcher: ``pytorch``, ``slurm`` or ``mpi``.
        timeout: Seconds after which a missing process is an error.
    """
    if torch.distributed.is_initialized():
        return
    rank, size = (os.environ[name] for name in _VARIABLES[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=size)
    os.environ.setdefault("LOCAL_RANK", rank)
    os.environ.setdefault("MASTER_ADDR", _first_node() or "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    wait = {} if timeout is None else {"timeout": datetime.timedelta(seconds=timeout)}
    torch.distributed.init_process_group("gloo", **wait)


def _first_node() -> str | None:
    """The first machine of a SLURM job that has several."""
    if int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) < 2:
        return None
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Give every process the batch-norm statistics of process 0, in one message.

    DDP does so before each forward pass. Between two of them the statistics differ,
    and a teacher that averages them then would be another one in each process. Norms
    that do not learn statistics are left alone.

    Args:
        network: The same on all processes; all of them must call this.
    """
    if get_world_size() == 1:
        return
    statistics = [
        buffer
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.training
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    ]
    if not statistics:
        return
    flat = torch.cat([buffer.flatten() for buffer in statistics])
    broadcast(flat)
    parts = flat.split([buffer.numel() for buffer in statistics])
    for buffer, part in zip(statistics, parts, strict=True):
        buffer.copy_(part.view_as(buffer))
