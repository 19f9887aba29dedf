"""Randomness that is counted, not stored: seeds are functions of (seed, counter)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info


def seed_everything(*counters: int) -> None:
    """Seed random, numpy and torch (all devices) from a tuple of counters.

    Args:
        counters: Non-negative numbers, such as (run seed, iteration, rank). Different
            tuples give independent streams.
    """
    words = np.random.SeedSequence(counters).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    torch.manual_seed(int(words[4]) << 31 | int(words[5]) >> 1)


@contextmanager
def own_randomness(*counters: int) -> Iterator[None]:
    """Seed from counters inside the block and restore all CPU states after it.

    A loader process has no states worth restoring, and saving them is a good part of
    the cost: there the streams are only seeded.

    Args:
        counters: As in :func:`seed_everything`.
    """
    in_worker = get_worker_info() is not None
    if not in_worker:
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(counters).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    # the default generator alone: torch.manual_seed would also reseed the GPUs
    torch.default_generator.manual_seed(int(words[4]) << 31 | int(words[5]) >> 1)
    try:
        yield
    finally:
        if not in_worker:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
