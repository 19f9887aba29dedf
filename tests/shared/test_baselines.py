"""Trivial rivals: by hand where a number can be, scored by the config's evaluator."""

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import Dataset

from pld_mmdet.engine.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.baselines import encode, evaluate, logistic, word_counts


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


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match="no baseline 'magic'"):
        evaluate(config(), "magic")
    with pytest.raises(UserError, match="unexpected keyword argument 'depth'"):
        evaluate(config(), dict(type="raw_input", depth=3))
    with pytest.raises(UserError, match="has no stages"):
        evaluate(config(), dict(type="raw_input", train="stages.0.dataset"))
    with pytest.raises(UserError, match=r"no function json\.nothing"):
        evaluate(config(), dict(type="raw_input", features="json.nothing"))
