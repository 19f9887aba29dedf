"""Labelled and unlabelled images in one batch: no hang, no overrun, counted draws."""

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest

from pld_mmdet.engine.data import semi_sampler as module
from pld_mmdet.engine.data.semi_sampler import SemiSampler
from pld_mmdet.errors import UserError


def sources(*orientations: str):
    """A concatenated data set; ``'wwh'`` is a source of two wide images and a high."""
    flat = "".join(orientations)
    return SimpleNamespace(
        datasets=list(orientations),
        get_data_info=lambda i: dict(width=2 if flat[i] == "w" else 1, height=1.5),
    )


def batches(sampler, number):
    draws = list(itertools.islice(iter(sampler), number * sampler.batch_size))
    return [
        draws[i : i + sampler.batch_size]
        for i in range(0, len(draws), sampler.batch_size)
    ]


def make(*orientations, batch_size=5, **kwargs):
    return SemiSampler(
        sources(*orientations), batch_size=batch_size, **{"seed": 3, **kwargs}
    )


@pytest.mark.parametrize(
    ("ratio", "size", "expected"),
    [
        ((1, 4), 5, [1, 4]),
        ((1, 1), 8, [4, 4]),
        ((1, 3), 4, [1, 3]),
        ((1, 4), 2, [1, 1]),
        ((1, 9), 4, [1, 3]),
        ((3, 1), 5, [4, 1]),
    ],
)
def test_fixed_split(ratio, size, expected):
    sampler = make("w" * 9, "w" * 9, batch_size=size, source_ratio=ratio)
    assert sampler.fixed_split().tolist() == expected
    for batch in batches(sampler, 20):
        assert [sum(i < 9 for i in batch), sum(i >= 9 for i in batch)] == expected


def test_random_split_is_binomial_with_one_of_each_at_least():
    sampler = make("w" * 50, "w" * 50, split="random", batch_size=5)
    labelled = [sum(i < 50 for i in batch) for batch in batches(sampler, 4000)]
    assert min(labelled) == 1
    assert max(labelled) == 4
    count = Counter(labelled)
    # binomial(5, .2): 0 and 1 (.7373), 2 (.2048), 3 (.0512), 4 and 5 (.0067)
    for value, share in {1: 0.7373, 2: 0.2048, 3: 0.0512, 4: 0.0067}.items():
        assert abs(count[value] / 4000 - share) < 0.025


def test_every_source_is_passed_through_before_it_repeats():
    sampler = make("w" * 7, "w" * 12)
    draws = list(itertools.chain(*batches(sampler, 21)))
    labelled = [i for i in draws if i < 7]
    unlabelled = [i for i in draws if i >= 7]
    for images, size in ((labelled, 7), (unlabelled, 12)):
        turns = [images[n : n + size] for n in range(0, len(images) - size + 1, size)]
        assert len(turns) >= 3
        assert all(len(set(turn)) == size for turn in turns)
        assert turns[0] != turns[1]


def test_a_batch_has_one_orientation():
    sampler = make("wh" * 10, "whh" * 10)
    flat = "wh" * 10 + "whh" * 10
    kinds = [{flat[i] for i in batch} for batch in batches(sampler, 200)]
    assert all(len(kind) == 1 for kind in kinds)
    share = sum(kind == {"w"} for kind in kinds) / 200
    assert abs(share - 0.4) < 0.1  # 20 of 50 images are wide


@pytest.mark.parametrize("labelled", ["w", "ww", "h"])
@pytest.mark.parametrize("split", ["fixed", "random"])
def test_an_orientation_that_a_source_lacks_does_not_hang(labelled, split):
    sampler = make(labelled, "w" * 5 + "h" * 20, split=split, batch_size=8)
    for batch in batches(sampler, 100):
        assert len(batch) == 8
        own = [i for i in batch if i < len(labelled)]
        assert 1 <= len(own) <= 7


def test_one_labelled_image_comes_in_every_batch_under_other_draws():
    got = batches(make("w", "w" * 9, source_ratio=(1, 1), batch_size=4), 10)
    assert all(sum(i == 0 for i in batch) == 2 for batch in got)
    numbers = [i.draw for i in itertools.chain(*got)]
    assert numbers == list(range(40))  # so each copy is augmented differently


@pytest.mark.parametrize("split", ["fixed", "random"])
@pytest.mark.parametrize("skipped", [1, 7, 1024, 2500])
def test_skip_continues_the_stream(split, skipped, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 64)
    whole = batches(make("wh" * 3, "wwh" * 5, split=split), skipped + 20)
    later = make("wh" * 3, "wwh" * 5, split=split)
    later.skip(skipped * 5)
    rest = batches(later, 20)
    assert rest == whole[skipped:]
    assert [[i.draw for i in b] for b in rest] == [
        [i.draw for i in b] for b in whole[skipped:]
    ]


def test_processes_share_one_order(monkeypatch):
    alone = batches(make("wh" * 3, "wwh" * 5), 30)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(module, "get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(batches(make("wh" * 3, "wwh" * 5), 15))
    assert [b for pair in zip(*parts, strict=True) for b in pair] == alone
    part = make("wh" * 3, "wwh" * 5)  # rank 1 of 2
    part.skip(20)
    assert batches(part, 3) == parts[1][4:7]


def test_finite_sampler_ends_and_follows_the_epoch():
    sampler = make("w" * 3, "w" * 13, infinite=False)
    first = list(sampler)
    assert len(first) == len(sampler) == 20  # 16 images in batches of 5
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert [i.draw for i in first + second] == list(range(40))
    endless = make("w" * 3, "w" * 13)
    assert first + second == list(itertools.islice(iter(endless), 40))
    with pytest.raises(UserError, match="infinite=True"):
        sampler.skip(5)


def test_bad_input_is_named():
    with pytest.raises(UserError, match="number 0 of 2 is empty"):
        make("", "ww")
    with pytest.raises(UserError, match="no room"):
        make("w", "w", batch_size=1)
    with pytest.raises(UserError, match="ConcatDataset of 2"):
        SemiSampler([1, 2, 3], batch_size=4)
    with pytest.raises(UserError, match="split='some'"):
        make("w", "w", split="some")
    with pytest.raises(UserError, match="no whole batches of 5"):
        make("w", "w").skip(3)
    bare = SimpleNamespace(
        datasets=["a", "b"], get_data_info=lambda i: dict(img_path="a.png")
    )
    with pytest.raises(UserError, match=r"a\.png has none"):
        SemiSampler(bare, batch_size=2, seed=0)
    assert (
        len(batches(SemiSampler(bare, batch_size=2, seed=0, by_aspect=False), 3)) == 3
    )
