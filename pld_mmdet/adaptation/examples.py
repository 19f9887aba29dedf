"""What the teacher labels, for people who watch: pictures, and counts in the log line.

Nothing is computed for it: in one step out of many the teacher's own answer is kept
while it passes by.
"""

import base64
import json
import time
from collections import deque
from pathlib import Path

import cv2
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.registry import HOOKS

FILE = "examples.json"
MAX_SIDE = 800
SHARE = 500  # drawing takes at most one part in so many of the time
MAX_BOXES = 100  # of a kind and image; an LPLD teacher drops hundreds
WORDS = {"high": "kept", "low": "mined", "dropped": "dropped"}


@HOOKS.register_module()
class ExampleHook(Hook):
    """Keeps a few images with their pseudo boxes in ``examples.json``.

    In every ``interval``-th step the counts of that batch go into the log line
    (``kept``, ``mined``, ``dropped``: a loss of 0 is explained beside it), those of the
    dropped proposals also become curves (``pseudo/dropped``, ``pseudo/dropped/<class>``
    beside those of ``PseudoBoxHook``), and, at most every ``seconds`` and for at most
    0.2 % of the time, the newest images are written for the live page. The first
    process does it from its own batch. A failure is written into the file and the log,
    and never ends the training.

    Args:
        interval: Steps between two looks.
        seconds: Least time between two writes of pictures.
        images: Pictures that are kept.
    """

    # before LoggerHook (BELOW_NORMAL), whose line it adds to
    priority = "NORMAL"

    def __init__(
        self, interval: int = 20, seconds: float = 30.0, images: int = 4
    ) -> None:
        self.interval = interval
        self.seconds = seconds
        self.kept: deque[dict] = deque(maxlen=images)
        self._tap: LabelTap | None = None
        self._next = 0.0
        self._broken = False

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Listen to this step if it is its turn."""
        if (runner.iter + 1) % self.interval or self._broken or not is_main_process():
            return
        self._tap = LabelTap(unwrapped(runner.model))

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Count, and draw when it is time."""
        if self._tap is None:
            return
        found, self._tap = self._tap.close(), None
        if found is None:
            return
        try:
            self._use(runner, data_batch, found)
        except Exception as error:  # whatever it is, training is worth more
            self._broken = True
            text = f"No more pictures: {type(error).__name__}: {error}"
            runner.logger.warning(text)
            try:
                self._write(runner, text)
            except Exception:  # the disk that is full
                runner.logger.warning(f"{FILE} cannot be written.")

    def _use(self, runner, data_batch: dict, found: "Found") -> None:
        meta = getattr(runner.train_dataloader.dataset, "metainfo", None) or {}
        names = list(meta.get("classes", ()))
        model = unwrapped(runner.model)
        if "dropped" in found and "dropped" not in model.pseudo_counts:
            counts = _per_class(found["dropped"], model.num_classes)
            scalars = {"pseudo/dropped": sum(counts)}
            if len(names) == len(counts):
                scalars |= {
                    f"pseudo/dropped/{name}": count
                    for name, count in zip(names, counts, strict=True)
                }
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        for kind, per_image in found.items():
            mean = sum(len(boxes) for boxes in per_image) / len(per_image)
            runner.message_hub.update_scalar(f"train/{WORDS[kind]}", mean)
        began = time.monotonic()
        if began < self._next:
            return
        weak = data_batch["inputs"]["weak"]
        samples = data_batch["data_samples"]["weak"]
        for n in range(min(len(weak), self.kept.maxlen)):
            boxes = {WORDS[kind]: of[n] for kind, of in found.items()}
            self.kept.append(
                picture(runner.iter + 1, samples[n].img_path, weak[n], boxes, names)
            )
        self._write(runner)
        now = time.monotonic()
        self._next = now + max(self.seconds, SHARE * (now - began))

    def _write(self, runner, error: str | None = None) -> None:
        content = dict(iter=runner.iter + 1, images=list(self.kept)[::-1])
        if error:
            content["error"] = error
        text = json.dumps(content).encode()
        write_atomic(Path(runner.work_dir) / FILE, lambda file: file.write(text))


# Kind (high, low, dropped) -> one InstanceData an image
Found = dict[str, list[InstanceData]]


class LabelTap:
    """Stands before the teacher's pass of one step and keeps what it says.

    It listens at the place that the model's ``loss`` itself calls, so that no second
    pass is made. What is kept are references; they are let go by :meth:`close`.

    Args:
        model: A wrapper such as ``MeanTeacherSFOD``; another model says nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.said = None
        names = ("_teacher_pass", "label", "pseudo_labels")  # the first there is
        self.name = next((n for n in names if hasattr(model, n)), None)
        if self.name is not None:
            inner = getattr(model, self.name)

            def listen(*args, **kwargs):
                self.said = inner(*args, **kwargs)
                return self.said

            setattr(model, self.name, listen)  # hides the method of the class

    def close(self) -> Found | None:
        """Step aside; the labels of the step, or None if there was no pass."""
        if self.name is not None:
            delattr(self.model, self.name)
        said, self.said = self.said, None
        if said is None:
            return None
        if self.name == "label":
            return dict(high=said.high)
        if self.name == "pseudo_labels":
            kinds = dict(high=said.high, low=said.low, dropped=said.dropped)
            return {kind: found for kind, found in kinds.items() if found}
        high, proposals, keep = said
        # without the logits and features, which are a hundred times larger
        shown = InstanceData(
            **{name: proposals[name] for name in ("bboxes", "scores", "labels")}
        )
        return dict(
            high=high,
            low=_rows(shown, proposals.image, keep, len(high)),
            dropped=_rows(shown, proposals.image, ~keep, len(high)),
        )


def _rows(
    pooled: InstanceData, image_of: Tensor, chosen: Tensor, images: int
) -> list[InstanceData]:
    """The chosen rows of pooled proposals, one entry an image."""
    return [pooled[chosen & (image_of == n)] for n in range(images)]


def picture(
    iteration: int,
    path: str,
    image: Tensor,
    boxes: dict[str, InstanceData],
    classes: list[str],
) -> dict:
    """One image with its boxes, ready for json.

    Args:
        iteration: When it was seen.
        path: Its file; only the name is kept.
        image: The weak view, 3 x H x W in 0..255, BGR.
        boxes: ``kept``, ``mined``, ``dropped`` -> boxes in pixels of that view.
        classes: Class names.
    """
    if image.dtype != torch.uint8:
        image = image.clamp(0, 255).byte()
    planes = list(image.cpu().numpy())  # resized one by one: several times faster
    height, width = planes[0].shape
    ratio = MAX_SIDE / max(height, width)
    if ratio < 1:
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        planes = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes]
    pixels = cv2.merge(planes)
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    rows = []
    for kind, found in boxes.items():
        first = found.scores.argsort(descending=True)[:MAX_BOXES]
        found = found[first]
        for box, score, label in zip(
            found.bboxes.tolist(),
            found.scores.tolist(),
            found.labels.tolist(),
            strict=True,
        ):
            name = classes[label] if label < len(classes) else str(label)
            sides = [round(side, 1) for side in box]
            rows.append([kind, *sides, f"{name} {100 * score:.0f} %"])
    return dict(
        iter=iteration,
        file=Path(path).name,
        width=width,
        height=height,
        jpeg=base64.b64encode(jpeg.tobytes()).decode(),
        counts={kind: len(found) for kind, found in boxes.items()},
        boxes=rows,
    )


def _per_class(per_image: list[InstanceData], classes: int) -> list[float]:
    """Mean boxes an image of each class."""
    labels = torch.cat([found.labels for found in per_image])
    counts = torch.bincount(labels, minlength=classes).float() / len(per_image)
    return counts.tolist()
