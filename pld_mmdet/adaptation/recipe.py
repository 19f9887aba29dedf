"""The written rule: length, learning rate and teacher from the amount of data."""

import math
from dataclasses import dataclass

from pld_mmdet.engine.optim.scaling import Schedule, rescale
from pld_mmdet.errors import UserError

# The measured recipe (docs/results.md): 800 images, 400 steps of 4, SGD at 1e-3, a
# teacher that keeps 0.995 an iteration and so 13 % of the source at the end.
BASE_BATCH = 4
BASE_LR = 1e-3
SOURCE_LEFT = 0.13
PASSES = 2
MIN_SEEN, MAX_SEEN = 1600, 30000
MAX_PASSES = 50
KEEP_RANGE = (0.9, 0.9999)
ADABN_IMAGES = 200
MIN_ADABN_IMAGES = 8
# Sigmoid heads (focal loss) give lower scores than a softmax: at 0.4 a RetinaNet in fog
# keeps 2 boxes an image and forgets classes, at 0.25 it keeps 7 (docs/results.md).
THRESHOLDS = {"softmax": 0.7, "sigmoid": 0.25}


@dataclass(frozen=True)
class Recipe:
    """The numbers of one adaptation.

    Attributes:
        batch: Images a step and process.
        processes: Training processes.
        iterations: Steps.
        lr: Learning rate.
        keep: Teacher's share that stays at each step.
        warm_up: Steps over which the learning rate grows.
        optimizer: ``'SGD'`` or ``'AdamW'``.
        adabn_images: Images for batch-norm statistics; 0 leaves them alone.
        threshold: Score above which a detection is a pseudo label.
        images: Size of the data set, for the sentence.
    """

    batch: int
    processes: int
    iterations: int
    lr: float
    keep: float
    warm_up: int
    optimizer: str
    adabn_images: int
    threshold: float
    images: int

    def sentence(self, trains: bool = True) -> str:
        """The line that is printed; of AdaBN alone where nothing ``trains``."""
        if not trains:
            return (
                f"Rule: {self.images} images, batch {self.batch} x {self.processes}, "
                f"AdaBN on {self.adabn_images} of them; nothing is trained."
            )
        step = self.batch * self.processes
        passes = self.iterations * step / self.images
        adabn = (
            f"AdaBN on {self.adabn_images} images first"
            if self.adabn_images
            else "no AdaBN"
        )
        warm_up = f" after {self.warm_up} of warm-up" if self.warm_up else ""
        return (
            f"Rule: {self.images} images, batch {self.batch} x {self.processes} "
            f"process{'es' if self.processes > 1 else ''} -> {self.iterations} "
            f"iterations ({passes:.3g} passes), {self.optimizer} lr {self.lr:.3g}"
            f"{warm_up}, teacher keeps {self.keep:.4f} an iteration "
            f"({100 * self.keep**self.iterations:.0f} % of the source at the end), "
            f"boxes above {self.threshold:g}, {adabn}."
        )


def choose_recipe(
    images: int,
    batch: int,
    processes: int = 1,
    head: str = "softmax",
    optimizer: str = "SGD",
    source_lr: tuple[float, int] | None = None,
    batch_norms: int = 0,
    **chosen,
) -> Recipe:
    """Apply the rule.

    - Images seen: two passes, but at least 1600 and at most 30,000 images, and no image
      more than 50 times. Iterations are that, divided by the images in a step.
    - Learning rate: SGD 1e-3 for 4 images in a step, scaled linearly. Networks with
      layer norm that were trained with Adam (DETR, Swin): AdamW at a tenth of the
      source's rate, scaled by the square root, with 5 % warm-up.
    - Teacher: keeps ``0.13 ** (1 / iterations)`` (within 0.9 and 0.9999), so that 13 %
      of the source is left at the end however long the run is.
    - AdaBN on up to 200 images, if there are at least 8 and there is batch norm.
    - Pseudo labels: score above 0.7 (softmax heads), 0.25 (sigmoid heads).

    Args:
        images: Readable images.
        batch: Images a step and process.
        processes: Training processes.
        head: ``'softmax'`` or ``'sigmoid'``.
        optimizer: ``'SGD'`` or ``'AdamW'``.
        source_lr: Learning rate and images in a step of the source training; for AdamW.
        batch_norms: Batch-norm layers of the detector.
        **chosen: ``iterations``, ``lr``, ``keep``, ``threshold``: taken instead of the
            rule where they are not None. Numbers that follow from them still follow.
    """
    for name, value in (("batch", batch), ("iterations", chosen.get("iterations"))):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} is no number of steps.", f"Give {name}>0.")
    seen = min(max(PASSES * images, MIN_SEEN), MAX_SEEN, MAX_PASSES * images)
    step = batch * processes
    base = Schedule(batch=1, lr=0.0, iterations=chosen.get("iterations") or seen)
    iterations = chosen.get("iterations") or rescale(base, step).iterations
    low, high = KEEP_RANGE
    keep = chosen.get("keep")
    if keep is None:
        keep = min(max(SOURCE_LEFT ** (1 / iterations), low), high)
    if optimizer == "AdamW":
        rate, source_batch = source_lr or (1e-4, 16)
        scaled = rescale(Schedule(source_batch, 0.1 * rate), step, "sqrt")
    else:
        scaled = rescale(Schedule(BASE_BATCH, BASE_LR), step)
    adabn = min(ADABN_IMAGES, images) if images >= MIN_ADABN_IMAGES else 0
    lr, threshold = chosen.get("lr"), chosen.get("threshold")
    return Recipe(
        batch=batch,
        processes=processes,
        iterations=iterations,
        lr=scaled.lr if lr is None else lr,
        keep=keep,
        warm_up=math.ceil(0.05 * iterations) if optimizer == "AdamW" else 0,
        optimizer=optimizer,
        adabn_images=adabn if batch_norms else 0,
        threshold=THRESHOLDS[head] if threshold is None else threshold,
        images=images,
    )
