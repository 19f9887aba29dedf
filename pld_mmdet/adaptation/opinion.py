"""A second opinion for ``adapt``: a file with boxes, or a detector that writes one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from pld_mmdet.adaptation.detector import Detector, read_config, read_detector
from pld_mmdet.adaptation.folder import Images
from pld_mmdet.adaptation.looking import look
from pld_mmdet.detection.pseudo_labels.second_opinion import SecondOpinion
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.waiting import counted

FILE = "second_opinion.json"


def check_words(words: Sequence[str] | None, method: str) -> None:
    """Refuse what is neither FILE.json nor CONFIG CHECKPOINT.

    Raises:
        UserError: Another number of words, a missing file, or a method without labels.
    """
    if not words:
        return
    if len(words) > 2 or (len(words) == 1 and Path(words[0]).suffix != ".json"):
        raise UserError(
            f"--second-opinion {' '.join(map(str, words))} is neither a json file nor "
            "a config and a checkpoint.",
            "Write --second-opinion FILE.json, or --second-opinion CONFIG CHECKPOINT.",
        )
    for word in words:
        if not Path(word).is_file():
            raise UserError(
                f"The file {word} of --second-opinion does not exist.",
                "Check the path (relative paths start at the current folder).",
            )
    if method == "adabn":
        raise UserError(
            "--method adabn learns from no boxes, so a second opinion changes nothing.",
            "Leave --second-opinion out, or use --method mean_teacher.",
        )


def ask(
    words: Sequence[str] | None,
    detector: Detector,
    images: Images,
    out: Path,
    going_on: bool,
    say: Callable[[str], None],
) -> dict | None:
    """The ``second_opinion`` of the model: the boxes' file, checked.

    Args:
        words: FILE.json, or CONFIG and CHECKPOINT of a detector that is run once over
            all images; its boxes are kept in ``out``.
        detector: The one that is adapted.
        images: What it learns from.
        out: Folder of the run.
        going_on: Whether the boxes in ``out`` are this run's; otherwise they may be
            those of a start with other options that failed.
        say: Receives a line for the user.

    Raises:
        UserError: Classes, image names or sizes do not fit.
    """
    if not words:
        return None
    file = Path(words[0]) if len(words) == 1 else out / FILE
    if len(words) == 2:
        cfg = read_config(words[0])
        other = read_detector(cfg, words[1])
        unknown = sorted(set(other.classes) - set(detector.classes))
        if unknown:
            raise UserError(
                f"{words[0]} finds classes that the detector does not know: "
                f"{', '.join(unknown[:8])}. It knows {', '.join(detector.classes)}.",
                "Use a detector of the same classes, or write its boxes into a file "
                "and rename them there.",
            )
        if not (going_on and file.is_file()):
            say(f"Second opinion: {other.name} looks at {len(images.files)} images ...")
            write_json(file, detect(cfg, other, words[1], images, say))
    opinion = SecondOpinion(str(file), detector.classes)
    root = images.root.resolve()  # as the run will name them
    files = [str(root / name) for name in images.files]
    known = opinion.check_images(files, images.each)
    boxes = len(opinion.scores)
    say(
        f"Second opinion: {boxes} boxes in {file.name}, for {known} of the "
        f"{len(images.files)} images; those count that the teacher misses."
    )
    return dict(file=str(file.resolve()), classes=tuple(detector.classes))


def detect(
    cfg: Config,
    other: Detector,
    checkpoint: str,
    images: Images,
    say: Callable[[str], None] = print,
) -> dict:
    """All boxes of a detector, as COCO results with images and categories."""
    content = load_checkpoint_file(checkpoint)
    state = content.get("state_dict", content)
    named = counted(images.files, len(images.files), "images labelled", say)
    seen = look(cfg, other, state, (images.root / name for name in named))
    rows = []
    for number, found in enumerate(seen):
        sides = found.bboxes[:, 2:] - found.bboxes[:, :2]
        sizes = torch.cat([found.bboxes[:, :2], sides], 1)
        triples = zip(
            sizes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
        rows += [
            dict(image_id=number, category_id=label, bbox=size, score=score)
            for size, score, label in triples
        ]
    return dict(
        images=[dict(id=n, file_name=name) for n, name in enumerate(images.files)],
        categories=[dict(id=n, name=name) for n, name in enumerate(other.classes)],
        annotations=rows,
    )
