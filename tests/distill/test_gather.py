"""Rows of all processes: of real ones, and as each backend hands them over."""

import subprocess
import sys

import pytest
import torch
from torch import distributed

from pld_mmdet.distill._gather import gathered


@pytest.fixture
def world(monkeypatch):
    """A made-up group of processes: each sends this one's rows plus 10 a rank."""

    def enter(size: int, backend: str = "gloo") -> None:
        def all_gather(parts, sent):
            assert sent.is_contiguous()
            for rank, part in enumerate(parts):
                part.copy_(sent + 10 * rank)

        for name, answer in (
            ("is_initialized", lambda: True),
            ("get_world_size", lambda: size),
            ("get_backend", lambda: backend),
            ("all_gather", all_gather),
        ):
            monkeypatch.setattr(distributed, name, answer)

    return enter


def test_one_process_alone(world):
    rows = torch.arange(3)
    assert gathered(rows) is rows
    world(1)
    assert gathered(rows) is rows


def test_ranks_keep_their_order(world):
    world(3)
    rows = torch.arange(4.0).view(2, 2).T
    expected = torch.tensor([[0, 2], [1, 3]] * 3).float()
    expected += torch.tensor([0, 0, 10, 10, 20, 20])[:, None]
    assert torch.equal(gathered(rows), expected)


@pytest.mark.parametrize(("backend", "moved"), [("nccl", 1), ("gloo", 0)])
def test_only_nccl_needs_the_gpu(world, monkeypatch, backend, moved):
    calls = []
    monkeypatch.setattr(torch.Tensor, "cuda", lambda x: calls.append(x) or x.double())
    world(2, backend)
    found = gathered(torch.tensor([1.0]))
    assert len(calls) == moved
    assert found.tolist() == [1, 11]
    assert found.device.type == "cpu"


def test_rows_of_two_real_processes(tmp_path):
    """gloo, on this machine: ranks keep their order, and one alone gathers itself."""
    code = (
        "import sys, torch, torch.distributed as dist\n"
        "from pld_mmdet.distill._gather import gathered\n"
        "rank = int(sys.argv[1])\n"
        "alone = torch.tensor([5.0])\n"
        "assert gathered(alone) is alone\n"
        "dist.init_process_group('gloo', init_method='file://' + sys.argv[2],"
        " rank=rank, world_size=2)\n"
        "rows = torch.arange(4.0).view(2, 2).T + 10 * rank\n"
        "assert gathered(rows).tolist() == "
        "[[0, 2], [1, 3], [10, 12], [11, 13]], gathered(rows)\n"
    )
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(tmp_path / "f")])
        for rank in (0, 1)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
