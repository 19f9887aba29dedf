"""The written rule: length, learning rate and teacher from the amount of data."""

import math
from dataclasses import dataclass

from pld_mmdet.engine.optim.scaling import Schedule, rescale
from pld_mmdet.errors import UserError

# Two passes, and a teacher that keeps 13 % of the source at the end (docs/adapt.md).
SOURCE_LEFT = 0.13
PASSES = 2
MIN_SEEN, MAX_SEEN = 1600, 30000
MAX_PASSES = 50
KEEP_RANGE = (0.9, 0.9999)
# Half the rate that trained the source; where its config names none, as for 4 images.
RATE = 0.5
WARM_UP = 0.1
UNKNOWN = {"SGD": (1e-3, 4), "AdamW": (1e-4, 16)}
ADABN_IMAGES = 200
MIN_ADABN_IMAGES = 8
ADABN_PRIOR = 16
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
        warm_up: Steps over which the learning rate grows; then it falls to 0 (cosine).
        optimizer: Type of the source's optimizer.
        adabn_images: Images for batch-norm statistics; 0 leaves them alone.
        threshold: Score above which a detection is a pseudo label.
        images: Size of the data set, for the sentence.
        max_boxes: Most pseudo labels of an image; None: all.
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
    max_boxes: int | None = None

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
            f"AdaBN on {self.adabn_images} images is a candidate"
            if self.adabn_images
            else "no AdaBN"
        )
        return (
            f"Rule: {self.images} images, batch {self.batch} x {self.processes} "
            f"process{'es' if self.processes > 1 else ''} -> {self.iterations} "
            f"iterations ({passes:.3g} passes), {self.optimizer} lr {self.lr:.3g} "
            f"(warm-up of {self.warm_up}, then a cosine to 0), teacher keeps "
            f"{self.keep:.4f} an iteration "
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
    adabn: bool = False,
    **chosen,
) -> Recipe:
    """Apply the rule.

    - Images seen: two passes, but at least 1600 and at most 30,000 images, and no image
      more than 50 times. Iterations are that, divided by the images in a step.
    - Learning rate: half of the source's, scaled to the images of a step: linearly for
      SGD, by the square root for Adam and its relatives. A tenth of the run is
      warm-up, then it falls to 0 as a cosine.
    - Teacher: keeps ``0.13 ** (1 / iterations)`` (within 0.9 and 0.9999), so that 13 %
      of the source is left at the end however long the run is.
    - AdaBN, where it is asked for, on up to 200 images, if there are at least 8.
    - Pseudo labels: score above 0.7 (softmax heads), 0.25 (sigmoid heads).

    Args:
        images: Readable images.
        batch: Images a step and process.
        processes: Training processes.
        head: ``'softmax'`` or ``'sigmoid'``.
        optimizer: Type of the source's optimizer.
        source_lr: Learning rate and images in a step of the source training.
        adabn: Whether batch-norm statistics are measured again first.
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
    adaptive = optimizer != "SGD"
    rate, theirs = source_lr or UNKNOWN["AdamW" if adaptive else "SGD"]
    rate *= RATE if source_lr else 1
    scaled = rescale(Schedule(theirs, rate), step, "sqrt" if adaptive else "linear")
    lr, threshold = chosen.get("lr"), chosen.get("threshold")
    return Recipe(
        batch=batch,
        processes=processes,
        iterations=iterations,
        lr=scaled.lr if lr is None else lr,
        keep=keep,
        warm_up=math.ceil(WARM_UP * iterations),
        optimizer=optimizer,
        adabn_images=min(ADABN_IMAGES, images)
        if adabn and images >= MIN_ADABN_IMAGES
        else 0,
        threshold=THRESHOLDS[head] if threshold is None else threshold,
        images=images,
    )
