"""Batches of labelled and unlabelled images; batch n depends on seed and n alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATA_SAMPLERS

_PLAN, _ORDER = 11, 12  # random streams
_BLOCK = 1024  # batches that are planned at once


@DATA_SAMPLERS.register_module()
class SemiSampler(Sampler):
    """Fills every batch from all sources of a concatenated data set.

    A batch has one orientation (wide or high images), drawn in proportion to the
    images, so that little is padded. Each source, per orientation, is passed through in
    random order and again from the start: a source of one image gives that image every
    time. A source without an image of a batch's orientation gives one of another:
    the batch is padded more, and nothing waits for an image that does not exist.
    Unlike mmdet's ``GroupMultiSourceSampler`` it can neither hang nor, with
    ``infinite=False``, overrun an epoch.

    Process r of w takes the batches r, r + w, ...; continuing a run means to start
    counting at another batch.

    Args:
        dataset: mmengine's ``ConcatDataset`` (labelled, unlabelled), or a
            ``SeededDataset`` around it.
        batch_size: Images of a batch per process. Must be that of the data loader.
        source_ratio: Shares of the sources in a batch, e.g. [1, 4].
        split: ``'fixed'``: the shares, rounded, in each batch (mmdet's port).
            ``'random'``: each image's source is drawn by the shares, and every source
            has one image at least (Soft Teacher's and dual polishing's releases).
        by_aspect: Keep orientations apart; needs ``width`` and ``height`` of each
            image. False for images of one size.
        seed: Seed of the order; mmengine passes the run's seed.
        infinite: True: an endless stream for loops that count iterations. False: one
            epoch, as many batches as the images of all sources fill.

    Raises:
        UserError: A source is empty, or a batch has no room for all sources.
    """

    def __init__(
        self,
        dataset,
        batch_size: int,
        source_ratio: Sequence[float] = (1, 4),
        split: str = "fixed",
        by_aspect: bool = True,
        seed: int | None = None,
        infinite: bool = True,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        sources = getattr(dataset, "datasets", None)
        if sources is None or len(sources) != len(source_ratio):
            raise UserError(
                f"SemiSampler: source_ratio={list(source_ratio)} wants a ConcatDataset "
                f"of {len(source_ratio)} data sets, labelled and unlabelled.",
                "Set train_dataloader.dataset to ConcatDataset(datasets=[labelled, "
                "unlabelled]).",
            )
        sizes = [len(source) for source in sources]
        if min(sizes) == 0:
            raise UserError(
                f"SemiSampler: data set number {sizes.index(0)} of {len(sizes)} is "
                "empty.",
                "Check its ann_file and filter_cfg; tools/check_data.py counts images.",
            )
        if split not in ("fixed", "random") or min(source_ratio) <= 0:
            raise UserError(
                f"SemiSampler: split={split!r}, source_ratio={list(source_ratio)}.",
                "split is 'fixed' or 'random', and every share is above 0.",
            )
        if batch_size < len(sizes):
            raise UserError(
                f"SemiSampler: a batch of {batch_size} has no room for one image of "
                f"each of {len(sizes)} sources.",
                "Set batch_size of the sampler and of the loader to 2 or more.",
            )
        self.batch_size = batch_size
        self.shares = np.array(source_ratio, float) / sum(source_ratio)
        self.split = split
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.infinite = infinite
        self.size = sum(sizes)
        self.epoch = 0
        self._skipped = 0  # batches of this process
        self._first = 0  # batches before the first one
        wide = _orientations(dataset, self.size) if by_aspect else np.zeros(self.size)
        self._group_shares = np.bincount(wide.astype(int), minlength=2) / self.size
        ends = np.cumsum(sizes)
        # members[source][group]: indices of images
        self._members = [
            [np.flatnonzero(wide[a:b] == group) + a for group in (0, 1)]
            for a, b in zip([0, *ends[:-1]], ends, strict=True)
        ]

    def fixed_split(self) -> np.ndarray:
        """Images of each source in a batch: the shares, rounded, one at least."""
        counts = np.maximum(1, np.floor(self.shares * self.batch_size)).astype(int)
        while counts.sum() < self.batch_size:
            counts[np.argmax(self.shares * self.batch_size - counts)] += 1
        while counts.sum() > self.batch_size:
            counts[np.argmax(counts)] -= 1
        return counts

    def _plan(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Orientation [B] and images of each source [B, S] of a block of batches."""
        generator = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence((self.seed, _PLAN, block)))
        )
        groups = generator.choice(2, _BLOCK, p=self._group_shares)
        if self.split == "fixed":
            return groups, np.tile(self.fixed_split(), (_BLOCK, 1))
        counts = generator.multinomial(self.batch_size, self.shares, _BLOCK)
        for number in np.flatnonzero((counts == 0).any(1)):
            row = counts[number]  # a view
            while (row == 0).any():
                row[np.argmax(row)] -= 1
                row[np.argmin(row)] += 1
        return groups, counts

    def _batches(self, first: int, step: int) -> Iterator[list[int]]:
        """Contents of the batches first, first + step, ... of the whole run."""
        sources = len(self._members)
        taken = np.zeros((sources, 2), int)  # images drawn so far
        orders: dict[tuple[int, int], tuple[int, np.ndarray]] = {}
        number, block = 0, -1
        while True:
            if number // _BLOCK != block:
                block = number // _BLOCK
                groups, counts = self._plan(block)
                if number + _BLOCK <= first:  # count a whole block at once
                    for source in range(sources):
                        drawn = np.array([self._pool(source, g) for g in (0, 1)])
                        np.add.at(taken[source], drawn[groups], counts[:, source])
                    number += _BLOCK
                    continue
            group, row = groups[number % _BLOCK], counts[number % _BLOCK]
            wanted = number >= first and (number - first) % step == 0
            batch: list[int] = []
            for source, count in enumerate(row):
                pool = self._pool(source, group)
                if wanted:
                    start = taken[source, pool]
                    batch += [
                        self._draw(source, pool, start + k, orders)
                        for k in range(count)
                    ]
                taken[source, pool] += count
            if wanted:
                yield batch
            number += 1

    def _pool(self, source: int, group: int) -> int:
        """The orientation itself, or the other one where the source has none."""
        return group if len(self._members[source][group]) else 1 - group

    def _draw(self, source: int, pool: int, number: int, orders: dict) -> int:
        """Image of draw ``number`` from a pool: a new permutation each pass."""
        members = self._members[source][pool]
        turn, place = divmod(int(number), len(members))
        known = orders.get((source, pool))
        if known is None or known[0] != turn:
            seed = np.random.SeedSequence((self.seed, _ORDER, source, pool, turn))
            order = np.random.Generator(np.random.PCG64(seed)).permutation(len(members))
            known = orders[source, pool] = (turn, order)
        return int(members[known[1][place]])

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one process in an epoch; the last one is filled up."""
        return -(-self.size // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this process's indices, batch by batch, from the current position."""
        done = self._skipped
        if not self.infinite:
            done = self.epoch * self.batches_per_epoch
        start = self._first + self.rank + done * self.world_size
        batches = self._batches(start, self.world_size)
        last = None if self.infinite else done + self.batches_per_epoch
        for batch in batches:
            number = start * self.batch_size
            start += self.world_size
            for place, index in enumerate(batch):
                yield DrawIndex(index, number + place, self.seed)
            done += 1
            if done == last:
                return

    def __len__(self) -> int:
        """Indices per epoch of this process."""
        return self.batches_per_epoch * self.batch_size

    def skip(self, num_samples: int) -> None:
        """Start as if ``num_samples`` indices had been taken by this process.

        Args:
            num_samples: Counted from the start of the stream; whole batches.

        Raises:
            UserError: For a finite sampler, whose batches are chosen by the epoch, or
                if the loader's batches are not the sampler's.
        """
        if not self.infinite:
            raise UserError(
                "A loop that counts iterations cannot resume in a sampler that counts "
                "epochs.",
                "Set train_dataloader.sampler.infinite=True.",
            )
        self._skipped, rest = divmod(num_samples, self.batch_size)
        if rest or num_samples < 0:
            raise UserError(
                f"SemiSampler: {num_samples} images are no whole batches of "
                f"{self.batch_size}.",
                "Give the sampler and the loader the same batch_size.",
            )

    def taken(self, skipped: int) -> int:
        """Images that all processes have taken when this one has taken ``skipped``."""
        batches = skipped // self.batch_size * self.world_size
        return (self._first + batches) * self.batch_size

    def go_on_at(self, draw: int, skipped: int) -> None:
        """Continue a stream that another number of processes began.

        With another batch size the batches are others too; then the stream goes on at
        the batch that as many images fill.

        Args:
            draw: Images that they have taken.
            skipped: What :meth:`skip` will be called with, or was.
        """
        taken = -(-draw // self.batch_size)
        self._first = taken - skipped // self.batch_size * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields (finite sampler only)."""
        self.epoch = epoch


def _orientations(dataset, size: int) -> np.ndarray:
    """1 for wide (or square) images, 0 for high ones."""
    wide = np.zeros(size, int)
    for index in range(size):
        info = dataset.get_data_info(index)
        if "width" not in info or "height" not in info:
            raise UserError(
                "SemiSampler: by_aspect=True needs width and height of each image, and "
                f"{info.get('img_path', f'image {index}')} has none.",
                "Set by_aspect=False, or use annotation files with image sizes.",
            )
        wide[index] = info["width"] >= info["height"]
    return wide
