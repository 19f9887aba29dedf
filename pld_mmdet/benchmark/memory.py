"""Whether memory stays flat over many steps."""

import gc
import os
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from pld_mmdet.benchmark.images import ROOT, image_files, training_batch
from pld_mmdet.benchmark.networks import make_realistic, total, training_step
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Measurement
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.errors import UserError

BATCHES = 5
SCALE = (128, 64)


def memory(plan: Plan) -> list[Measurement]:
    """Resident memory over 200 LPLD steps, after 50 steps of warm-up.

    The small detector on 64 x 128 images, with changing batches and a learning rate, so
    that the number of boxes changes from step to step.
    """
    steps, warm_up = (20, 5) if plan.quick else (200, 50)
    cfg = Config.fromfile(str(ROOT / "configs/lpld/foggy_streets.py"))
    cfg.train_pipeline[1].scale = SCALE
    settings = dict(cfg.model)
    settings.pop("type")
    torch.manual_seed(0)
    model = LPLD(**settings).train()
    with image_files(2 * BATCHES) as (paths, origin):
        batches = [
            model.data_preprocessor(
                training_batch(cfg, paths[2 * n : 2 * n + 2]), training=True
            )
            for n in range(BATCHES)
        ]
    first = batches[0]
    make_realistic(model, first["inputs"], first["data_samples"], mined=16)
    current = {}

    def backward() -> None:
        total(model.loss(current["inputs"], current["data_samples"])).backward()

    step = training_step(backward, model.student, model.teacher, lr=1e-4)
    tick = plan.counter(warm_up + steps)
    curve = []
    for number in range(-warm_up, steps + 1):
        if number >= 0 and number % 5 == 0:
            gc.collect()
            curve.append((number, resident_mb()))
        current = batches[number % BATCHES]
        step()
        tick()
    numbers, megabytes = np.array(curve).T
    slope = 100 * np.polyfit(numbers, megabytes, 1)[0]
    return [
        Measurement(
            case="Memory",
            setting=f"R18-FPN small, 64 x 128, batch 2, {steps} LPLD steps",
            values={
                "growth per 100 steps": float(slope),
                "at the start": float(megabytes[0]),
                "at the end": float(megabytes[-1]),
                "largest": float(megabytes.max()),
            },
            unit="MB",
            limited="growth per 100 steps",
            target=2.0,
            notes=[
                f"Images: {origin}. Slope of the least-squares line through the "
                f"resident memory, read every 5 steps after {warm_up} steps of warm-up."
            ],
        )
    ]


def resident_mb() -> float:
    """Resident memory of this process now, in megabytes (2**20 bytes).

    Raises:
        UserError: Not on Linux.
    """
    path = Path("/proc/self/statm")
    if not path.is_file():
        raise UserError(
            "The case 'memory' reads /proc/self/statm, which only Linux has.",
            "Name the other cases: python tools/benchmark.py --list",
        )
    pages = int(path.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_resident_mb() -> float:
    """Largest resident memory of this program so far, in megabytes (2**20 bytes).

    Not ``ru_maxrss``: a child process starts with the one of its parent.

    Raises:
        UserError: Not on Linux.
    """
    resident_mb()  # says so where there is no /proc
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
