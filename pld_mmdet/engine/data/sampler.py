"""A sampler whose n-th draw depends on the seed and on n alone."""

from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATA_SAMPLERS


class DrawIndex(int):
    """A data set index that remembers which draw of the run it is.

    Args:
        index: Position in the data set; behaves as this number.
        draw: Number of the draw over the whole run and all processes.
        seed: Seed of the run.
    """

    draw: int
    seed: int

    def __new__(cls, index: int, draw: int, seed: int) -> "DrawIndex":
        """Make the index and attach its draw number."""
        self = super().__new__(cls, index)
        self.draw = draw
        self.seed = seed
        return self

    def __reduce__(self):
        return type(self), (int(self), self.draw, self.seed)


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Draws permutations of a data set; draw n is a function of seed and n only.

    Process r of w takes the draws r, r + w, r + 2w, ...; so the order over all
    processes does not depend on their number, and continuing a run means to start
    counting at another number: nothing has to be stored.

    Args:
        dataset: Anything with a length.
        shuffle: Permute each pass anew, or count through.
        seed: Seed of the permutations; mmengine passes the run's seed.
        infinite: True: an endless stream for loops that count iterations. False: one
            pass per epoch, filled up so that all processes get the same number.
        everywhere: Each process draws all indices instead of its share: for offline
            work that one process does alone.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        infinite: bool = True,
        everywhere: bool = False,
    ) -> None:
        self.rank, self.world_size = (0, 1) if everywhere else get_dist_info()
        self.size = len(dataset)
        if self.size == 0:
            raise UserError(
                f"ResumableSampler was given an empty data set "
                f"({type(dataset).__name__}).",
                "Check its data_root, ann_file and filters.",
            )
        self.shuffle = shuffle
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.infinite = infinite
        self.epoch = 0
        self._skipped = 0
        self._first = 0

    @property
    def _per_pass(self) -> int:
        """Draws per process and pass, filled up to equal numbers."""
        return -(-self.size // self.world_size)

    def _order(self, number: int) -> list[int]:
        """Order of pass ``number``."""
        if not self.shuffle:
            return list(range(self.size))
        words = np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)
        generator = torch.Generator()
        generator.manual_seed(int(words[0] >> np.uint64(1)))
        return torch.randperm(self.size, generator=generator).tolist()

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this process's indices from the current position."""
        if self.infinite:
            yield from self._stream()
            return
        length = self._per_pass * self.world_size
        order = self._order(self.epoch)
        for place in range(self.rank, length, self.world_size):
            draw = self.epoch * length + place
            yield DrawIndex(order[place % self.size], draw, self.seed)

    def _stream(self) -> Iterator[DrawIndex]:
        draw = self._first + self.rank + self._skipped * self.world_size
        number = None
        while True:
            if draw // self.size != number:
                number = draw // self.size
                order = self._order(number)
            yield DrawIndex(order[draw % self.size], draw, self.seed)
            draw += self.world_size

    def __len__(self) -> int:
        """Indices per epoch of this process."""
        return self.size if self.infinite else self._per_pass

    def skip(self, num_samples: int) -> None:
        """Start as if ``num_samples`` indices had been taken by this process.

        Args:
            num_samples: Counted from the start of the stream.

        Raises:
            UserError: For a finite sampler, whose passes are chosen by the epoch.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative, got {num_samples}")
        if not self.infinite:
            raise UserError(
                "A loop that counts iterations cannot resume in a sampler that counts "
                "epochs.",
                "Set train_dataloader.sampler.infinite=True.",
            )
        self._skipped = num_samples

    def taken(self, skipped: int) -> int:
        """Draws that all processes have taken when this one has taken ``skipped``."""
        return self._first + skipped * self.world_size

    def go_on_at(self, draw: int, skipped: int) -> None:
        """Continue a stream that another number of processes began.

        Args:
            draw: Draws that they have taken.
            skipped: What :meth:`skip` will be called with, or was.
        """
        self._first = draw - skipped * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iteration yields (finite sampler only)."""
        self.epoch = epoch
