"""Samples of a trained generator: drawn, and written as pictures or numbers."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.config import ConfigDict
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from pld_mmdet.diffusion.scores import pictures
from pld_mmdet.engine.config.preflight import check_parts
from pld_mmdet.engine.hooks.progress import ProgressHook
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.files import may_write, write_atomic, write_json
from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.registry import DATASETS, MODELS

GRID, RECORD, NUMBERS = "grid.png", "samples.json", "samples.txt"


@dataclass(frozen=True)
class Wanted:
    """What is drawn.

    Args:
        count: How many samples.
        batch: Of them at once.
        seed: Whose noise.
        label: The class of all [each sample's own, or in turn].
        steps: Calls of the network [the config's].
        shape: Of a sample [the config's data's].
    """

    count: int
    batch: int
    seed: int = 0
    label: int | None = None
    steps: int | None = None
    shape: Sequence[int] | None = None


def generator(cfg: ConfigDict, checkpoint: str) -> Method:
    """The model of a config with a checkpoint's weights, ready to sample.

    Args:
        cfg: A resolved config.
        checkpoint: File of its run.

    Raises:
        UserError: It is no method outside detection, the config names what is not
            there, or the weights do not fit.
    """
    check_parts(cfg, ())
    if not cfg.get("model"):
        raise UserError("The config has no model.", "Name the config of a method.")
    model = MODELS.build(ConfigDict(cfg.model))
    if not isinstance(model, Method):
        raise UserError(
            f"{type(model).__name__} makes no samples.",
            "Give the checkpoint of a generator, e.g. of configs/dmd2/.",
        )
    content = load_checkpoint_file(checkpoint)
    report_mismatch(model, content.get("state_dict", content), checkpoint)
    # the stage that the weights come from
    ProgressHook().after_load_checkpoint(SimpleNamespace(model=model), content)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def data_of(cfg: ConfigDict) -> object:
    """The data set that a config tests on, else validates, else trains on.

    Raises:
        UserError: There is none, or its files are missing.
    """
    for part in ("test", "val", "train"):
        loader = cfg.get(f"{part}_dataloader")
        if loader and loader.get("dataset"):
            return DATASETS.build(loader["dataset"])
    raise UserError(
        "The config has no data, which say the samples' shape.", "Give --shape."
    )


def drawn(model: Method, data: object | None, wanted: Wanted) -> Iterator[Tensor]:
    """Batches of samples, N x ..., on the CPU.

    A generator of noise reads the data's shape and classes only, one that restores or
    reads captions the data themselves.

    Args:
        model: Of :func:`generator`.
        data: Of :func:`data_of`; None with ``wanted.shape``.
        wanted: What is drawn.

    Raises:
        UserError: The model has no such class or steps, or makes no samples.
    """
    _check(model, wanted)
    if wanted.steps is not None:
        model.in_steps(wanted.steps)
    device = next(model.parameters()).device
    for first in range(0, wanted.count, wanted.batch):
        numbers = range(first, min(first + wanted.batch, wanted.count))
        batch = _batch(model, data, wanted, numbers)
        batch = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        with torch.no_grad():
            answer = model(mode="predict", **batch)[0]
        if "samples" not in answer:
            raise UserError(
                f"{type(model).__name__} makes no samples.",
                "Give the checkpoint of a generator, e.g. of configs/dmd2/.",
            )
        yield answer["samples"].cpu()


def _check(model: Method, wanted: Wanted) -> None:
    name, classes = type(model).__name__, getattr(model, "num_classes", 0)
    if wanted.label is not None and not 0 <= wanted.label < classes:
        raise UserError(
            f"--class {wanted.label}: {name} knows "
            + (f"classes 0 to {classes - 1}." if classes else "no classes."),
            "Name one of them." if classes else "Leave --class out.",
        )
    if wanted.steps is not None and not hasattr(model, "in_steps"):
        raise UserError(
            f"--steps: {name} samples in the steps that it was trained with.",
            "Leave --steps out.",
        )


def _batch(
    model: Method, data: object | None, wanted: Wanted, numbers: range
) -> dict[str, object]:
    classes = getattr(model, "num_classes", 0)
    if data is None:
        batch: dict = {"inputs": torch.zeros(len(numbers), *wanted.shape)}
        if classes:
            batch["targets"] = torch.tensor([n % classes for n in numbers])
    else:
        batch = default_collate([data[n % len(data)] for n in numbers])
    if wanted.label is not None:
        batch["targets"] = torch.full((len(numbers),), wanted.label)
    # methods seed their noise with a batch's first number
    batch["index"] = torch.tensor([(wanted.seed << 20) + n for n in numbers])
    return batch


def value_range(data: object | None) -> tuple[Tensor, Tensor]:
    """Black and white in the values of samples, per channel or one for all.

    Args:
        data: With ``mean`` and ``std`` of its normalisation, or without: 0 and 1; None:
            -1 and 1, where diffusion models draw.
    """
    if data is None:
        return torch.tensor(-1.0), torch.tensor(1.0)
    mean = torch.as_tensor(np.asarray(getattr(data, "mean", 0.0)), dtype=torch.float)
    std = torch.as_tensor(np.asarray(getattr(data, "std", 1.0)), dtype=torch.float)
    mean, std = mean.flatten(), std.flatten()
    return (0 - mean) / std, (1 - mean) / std


def write_samples(
    batches: Iterator[Tensor],
    out: Path,
    wanted: Wanted,
    black: Tensor,
    white: Tensor,
    told: dict,
    inputs: Sequence[str | None] = (),
    overwrite: bool = False,
) -> float:
    """Write ``001.png`` ..., ``grid.png`` and ``samples.json``.

    Sequences of tokens and vectors become lines of ``samples.txt``; tokens and points
    of the plane have a ``grid.png`` too.

    Args:
        batches: Of :func:`drawn`.
        out: Folder; one that holds files needs ``overwrite`` and must have been written
            by this function.
        wanted: What is drawn.
        black: See :func:`value_range`.
        white: See there.
        told: More for the record.
        inputs: Files that are read.
        overwrite: Replace earlier samples.

    Returns:
        Seconds a sample took, drawing alone.

    Raises:
        UserError: Something would be lost, or samples are latents.
    """
    earlier = _earlier(out, overwrite)
    digits = max(3, len(str(wanted.count)))
    names = [f"{n + 1:0{digits}d}.png" for n in range(wanted.count)]
    for name in (*names, GRID, NUMBERS, RECORD):
        may_write(out / name, inputs, overwrite)
    begin = time.perf_counter()
    samples = torch.cat(list(batches))
    seconds = (time.perf_counter() - begin) / wanted.count
    if samples.dim() == 4 and samples.shape[1] not in (1, 3):
        raise UserError(
            f"Samples have {samples.shape[1]} channels: latents, no pictures.",
            "Give a config whose model.space decodes them.",
        )
    for name in earlier:  # fewer than before would leave a mixture
        (out / name).unlink(missing_ok=True)
    written = []
    if samples.dim() == 4:
        grey = samples.shape[1] == 1
        low, high = (edge.view(-1, 1, 1) for edge in (black, white))
        shades = ((samples.float() - low) / (high - low)).clamp(0, 1).numpy()
        for name, picture in zip(names, shades, strict=True):
            pixels = (255 * picture.transpose(1, 2, 0)).round().astype(np.uint8)
            _png(out / name, pixels[..., 0] if grey else pixels)
        columns = math.ceil(math.sqrt(len(shades)))
        grid = pictures.images(shades, range(len(shades)), columns)
        written += names
    else:
        values = samples.flatten(1).tolist()
        lines = "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in values)
        write_atomic(out / NUMBERS, lambda file: file.write(lines.encode()))
        written.append(NUMBERS)
        grid = None
        if not samples.is_floating_point():
            grid = pictures.tokens(samples.numpy(), len(samples))
        elif samples.shape[1:] == (2,):
            reach = 1.05 * float(samples.abs().max()) or 1.0
            grid = pictures.points(samples.numpy(), reach)
    if grid is not None:
        _png(out / GRID, grid)
        written.append(GRID)
    record = dict(told, files=written, seconds_a_sample=round(seconds, 4))
    write_json(out / RECORD, record)
    return seconds


def _earlier(out: Path, overwrite: bool) -> list[str]:
    """Names that an earlier call wrote into a folder; refuses one of somebody else."""
    if not out.is_dir() or not any(out.iterdir()):
        return []
    if not overwrite:
        raise UserError(
            f"--out {out} holds files already; nothing was written.",
            "Name another folder, or add --overwrite.",
        )
    if not (out / RECORD).is_file():
        raise UserError(
            f"--out {out} holds files that are no samples (no {RECORD}); nothing was "
            "written.",
            "Name another folder.",
        )
    found = read_json(out / RECORD, {"files": [str]}, "record of samples")["files"]
    plain = [name for name in found if Path(name).name == name]
    return [n for n in plain if n in (GRID, NUMBERS) or Path(n).stem.isdigit()]


def _png(file: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    write_atomic(file, lambda stream: picture.save(stream, format="png"))
