"""Trivial rivals: by hand where a number can be, scored by the config's evaluator."""

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from torch import nn
from torch.utils.data import Dataset

from pld_mmdet.engine.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from pld_mmdet.shared.baselines import (
    encode,
    evaluate,
    logistic,
    pixel_features,
    word_counts,
)


@DATASETS.register_module(force=True)
class TwoBlobs(Dataset):
    """Points about -2 and 2, ten of each; of the far ones every fifth label is off."""

    metainfo = {"classes": ("left", "right")}

    def __init__(self, seed=0, subsets=0, key="inputs", hidden=0):
        dice = torch.Generator().manual_seed(seed)
        self.targets = torch.arange(20) % 2
        noise = 0.3 * torch.randn(20, 2, generator=dice)
        self.points = noise + 4.0 * self.targets[:, None] - 2.0
        self.subsets, self.key, self.hidden = subsets, key, hidden

    def __len__(self):
        return 20

    def __getitem__(self, index):
        target = torch.tensor(-1) if index < self.hidden else self.targets[index]
        sample = {self.key: self.points[index], "targets": target}
        if self.subsets:
            sample["subset"] = index * self.subsets // 20
        return sample


@MODELS.register_module(force=True)
class Tilted(Method):
    """Answers by one random direction."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2))

    def loss(self, **batch):
        raise NotImplementedError

    def predict(self, inputs, targets):
        logits = torch.stack([-inputs @ self.weight, inputs @ self.weight], 1)
        return [{"logits": logits, "targets": targets}]


@MODELS.register_module(force=True)
class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 6)

    def features(self, x):
        return self.layer(x)


def config(train=None, test=None, **more):
    metric = dict(type="pld_mmdet.ClassificationMetric")
    return Config(
        dict(
            train_dataloader=dict(
                dataset=dict(type="pld_mmdet.TwoBlobs", **(train or {}))
            ),
            test_dataloader=dict(
                batch_size=7,
                collate_fn=dict(type="default_collate"),
                dataset=dict(type="pld_mmdet.TwoBlobs", seed=1, **(test or {})),
            ),
            test_evaluator=metric,
            **more,
        )
    )


def test_raw_input_reads_what_is_linear():
    found = evaluate(config(), "raw_input")
    assert found["accuracy"] == 1.0
    assert found["balanced_accuracy"] == 1.0
    few = evaluate(config(train=dict(hidden=17)), dict(type="raw_input", c=0.1))
    assert few["accuracy"] == 1.0  # three labels are left
    assert few["nll"] > found["nll"]
    with pytest.raises(UserError, match="labels of two classes"):
        evaluate(config(train=dict(hidden=19)), "raw_input")


def test_each_subset_has_a_reader_of_its_own():
    whole = evaluate(config(), "raw_input")
    parts = evaluate(config(train=dict(subsets=5)), "raw_input")
    assert parts["accuracy"] == 1.0
    assert parts["nll"] > 1.5 * whole["nll"]  # of four labels each


def test_logistic_regression_has_the_closed_form_of_one_feature():
    # C large: log odds of two groups of 4 with 1 and 3 right, at x = 0 and 1
    x = torch.tensor([[0.0]] * 4 + [[1.0]] * 4)
    y = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0])
    odds = logistic(x, y, torch.tensor([[0.0], [1.0]]), c=1e6).diff(dim=1).flatten()
    assert odds.tolist() == pytest.approx([-1.0986, 1.0986], abs=2e-3)
    missing = logistic(x, 2 * y, x)  # label 1 never occurs
    assert missing.shape == (8, 3)
    assert missing[:, 1].max() <= -1e8
    scaled = logistic(100 * x + 5, y, 100 * x + 5, standardise=True)
    assert torch.allclose(scaled, logistic(x, y, x, standardise=True), atol=1e-5)


def test_more_features_than_samples_change_no_answer():
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(4)
    x, asked, y = torch.rand(9, 30), torch.rand(5, 30), torch.arange(9) % 3
    direct = LogisticRegression(C=0.7, tol=1e-9, max_iter=5000).fit(x.numpy(), y)
    expected = torch.from_numpy(direct.predict_log_proba(asked.numpy())).float()
    assert torch.allclose(logistic(x, y, asked, c=0.7), expected, atol=2e-3)


def test_words_are_counted_where_the_mask_is():
    ids = torch.tensor([[1, 1, 3], [2, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert word_counts(ids, mask, 4).tolist() == [[0, 2, 0, 1], [0, 0, 1, 0]]
    assert word_counts(ids, None, 4)[1].tolist() == [2, 0, 1, 0]


def test_order_is_lost_on_a_bag_of_words(monkeypatch):
    class Sentences(TwoBlobs):
        def __getitem__(self, index):
            label = int(self.targets[index])
            words = torch.tensor([3, 5] if label else [5, 3])
            return {"input_ids": words, "targets": self.targets[index]}

    monkeypatch.setitem(DATASETS.module_dict, "TwoBlobs", Sentences)
    found = evaluate(config(), "bag_of_words")
    assert found["accuracy"] == 0.5


def test_kmeans_finds_two_blobs_without_labels():
    cfg = config(test=dict(key="view"))
    cfg.test_evaluator = dict(type="pld_mmdet.ClusterMetric")
    found = evaluate(cfg, dict(type="kmeans", clusters=2, key="view"))
    assert found["accuracy"] == 1.0


def test_an_untrained_model_answers_by_its_random_weights():
    cfg = config(model=dict(type="pld_mmdet.Tilted"))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    scores = {evaluate(cfg, "untrained", seed)["nll"] for seed in range(6)}
    assert len(scores) == 6
    assert evaluate(cfg, "untrained", 3) == evaluate(cfg, "untrained", 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_features_are_read_by_the_same_labels():
    cfg = config(model=dict(student=dict(type="pld_mmdet.Halves")))
    rival = dict(type="random_weights", network="model.student")
    assert evaluate(cfg, rival, 1)["accuracy"] == 1.0
    encoder = Halves()
    inputs = torch.randn(9, 2)
    assert torch.allclose(encode(encoder, inputs, batch=4), encoder.features(inputs))


def test_the_probe_of_the_config_reads_raw_features():
    cfg = config()
    cfg.test_evaluator = dict(type="pld_mmdet.LinearProbeMetric", folds=3)
    assert evaluate(cfg, "raw_features")["accuracy"] == 1.0


@DATASETS.register_module(force=True)
class Scenes(Dataset):
    """Sky above ground, 2 x 3, a red thing elsewhere in each; later ones darker."""

    metainfo = {"classes": ("sky", "ground", "thing")}

    def __init__(self, pipeline=(), scenes=2, first=0):
        self.pipeline = [TRANSFORMS.build(one) for one in pipeline]
        self.scenes, self.first = scenes, first

    def __len__(self):
        return self.scenes

    def __getitem__(self, index):
        image = torch.full((3, 2, 3), 100.0 - index)
        targets = torch.tensor([[0, 0, 0], [1, 1, 1]])
        row, column = ((1, 0), (0, 2), (1, 1))[(index + self.first) % 3]
        image[0, row, column], targets[row, column] = 250.0, 2
        sample = {"inputs": image, "targets": targets}
        for transform in self.pipeline:
            sample = transform(sample)
        return sample


@TRANSFORMS.register_module(force=True)
class Unlabelled:
    """Nothing but the first row, or no pixel, keeps its label."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, sample):
        sample["targets"][self.rows :] = 254
        return sample


@TRANSFORMS.register_module(force=True)
class Whole:
    def __call__(self, sample):
        return sample


@METRICS.register_module(force=True)
class Kept(BaseMetric):
    """All that was told, as it came."""

    default_prefix = None

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {"told": results}


def told(dataset, baseline, seed=0, **more):
    cfg = Config(
        dict(
            test_dataloader=dict(dataset=dataset),
            test_evaluator=dict(type="pld_mmdet.Kept"),
            **more,
        )
    )
    return evaluate(cfg, baseline, seed)["told"]


def scenes(**more):
    return dict(
        type="pld_mmdet.Scenes", pipeline=[dict(type="pld_mmdet.Whole")], **more
    )


def test_a_pixel_is_its_colour_and_its_place():
    image = torch.arange(4.0).view(1, 2, 2).repeat(2, 1, 1) + torch.tensor(
        [0, 9.0]
    ).view(2, 1, 1)
    assert pixel_features(image).tolist() == [
        [0, 9, 0.25, 0.25],
        [1, 10, 0.25, 0.75],
        [2, 11, 0.75, 0.25],
        [3, 12, 0.75, 0.75],
    ]


def test_pixels_are_read_by_their_colour_and_their_place():
    train = dict(dataset=dict(dataset=scenes(scenes=3)))
    rival = dict(type="pixelwise", c=1e4)
    found = told(scenes(first=1), rival, train_dataloader=train)
    assert [one["predictions"].tolist() for one in found] == [
        [[[0, 0, 2], [1, 1, 1]]],
        [[[0, 0, 0], [1, 2, 1]]],
    ]
    for one in found:
        assert torch.equal(one["predictions"], one["targets"])


def test_pixels_without_a_label_teach_nothing():
    train = dict(dataset=dict(dataset=scenes()))
    thin = dict(type="pld_mmdet.Unlabelled", rows=0)
    with pytest.raises(UserError, match="labels of two classes"):
        told(scenes(), dict(type="pixelwise", thin=thin), train_dataloader=train)
    train = dict(dataset=dict(dataset=scenes(scenes=0)))
    with pytest.raises(UserError, match="labels of two classes"):
        told(scenes(), "pixelwise", train_dataloader=train)
    # sky and the thing, no ground: 254 is no class
    thin["rows"] = 1
    train = dict(dataset=dict(dataset=scenes(first=1)))
    found = told(scenes(), dict(type="pixelwise", thin=thin), train_dataloader=train)
    assert set(found[0]["predictions"].unique().tolist()) <= {0, 2}


def test_so_many_pixels_of_each_image_by_the_seed(monkeypatch):
    from pld_mmdet.shared import baselines

    seen = []

    def fitted(inputs, targets, *_, **__):
        seen.append((inputs, targets))
        return lambda asked: torch.zeros(len(asked), 3)

    monkeypatch.setattr(baselines, "fitted", fitted)
    train = dict(dataset=dict(dataset=scenes(scenes=3)))
    for seed in (4, 4, 5):
        rival = dict(type="pixelwise", pixels=7)
        told(scenes(), rival, seed, train_dataloader=train)
    inputs = seen[0][0]
    assert inputs[:, 1].tolist() == [100.0] * 3 + [99.0] * 3 + [98.0] * 3  # 7 / 3, up
    assert torch.equal(inputs, seen[1][0])
    assert not torch.equal(inputs, seen[2][0])


def test_bicubic_keeps_what_is_flat_and_loses_what_is_fine():
    images = torch.full((2, 1, 8, 8), 0.3)
    images[1, :, :, ::2] = 0.9

    class Images(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"inputs": images[index]}

    DATASETS.register_module(module=Images, force=True)
    found = told(dict(type="pld_mmdet.Images"), dict(type="bicubic", scale=4))[0]
    assert torch.equal(found["references"], images)
    flat = torch.full((1, 8, 8), 0.3), torch.full((1, 8, 8), 0.6)
    assert torch.allclose(found["samples"], torch.stack(flat), atol=1e-6)


def test_true_labels_are_said_again_by_their_subject(monkeypatch):
    class Lines(Dataset):
        def __init__(self, lines):
            self.lines = lines

        def __len__(self):
            return len(self.lines)

        def __getitem__(self, index):
            return dict(self.lines[index])

    DATASETS.register_module(module=Lines, force=True)
    known = [
        dict(text="a birds fly", targets=1),
        dict(text="a cats fly", targets=0),
        dict(text="some fowl sing", targets=1),
        dict(text="a birdsong ends", targets=1),
    ]
    asked = [
        dict(text="all birds", concept="birds fowl"),
        dict(text="all cats", concept="cats felines"),
    ]
    rival = dict(type="repeated", train="labels")
    labels = dict(type="pld_mmdet.Lines", lines=known)
    prompts = dict(type="pld_mmdet.Lines", lines=asked)
    texts = [told(prompts, rival, s, labels=labels)[0]["texts"] for s in range(9)]
    assert {one for one, _ in texts} == {"a birds fly", "some fowl sing"}
    assert {two for _, two in texts} == {"all cats"}  # its only label is false
    nothing = dict(type="pld_mmdet.Lines", lines=[])
    assert told(prompts, rival, labels=nothing)[0]["texts"] == ["all birds", "all cats"]


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match="no baseline 'magic'"):
        evaluate(config(), "magic")
    with pytest.raises(UserError, match="unexpected keyword argument 'depth'"):
        evaluate(config(), dict(type="raw_input", depth=3))
    with pytest.raises(UserError, match="has no stages"):
        evaluate(config(), dict(type="raw_input", train="stages.0.dataset"))
    with pytest.raises(UserError, match=r"no function json\.nothing"):
        evaluate(config(), dict(type="raw_input", features="json.nothing"))
