"""Trivial rivals: by hand where a number can be, scored by the config's evaluator."""

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import Dataset

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.baselines import evaluate
from pld_mmdet.shared.readers import (
    Counted,
    encode,
    fitted,
    logistic,
    word_counts,
)
from tests.shared.told import listed, told


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


def test_of_a_data_set_only_its_labelled_part_is_read():
    right = [dict(inputs=[x], targets=int(x > 0)) for x in (-2.0, 1.0)]
    wrong = [dict(inputs=[x], targets=int(x < 0)) for x in (-3.0, 4.0)]
    asked = listed(dict(inputs=[-1.0], targets=0), dict(inputs=[5.0], targets=1))
    train = dict(dataset=listed(*right, *wrong))
    rival = dict(type="raw_input", part="first_half", c=100)
    assert told(asked, rival, train_dataloader=train)[0]["logits"].argmax(
        1
    ).tolist() == [
        0,
        1,
    ]
    rival.pop("part")
    assert told(asked, rival, train_dataloader=train)[0]["logits"].argmax(
        1
    ).tolist() == [
        1,
        0,
    ]


def test_an_instance_is_one_by_the_share_of_its_bag():
    # one bag of 4 at x = 0 with a one, one at x = 1 with three: log odds -+ log 3
    bags = [dict(inputs=[[x]] * 4, sums=s) for x, s in ((0.0, 1.0), (1.0, 3.0))]
    asked = listed(dict(inputs=[0.0], targets=0), dict(inputs=[1.0], targets=1))
    train = dict(dataset=listed(*bags))
    found = told(asked, dict(type="proportions", c=1e6), train_dataloader=train)[0]
    odds = found["logits"].diff(dim=1).flatten().tolist()
    assert odds == pytest.approx([-1.0986, 1.0986], abs=2e-3)
    assert found["targets"].tolist() == [0, 1]


def test_weights_of_rows_are_rows_more():
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 1, 0])
    weighted = fitted(x, y, weights=torch.tensor([2.0, 3.0, 1.0]))(x)
    more = torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.allclose(weighted, logistic(x[more], y[more], x), atol=1e-5)


def test_one_gaussian_has_the_mean_and_the_covariance():
    points = torch.tensor([[1.0, 2.0], [3.0, 2.5], [2.0, 6.0], [2.0, -2.0]])
    train = dict(dataset=listed(*(dict(inputs=p.tolist()) for p in points)))
    asked = listed(*[dict(inputs=[7.0, 7.0])] * 4000)
    found = told(asked, "gaussian", 3, train_dataloader=train)[0]
    samples = found["samples"]
    assert found["references"].unique().tolist() == [7.0]
    assert samples.mean(0).tolist() == pytest.approx([2.0, 2.125], abs=0.15)
    spread = torch.cov(samples.T)
    # by hand: 2 / 4; (0.125 + 0.375) / 4; 32.1875 / 4
    assert spread[0, 0].item() == pytest.approx(0.5, rel=0.1)
    assert spread[0, 1].item() == pytest.approx(0.125, abs=0.1)
    assert spread[1, 1].item() == pytest.approx(8.0469, rel=0.1)
    again = [told(asked, "gaussian", s, train_dataloader=train) for s in (3, 4)]
    assert torch.equal(again[0][0]["samples"], samples)
    assert not torch.equal(again[1][0]["samples"], samples)
    # a point that never moves has no spread
    still = dict(dataset=listed(dict(inputs=[1.5])))
    alone = told(listed(dict(inputs=[0.0])), "gaussian", train_dataloader=still)[0]
    assert alone["samples"].tolist() == [[1.5]]


def test_the_nearest_picture_is_of_the_nearest_camera_then_of_the_nearest_time():
    def picture(value, camera, time):
        image = [[[value]], [[0.5]], [[9.0]]]  # the last channel is no colour
        return dict(inputs=image, camera=[[camera, 0.0]], time=time)

    known = [
        picture(0.1, 0.0, 0.0), picture(0.3, 0.0, 0.5),
        picture(0.6, 2.0, 0.0), picture(0.8, 2.0, 0.5),
    ]  # fmt: skip
    asked = [picture(0.0, 0.2, 0.4), picture(0.0, 1.8, 0.25), picture(0.0, 1.0, 0.0)]
    train = dict(dataset=listed(*known))
    rival = dict(type="nearest_picture", channels=2)
    found = told(listed(*asked), rival, train_dataloader=train)[0]
    assert found["samples"].shape == found["references"].shape == (3, 2, 1, 1)
    values = found["samples"][:, 0].flatten().tolist()
    # the second lies between two times, the third between two cameras
    assert values == pytest.approx([0.3, 0.7, 0.35], abs=1e-6)
    assert found["time"].tolist() == pytest.approx([0.4, 0.25, 0.0])


def test_counts_of_pairs_and_triples():
    ids = torch.tensor([[0, 1, 2, 1], [0, 1, 1, 2]])
    pairs = Counted(ids, 3).table.exp()
    # behind 1: once 1 and twice 2, and one more each
    assert pairs[1].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert pairs[0].tolist() == pytest.approx([1 / 5, 3 / 5, 1 / 5])
    triples = Counted(ids, 3, before=2, extra=0.5)
    assert triples.table[0, 1].exp().tolist() == pytest.approx(
        [0.5 / 3.5, 1.5 / 3.5, 1.5 / 3.5]
    )
    asked = torch.tensor([[1, 0, 1]])
    assert torch.equal(Counted(ids, 3)(asked)[0, :2].exp(), pairs[asked[0, :2]])
    answer = triples(asked)
    assert answer.shape == (1, 3, 3)
    assert torch.equal(answer[0, 0], triples.table[0, 1])  # word 0 stands before
    assert torch.equal(answer[0, 2], triples.table[0, 1])
    nothing = Counted(torch.zeros(0, 3, dtype=torch.long), 4)
    assert nothing.table.exp().unique().tolist() == [0.25]


def test_counts_take_the_students_place():
    @MODELS.register_module(force=True)
    class Judged(Method):
        def __init__(self):
            super().__init__()
            self.student = nn.Linear(1, 1)

        def predict(self, input_ids):
            return [{"z": self.student(input_ids)}]

    train = dict(
        dataset=listed(dict(input_ids=[0, 1, 2, 1]), dict(input_ids=[0, 1, 1, 2]))
    )
    asked = listed(dict(input_ids=[1, 0]))
    rival = dict(type="counted", size=3)
    model = dict(type="pld_mmdet.Judged")
    z = told(asked, rival, train_dataloader=train, model=model)[0]["z"]
    assert z[0, 0].exp().tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_true_labels_are_said_again_by_their_subject():
    known = listed(
        dict(text="a birds fly", targets=1),
        dict(text="a cats fly", targets=0),
        dict(text="some fowl sing", targets=1),
        dict(text="a birdsong ends", targets=1),
    )
    asked = listed(
        dict(text="all birds", concept="birds fowl"),
        dict(text="all cats", concept="cats felines"),
    )
    rival = dict(type="repeated", train="labels")
    texts = [told(asked, rival, s, labels=known)[0]["texts"] for s in range(9)]
    assert {one for one, _ in texts} == {"a birds fly", "some fowl sing"}
    assert {two for _, two in texts} == {"all cats"}  # its only label is false
    assert told(asked, rival, labels=listed())[0]["texts"] == ["all birds", "all cats"]


@MODELS.register_module(force=True)
class LargestLast(nn.Module):
    """Orders texts by their last word; what it judges is the whole sum."""

    def forward(self, responses, demonstrations):
        assert len(demonstrations) == 0
        return responses[:, -1].argsort(descending=True)

    def judge(self, input_ids):
        return input_ids.sum(1)


def test_the_rankers_first_is_said_behind_every_prompt():
    train = dict(dataset=listed(*(dict(input_ids=i) for i in ([1, 9, 2], [4, 5, 7]))))
    asked = listed(dict(input_ids=[10, 0, 0]), dict(input_ids=[20, 8, 8]))
    model = dict(ranker=dict(type="pld_mmdet.LargestLast"))
    rival = dict(type="one_answer", prompt=1)
    found = told(asked, rival, train_dataloader=train, model=model)[0]
    assert found["judged"].tolist() == [10 + 5 + 7, 20 + 5 + 7]


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match="no baseline 'magic'"):
        evaluate(config(), "magic")
    with pytest.raises(UserError, match="unexpected keyword argument 'depth'"):
        evaluate(config(), dict(type="raw_input", depth=3))
    with pytest.raises(UserError, match="has no stages"):
        evaluate(config(), dict(type="raw_input", train="stages.0.dataset"))
    with pytest.raises(UserError, match=r"no function json\.nothing"):
        evaluate(config(), dict(type="raw_input", features="json.nothing"))
