"""Random networks that behave like trained ones, and the step that is timed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

from pld_mmdet.benchmark.images import ROOT, image_files, training_batch
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.distill.adabn import estimate_batch_norm
from pld_mmdet.distill.ema import Pairing
from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.errors import UserError

KEEP = 0.999
CONFIDENT_SHARE = 0.04  # proposals above the HPL threshold, before NMS


@dataclass
class Workbench:
    """One batch and the two wrappers, with equal weights.

    Attributes:
        lpld: Mines exactly ``mined`` rows of the batch.
        mean_teacher: The same without mining.
        inputs: ``weak`` and ``strong`` images, normalised.
        samples: Their data samples.
        setting: Network, size and batch in words.
        notes: Origin of the images, numbers of proposals and boxes.
    """

    lpld: LPLD
    mean_teacher: MeanTeacherSFOD
    inputs: dict[str, Tensor]
    samples: dict[str, list[DetDataSample]]
    setting: str
    notes: list[str]

    def wrapper_step(self, model: MeanTeacherSFOD) -> Callable[[], None]:
        """A whole training step of one of the wrappers on the batch."""

        def backward() -> None:
            total(model.loss(self.inputs, self.samples)).backward()

        return training_step(backward, model.student, model.teacher)


def build_workbench(
    config: str, name: str, batch_size: int, mined: int = 64
) -> Workbench:
    """Build the config's LPLD and a Mean Teacher of the same random weights.

    Args:
        config: Below ``configs/lpld``.
        name: The network in words.
        batch_size: Images.
        mined: Rows that the LPLD term gets, of the whole batch.
    """
    cfg = Config.fromfile(str(ROOT / "configs" / "lpld" / config))
    with image_files(batch_size) as (paths, origin):
        batch = training_batch(cfg, paths)
    settings = dict(cfg.model)
    settings.pop("type")
    torch.manual_seed(0)
    lpld = LPLD(**settings).train()
    logging.disable(logging.INFO)  # mmengine names every weight it draws
    try:
        lpld.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    data = lpld.data_preprocessor(batch, training=True)
    counts = make_realistic(lpld, data["inputs"], data["data_samples"], mined)
    mean_teacher = MeanTeacherSFOD(settings["detector"], lpld.hpl_threshold).train()
    mean_teacher.load_state_dict(lpld.state_dict())
    height, width = data["inputs"]["weak"].shape[2:]
    return Workbench(
        lpld,
        mean_teacher,
        data["inputs"],
        data["data_samples"],
        f"{name}, {height} x {width}, batch {batch_size}",
        [f"Images: {origin}. Random weights. Per batch: {counts}."],
    )


@torch.no_grad()
def make_realistic(
    model: LPLD,
    inputs: dict[str, Tensor],
    samples: dict[str, list[DetDataSample]],
    mined: int,
) -> str:
    """Give random networks some confident boxes and exactly ``mined`` mined rows.

    Batch norm takes the statistics of both views, so that signals neither die nor
    explode; the class layer gets logits with a standard deviation of 2 and a background
    bias that leaves 4 % of the proposals confident. Then one threshold,
    ``lpl_min_certainty``, is put half-way between the rows number ``mined`` and
    ``mined + 1`` in order of certainty, so every implementation of the rule keeps the
    same rows.

    Args:
        model: Both networks are changed.
        inputs: A batch, normalised.
        samples: Its data samples.
        mined: Rows wanted in the batch.

    Returns:
        The resulting counts in words.

    Raises:
        UserError: The batch does not have that many candidates.
    """
    layer = model.teacher.roi_head.bbox_head.fc_cls

    def forward(images: Tensor) -> None:
        fresh = [DetDataSample(metainfo=s.metainfo) for s in samples["weak"]]
        model.teacher.predict(images, fresh, rescale=False)

    estimate_batch_norm(model.teacher, inputs.values(), forward)
    with FeatureTap(layer=layer) as tap:
        forward(inputs["weak"])
    spread_logits(layer, tap.inputs("layer")[0], model.hpl_threshold)
    model.student.load_state_dict(model.teacher.state_dict())

    model.lpl_min_certainty = 0.0
    found = model.pseudo_labels(inputs["weak"], samples["weak"])
    rows = torch.cat([low.logits for low in found.low])
    certainty = rows[:, :-1].softmax(1).amax(1).sort(descending=True).values
    if len(certainty) <= mined:
        raise UserError(
            f"The batch has {len(certainty)} candidates; {mined} were to be mined.",
            "Use larger images or more of them.",
        )
    model.lpl_min_certainty = certainty[mined - 1 : mined + 1].mean().item()
    proposals = sum(map(len, found.low)) + sum(map(len, found.dropped))
    return (
        f"{proposals} teacher proposals, {sum(map(len, found.high))} confident boxes, "
        f"{mined} mined rows by lpl_min_certainty = {model.lpl_min_certainty:.3f}"
    )


def spread_logits(layer: nn.Linear, features: Tensor, threshold: float) -> None:
    """Make a class layer confident (> ``threshold``) on 4 % of features [N, D]."""
    weight = torch.randn(layer.weight.shape, device=features.device)
    logits = features @ weight.T
    scale = 2.0 / logits.std(0).clamp(min=1e-6)
    logits = (logits - logits.mean(0)) * scale
    low, high = 0.0, 30.0
    for _ in range(30):  # bisection of the background's lead
        lead = (low + high) / 2
        shifted = torch.cat([logits[:, :-1], logits[:, -1:] + lead], 1)
        share = (shifted.softmax(1)[:, :-1].amax(1) > threshold).float().mean()
        low, high = (lead, high) if share > CONFIDENT_SHARE else (low, lead)
    layer.weight.copy_(weight * scale[:, None])
    layer.bias.copy_(-(features @ layer.weight.T).mean(0))
    layer.bias[-1] += lead


def total(losses: dict[str, Tensor]) -> Tensor:
    """Sum of a loss dict, as the runner makes it."""
    return sum(
        value if isinstance(value, Tensor) else sum(value)
        for name, value in losses.items()
        if "loss" in name
    )


def sgd(module: nn.Module, lr: float = 0.0) -> torch.optim.SGD:
    """The recipe's optimizer. With ``lr=0`` it moves all the memory but no weight."""
    weights = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-4)


def training_step(
    backward: Callable[[], None],
    student: nn.Module,
    teacher: nn.Module | None,
    lr: float = 0.0,
) -> Callable[[], None]:
    """A whole step: gradients, SGD, and EMA if there is a teacher.

    With ``lr=0`` student and teacher never change, so each call of each side
    does the same work on the same boxes. Samplers are seeded alike for the same reason.

    Args:
        backward: Computes the losses and back-propagates them.
        student: What SGD updates.
        teacher: What the EMA moves.
        lr: Learning rate.
    """
    optimizer = sgd(student, lr)
    pairs = None if teacher is None else Pairing(teacher, student)  # as the hook's

    def step() -> None:
        torch.manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        backward()
        optimizer.step()
        if pairs is not None:
            pairs.update(KEEP)

    return step
