"""What an adaptation says before it begins: the method, what it cannot use, why not."""

from collections.abc import Callable

from pld_mmdet.adaptation.detector import Detector
from pld_mmdet.adaptation.folder import Images
from pld_mmdet.adaptation.options import Options
from pld_mmdet.adaptation.recipe import MIN_ADABN_IMAGES, Recipe


def explain(detector: Detector, method: str, stage: int = -1) -> str:
    """What the method will do with this detector, in one or two sentences."""
    if method == "adabn":
        return (
            f"AdaBN: the statistics of {detector.batch_norms} batch-norm layers are "
            "measured again on the images; no weight is trained."
        )
    if method == "fixed_labels":
        return (
            "Fixed labels: the confident boxes of the start train a student, and never "
            "change."
        )
    text = "Mean Teacher: the teacher's confident boxes train the student"
    if method == "lpld":
        text = (
            "LPLD: the teacher's confident boxes train the student, and its "
            "low-confidence proposals are distilled"
        )
        if detector.stages > 1:
            number = range(detector.stages)[stage] + 1
            text += (
                f"; box head {number} of {detector.stages} mines them (--stage "
                f"{number - 1})"
            )
    text += "."
    if detector.masks:
        text += " The masks come along as pseudo masks of the teacher."
    return text


def say_unread(options: Options, say: Callable[[str], None]) -> None:
    """Name the options that this method does not read."""
    names = options.unread()
    if names:
        which = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        say(f"Not read: {which}; --method {options.method} has no use for it.")


def say_floor(detector: Detector, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Say when the config's own test settings drop boxes that the rule would take."""
    test = detector.config.get("test_cfg") or {}
    floor = (test.get("rcnn") or test).get("score_thr") or 0
    if floor > recipe.threshold:
        say(
            f"Note: test_cfg.score_thr of the config drops boxes below {floor:g}, so "
            f"pseudo labels and AP50 begin there and not at {recipe.threshold:g}."
        )


def why_nothing(detector: Detector, options: Options, images: Images) -> str:
    """What keeps ``auto`` from trying anything, and what the user can do."""
    if options.adabn == "off":
        why = "--adabn off"
    elif not detector.batch_norms:
        why = f"{detector.name} has no batch norm"
    elif detector.moving_norms:
        why = f"{images.root} has fewer than {MIN_ADABN_IMAGES} images"
    else:
        why = (
            f"the batch norms of {detector.name} stood still in its training, so new "
            "statistics would harm it"
        )
    return (
        f"{why}, and without labels nothing shows whether self-training helps. Label "
        "20 to 100 of the images and name them with --labels, or choose --method "
        "mean_teacher yourself."
    )
