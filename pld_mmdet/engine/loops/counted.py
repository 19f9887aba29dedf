"""What the loops that mmengine lacks have in common."""

from mmengine.runner.base_loop import BaseLoop


class CountedLoop(BaseLoop):
    """A loop whose place is one number: one epoch, counted in iterations.

    A subclass moves ``_iter``, sets ``_max_iters``, and sets ``_epoch`` to 1 at its
    end. What an iteration is, it says itself.
    """

    max_epochs = 1
    val_begin = 1
    stop_training = False
    _iter = _epoch = _max_iters = 0

    @property
    def iter(self) -> int:
        """Iterations that are done."""
        return self._iter

    @property
    def epoch(self) -> int:
        """0 until the end."""
        return self._epoch

    @property
    def max_iters(self) -> int:
        """Iterations of the whole run."""
        return self._max_iters
