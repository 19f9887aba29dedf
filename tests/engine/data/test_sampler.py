"""Draw n depends on the seed and n: whoever asks, and from wherever one starts."""

import copy
import itertools
import os
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from pld_mmdet.engine.data import sampler as module
from pld_mmdet.engine.data import seeding
from pld_mmdet.engine.data.randomness import own_randomness, seed_everything
from pld_mmdet.engine.data.sampler import DrawIndex, ResumableSampler
from pld_mmdet.engine.data.seeding import SampleError, SeededDataset
from pld_mmdet.errors import UserError


def sampler(rank=0, world=1, size=10, monkeypatch=None, **arguments):
    if monkeypatch is not None:
        monkeypatch.setattr(module, "get_dist_info", lambda: (rank, world))
    return ResumableSampler(range(size), seed=5, **arguments)


def take(stream, number):
    return list(itertools.islice(iter(stream), number))


def test_each_pass_is_another_permutation():
    draws = take(sampler(), 30)
    passes = [draws[0:10], draws[10:20], draws[20:30]]
    assert all(sorted(p) == list(range(10)) for p in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [d.draw for d in draws] == list(range(30))


def test_skip_continues_the_stream():
    whole = take(sampler(), 40)
    later = sampler()
    later.skip(17)
    rest = take(later, 23)
    assert rest == whole[17:]
    assert [d.draw for d in rest] == [d.draw for d in whole[17:]]


def test_processes_share_one_order(monkeypatch):
    alone = take(sampler(size=7), 30)
    both = [take(sampler(r, 2, 7, monkeypatch), 15) for r in (0, 1)]
    assert [d for pair in zip(*both, strict=True) for d in pair] == alone
    part = sampler(1, 2, 7, monkeypatch)
    part.skip(4)
    assert take(part, 5) == both[1][4:9]


def test_finite_sampler_fills_up_and_follows_the_epoch(monkeypatch):
    halves = [sampler(r, 2, 7, monkeypatch, infinite=False) for r in (0, 1)]
    first = [list(h) for h in halves]
    assert [len(f) for f in first] == [4, 4] == [len(h) for h in halves]
    assert set(first[0] + first[1]) == set(range(7))
    for half in halves:
        half.set_epoch(1)
    second = [list(h) for h in halves]
    assert second != first
    numbers = sorted(d.draw for part in first + second for d in part)
    assert numbers == list(range(16))
    with pytest.raises(UserError, match="infinite=True"):
        halves[0].skip(3)


def test_everywhere_gives_each_process_all_of_it(monkeypatch):
    alone = list(sampler(size=7, infinite=False))
    second = sampler(1, 2, 7, monkeypatch, infinite=False, everywhere=True)
    assert list(second) == alone
    assert len(second) == 7


def test_empty_dataset_is_refused():
    with pytest.raises(UserError, match="empty data set"):
        ResumableSampler([])


def test_index_survives_pickling_and_copying():
    index = DrawIndex(3, 12, 5)
    for other in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert (other, other.draw, other.seed) == (3, 12, 5)
    assert [10, 11, 12, 13][index] == 13


class Noise:
    """Every sample draws from all three generators."""

    metainfo = {"classes": ("a",)}

    def __len__(self):
        return 10

    def __getitem__(self, index):
        numbers = [random.random(), np.random.rand(), torch.rand(1).item()]
        return torch.tensor([float(index), *numbers], dtype=torch.float64)


def batches(workers, seed=5):
    dataset = SeededDataset(Noise())
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        sampler=ResumableSampler(dataset, seed=seed),
    )
    return torch.stack(take(loader, 8))


def test_samples_do_not_depend_on_the_loader():
    seed_everything(1)
    first = batches(0)
    seed_everything(2)
    assert torch.equal(first, batches(2))
    assert not torch.equal(first, batches(0, seed=6))
    rows = first.reshape(-1, 4)
    assert len({tuple(r[1:].tolist()) for r in rows}) == 16  # no noise comes twice


def test_loading_leaves_the_generators_alone():
    dataset = SeededDataset(Noise())
    seed_everything(3)
    expected = (random.random(), np.random.rand(), torch.rand(1))
    seed_everything(3)
    dataset[DrawIndex(0, 0, 0)]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_generators_are_restored_after_an_error():
    seed_everything(3)
    expected = random.random()
    seed_everything(3)
    with pytest.raises(RuntimeError, match="inside"), own_randomness(4):
        raise RuntimeError("inside")
    assert random.random() == expected


def test_wrapper_is_the_dataset_for_everybody_else():
    dataset = SeededDataset(Noise())
    assert dataset.metainfo == {"classes": ("a",)}
    assert len(pickle.loads(pickle.dumps(dataset))) == 10
    assert not hasattr(dataset, "full_init")
    assert torch.equal(dataset[4], SeededDataset(Noise(), seed=0)[4])


def images(folder, spoil=None, suffix=".png"):
    import mmcv.transforms  # noqa: F401  (registers the loading transform)

    rng = np.random.RandomState(0)
    paths = [folder / f"{i}{suffix}" for i in range(4)]
    for path in paths:
        cv2.imwrite(str(path), rng.randint(0, 255, (32, 48, 3), np.uint8))
    if spoil is not None:
        spoil(paths[2])
    dataset = BaseDataset(
        lazy_init=True, serialize_data=False, pipeline=[{"type": "LoadImageFromFile"}]
    )
    dataset.data_list = [{"img_path": str(p)} for p in paths]
    dataset._fully_initialized = True
    return dataset


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "suffix", "words"),
    [
        (cut, ".png", "truncated"),
        (cut, ".jpg", "truncated"),
        (lambda p: p.write_bytes(b""), ".png", "empty file"),
        (lambda p: p.unlink(), ".png", "missing"),
        (fifo, ".png", "no plain file"),
        (lambda p: p.write_text("no image at all"), ".png", "cannot be read"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_image_is_named(tmp_path, spoil, suffix, words, workers):
    dataset = SeededDataset(images(tmp_path, spoil, suffix))
    assert dataset[1]["img"].shape == (32, 48, 3)
    loader = DataLoader(dataset, num_workers=workers, collate_fn=len)
    with pytest.raises(SampleError) as caught:
        list(loader)
    assert f"2{suffix}" in caught.value.what
    assert words in caught.value.what
    assert "\n" not in caught.value.what
    assert "check_data.py" in caught.value.fix
    assert "Traceback" not in caught.value.fix


def test_a_file_is_looked_at_once_and_a_broken_one_each_time(tmp_path, monkeypatch):
    """Two passes over four files, of which the third is truncated."""
    looked, look = [], seeding.check_image_file

    def counting(path):
        looked.append(path[-5])
        look(path)

    monkeypatch.setattr(seeding, "check_image_file", counting)
    dataset = SeededDataset(images(tmp_path, cut))
    for draw in range(2):
        for index in (1, 0, 3):
            dataset[DrawIndex(index, 4 * draw + index, 5)]
        with pytest.raises(SampleError, match="truncated"):
            dataset[DrawIndex(2, 4 * draw + 2, 5)]
    assert looked == ["1", "0", "3", "2", "2"]
    unlooked = SeededDataset(images(tmp_path), check_files=False)
    assert unlooked[2]["img"].shape == (32, 48, 3)
    assert len(looked) == 5


def test_errors_of_code_keep_their_trace():
    class Bug(Noise):
        def __getitem__(self, index):
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        SeededDataset(Bug())[0]
