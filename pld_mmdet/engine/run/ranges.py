"""Numbers of a batch that lie outside of what a network has: labels, tokens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from pld_mmdet.errors import UserError

# torch's words: cross_entropy, one_hot, embedding, gather; and any of them on a GPU.
_WORDS = ("out of bounds", "Class values must be", "index out of range", "device-side")


@contextmanager
def ranges_said(data: object) -> Iterator[None]:
    """An index error inside says which whole numbers the batch held.

    Args:
        data: The batch as the loader gave it: on a GPU that asserted nothing can be
            read any more.

    Raises:
        UserError: In the place of torch's error about an index.
    """
    try:
        yield
    except (IndexError, RuntimeError) as error:
        if isinstance(error, UserError) or not any(w in str(error) for w in _WORDS):
            raise
        held = _held(data)
        if not held:
            raise
        raise UserError(
            f"A number of the batch lies outside its range ({held}): "
            f"{str(error).splitlines()[0]}.",
            "Labels are 0 to K - 1 of a model of K classes (num_classes), tokens below "
            "its vocabulary, image numbers below num_samples: correct the data, or "
            "that number of the model.",
        ) from error


def _held(data: object) -> str:
    found = []
    for name, value in data.items() if isinstance(data, Mapping) else ():
        whole = isinstance(value, Tensor) and value.numel() and not value.is_cuda
        if whole and not value.is_floating_point() and not value.is_complex():
            found.append(f"{name} {int(value.min())} to {int(value.max())}")
    return ", ".join(found)
