"""Batches of one source each: passes over the first, now and then one over another."""

from collections.abc import Iterator

from pld_mmdet.engine.data.semi_sampler import SemiSampler
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class InTurnSampler(SemiSampler):
    """Passes over labelled images, and after every few of them one over the others.

    A cycle is a pass over the first source, one over the second, then ``every - 1``
    passes over the first: what a loop does that counts epochs from 0 and looks at the
    second source in those that ``every`` divides. All processes are in the same pass;
    one ends with a whole batch, filled from the next order of its images.

    Args:
        dataset: mmengine's ``ConcatDataset`` or ``pld_mmdet.LabelledAndNot`` (two
            sources), or a ``SeededDataset`` around it.
        batch_size: Images of a batch per process. Must be that of the data loader.
        every: Passes over the first source in a cycle, with one over the second.
        seed: Seed of the order; mmengine passes the run's seed.

    Raises:
        UserError: ``every`` is below 1, or what ``SemiSampler`` refuses.
    """

    def __init__(
        self, dataset, batch_size: int, every: int = 10, seed: int | None = None
    ) -> None:
        if every < 1:
            raise UserError(f"InTurnSampler: every={every}.", "Choose 1 or more.")
        super().__init__(dataset, batch_size, (1, 1), by_aspect=False, seed=seed)
        self.every = every

    def place(self, turn: int) -> tuple[int, int]:
        """Source of a step, and how many steps looked at that source before.

        Args:
            turn: Number of the step.
        """
        together = self.batch_size * self.world_size
        first, second = (
            -(-len(of_source[0]) // together) for of_source in self._members
        )
        cycle, rest = divmod(turn, self.every * first + second)
        if first <= rest < first + second:
            return 1, cycle * second + rest - first
        rest -= second if rest >= first else 0
        return 0, cycle * self.every * first + rest

    def _batches(self, first: int, step: int) -> Iterator[list[int]]:
        orders: dict = {}
        while True:
            turn, process = divmod(first, step)
            source, done = self.place(turn)
            start = (done * step + process) * self.batch_size
            yield [
                self._draw(source, 0, start + k, orders) for k in range(self.batch_size)
            ]
            first += step
