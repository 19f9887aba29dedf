"""A data set wrapper: seeded samples, and broken images called by name."""

import os
import re
from typing import Any

from mmengine.registry import DATASETS as ROOT_DATASETS

from pld_mmdet.engine.data.images import image_fault
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS

_STREAM = 1  # keeps the samples' stream apart from the iterations' (hooks/seed.py)


class SampleError(UserError):
    """A sample that cannot be read, also when a loader process says so.

    torch re-raises a worker's exception with one argument, the whole trace as text;
    the two sentences are then found in that text again.

    Args:
        what: The sentence, or a worker's trace.
        fix: What to do; None when ``what`` is a trace.
    """

    def __init__(self, what: str, fix: str | None = None) -> None:
        if fix is None:
            lines = re.split(r"\w*\.?SampleError: ", what)[-1].strip().splitlines()
            what, fix = lines[0], "\n".join(lines[1:])
        super().__init__(what, fix)


@DATASETS.register_module()
class SeededDataset:
    """Makes a sample a function of (seed, draw number), whoever loads it.

    The random streams of random, numpy and torch are seeded before the pipeline of the
    inner data set and restored after it. So the number of loader processes changes
    nothing, loading in the main process does not disturb the model's randomness, and
    continuing a run needs no stored states.

    Args:
        dataset: Config of the data set, or the data set.
        seed: Replaces the run's seed that ``ResumableSampler`` sends along.
        check_files: Look for an image's end mark before it is first decoded (in each
            loader process): OpenCV fills what a truncated JPEG lacks with grey and says
            nothing.
    """

    def __init__(
        self, dataset: Any, seed: int | None = None, check_files: bool = True
    ) -> None:
        if isinstance(dataset, dict):
            dataset = ROOT_DATASETS.build(dataset)
        self.dataset = dataset
        self.seed = seed
        self.check_files = check_files
        self._checked: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        # pickle asks an empty instance for special methods: don't recurse
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Load one sample.

        Args:
            index: A ``DrawIndex``; a plain index is its own draw number.

        Raises:
            SampleError: Names the image that cannot be read.
        """
        seed = self.seed if self.seed is not None else getattr(index, "seed", 0)
        draw = getattr(index, "draw", index)
        with own_randomness(int(seed), _STREAM, int(draw)):
            try:
                if self.check_files and index not in self._checked:
                    check_image_file(self._image_path(index))
                    self._checked.add(int(index))
                return self.dataset[int(index)]
            except UserError as error:
                raise SampleError(error.what, error.fix) from error
            except Exception as error:
                path = self._image_path(index)
                if path is None or not _is_reading(error):
                    raise
                raise SampleError(
                    f"The image {path} cannot be read ({type(error).__name__}: "
                    f"{str(error)[:200]}).",
                    _MEND,
                ) from error

    def _image_path(self, index: int) -> str | None:
        info = getattr(self.dataset, "get_data_info", None)
        return info(int(index)).get("img_path") if info is not None else None


_MEND = (
    "Replace the file or make the data set again; python tools/check_data.py CONFIG "
    "lists all such files."
)


def _is_reading(error: Exception) -> bool:
    """Whether a pipeline's error is about reading its file, not about our code."""
    trace = error.__traceback__
    while trace is not None:
        if os.path.basename(trace.tb_frame.f_code.co_filename) in (
            "loading.py",
            "local_backend.py",
        ):
            return True
        trace = trace.tb_next
    return False


def check_image_file(path: str | None) -> None:
    """Refuse a missing, empty or truncated image file by looking at its two ends.

    Args:
        path: A local file; None and addresses of remote files are not looked at.

    Raises:
        SampleError: Says what is wrong with the file.
    """
    if path is None or "://" in path:
        return
    fault, _ = image_fault(path, fast=True)
    if fault is not None:
        raise SampleError(f"The image {path} cannot be read: {fault}.", _MEND)
