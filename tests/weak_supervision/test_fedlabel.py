"""FedLabel: hand-worked numbers, what is kept, clients, the run."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.weak_supervision.data.cifar_views import CIFARViews
from pld_mmdet.weak_supervision.data.federation import (
    DigitViews,
    Federation,
    NoisyDigits,
    dirichlet_partition,
    partition_by,
)
from pld_mmdet.weak_supervision.fedlabel import FedLabel, expertise
from tests.weak_supervision.helpers import small_run, step, weights

LOCAL = torch.tensor([[0.7, 0.2, 0.1]])
GLOBAL = torch.tensor([[0.5, 0.3, 0.2]])


class Says(nn.Module):
    """A network that answers with the logs of given probabilities."""

    def __init__(self, p: torch.Tensor) -> None:
        super().__init__()
        self.log_p = nn.Parameter(p.log())

    def forward(self, x):
        return self.log_p[: len(x)]


def client(local=LOCAL, wide=GLOBAL, **changes) -> FedLabel:
    model = FedLabel(**{"network": dict(type="pld_mmdet.MLP", sizes=(4, 3)), **changes})
    model.student = Says(local)
    model._global[0].network = Says(wide).requires_grad_(False)
    return model


class TestNumbers:
    """Worked by hand."""

    def test_expertise(self):
        assert expertise(LOCAL).item() == pytest.approx(0.068889, abs=1e-6)
        assert expertise(GLOBAL).item() == pytest.approx(0.015556, abs=1e-6)
        gap = torch.log(torch.tensor(3.0)).item()
        for p, entropy in ((LOCAL, 0.801819), (GLOBAL, 1.029653)):
            found = expertise(p, "entropy").item()
            assert found == pytest.approx(gap - entropy, abs=1e-6)
        for k in (3, 10):
            one_hot = torch.eye(k)[:1]
            assert expertise(one_hot).item() == pytest.approx((k - 1) / k**2)
            uniform = torch.full((1, k), 1 / k)
            assert expertise(uniform).item() == pytest.approx(0, abs=1e-12)
        assert expertise(LOCAL, "max").item() == pytest.approx(0.7)

    def test_choice_weight_and_divergence(self):
        model = client()
        chosen, other, label, lam = model.pseudo_labels(torch.zeros(1, 4))
        assert torch.allclose(chosen.softmax(1), LOCAL)
        assert torch.allclose(other.softmax(1), GLOBAL)
        assert label.tolist() == [0]
        assert lam.item() == pytest.approx(0.225806, abs=1e-6)
        assert kl(other, chosen).item() == pytest.approx(0.092033, abs=1e-6)
        assert kl(chosen, other).item() == pytest.approx(0.085123, abs=1e-6)

    def test_loss(self):
        model = client(beta=0.6, lambda0=2.0)
        x = torch.zeros(1, 4)
        values = model.loss_unlabelled(x, x, torch.tensor([1]))
        assert values["loss_pseudo"].item() == pytest.approx(-np.log(0.7), abs=1e-6)
        expected = 2 * 0.225806 * 0.092033
        assert values["loss_kl"].item() == pytest.approx(expected, abs=1e-6)
        assert values["kept"].item() == 1
        assert values["pseudo_accuracy"].item() == 0


def test_the_surer_model_is_asked_sample_by_sample():
    model = client(torch.cat([LOCAL, GLOBAL]), torch.cat([GLOBAL, LOCAL.flip(1)]))
    chosen, _, label, lam = model.pseudo_labels(torch.zeros(2, 4))
    assert torch.allclose(chosen.softmax(1), torch.cat([LOCAL, LOCAL.flip(1)]))
    assert label.tolist() == [0, 2]
    assert lam[1].item() == 0  # the other model names another class


def test_ties_are_kept_and_are_the_clients():
    """A confidence of beta itself; equal experts that name another class."""
    even = client(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]]), beta=0.5)
    x = torch.zeros(1, 4)
    assert even.loss_unlabelled(x, x)["kept"].item() == 1
    local, wide = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.25, 0.75]])
    assert client(local, wide, h="max").pseudo_labels(x)[2].tolist() == [0]


def test_a_weight_belongs_to_its_image():
    """The first of two is not kept; the second weighs .225806, the first none."""
    local = torch.cat([torch.tensor([[0.4, 0.3, 0.3]]), LOCAL])
    wide = torch.cat([torch.tensor([[0.1, 0.45, 0.45]]), GLOBAL])
    model = client(local, wide, beta=0.6)
    model.student.forward = lambda x: LOCAL.log() if len(x) == 1 else local.log()
    x = torch.zeros(2, 4)
    values = model.loss_unlabelled(x, x)
    assert values["kept"].item() == 0.5
    expected = 0.225806 * 0.092033
    assert values["loss_kl"].item() == pytest.approx(expected, abs=1e-6)


def test_labels_come_from_the_weak_view_in_evaluation_mode():
    """And what learns is the kept images' strong view, in the mode it was in."""
    model = FedLabel(dict(type="pld_mmdet.MLP", sizes=(4, 3)), beta=0.0)
    seen = []
    model.student.register_forward_pre_hook(
        lambda net, args: seen.append((args[0], net.training))
    )
    model.train()
    weak, strong = torch.randn(2, 5, 4)
    model.loss_unlabelled(weak, strong)
    (first, one), (second, other) = seen
    assert torch.equal(first, weak)
    assert torch.equal(second, strong)
    assert [one, other] == [False, True]


def test_a_client_begins_with_the_global_model():
    model = FedLabel(dict(type="pld_mmdet.MLP", sizes=(4, 3)))
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.5)
    model.start_client(0, client=3)
    ours, frozen = model.student.state_dict(), model._global[0].network.state_dict()
    assert all(torch.equal(ours[k], frozen[k]) for k in ours)


def test_both_means_are_over_all_that_is_kept():
    """Kept and agreed, kept and disagreed, not kept: the divergence halves."""
    sure = torch.tensor([[0.7, 0.2, 0.1]])
    local = torch.cat([sure, sure, torch.tensor([[0.4, 0.3, 0.3]])])
    wide = torch.cat([GLOBAL, GLOBAL.flip(1), GLOBAL])
    model = client(local, wide, beta=0.6)
    x = torch.zeros(3, 4)
    values = model.loss_unlabelled(x, x)
    assert values["kept"].item() == pytest.approx(2 / 3)
    assert values["loss_pseudo"].item() == pytest.approx(-np.log(0.7), abs=1e-6)
    expected = 0.225806 * 0.092033 / 2
    assert values["loss_kl"].item() == pytest.approx(expected, abs=1e-6)


def test_equal_models_have_no_divergence_and_full_weight():
    model = client(wide=LOCAL, beta=0.5)
    x = torch.zeros(1, 4)
    assert model.pseudo_labels(x)[3].item() == pytest.approx(1.0)
    assert model.loss_unlabelled(x, x)["loss_kl"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("experts", "label"), [("local", 0), ("global", 2)])
def test_rivals_ask_one_model(experts, label):
    model = client(wide=GLOBAL.flip(1), beta=0.0, experts=experts)
    x = torch.zeros(1, 4)
    assert model.pseudo_labels(x)[2].tolist() == [label]
    assert "loss_kl" not in model.loss_unlabelled(x, x)


def test_nothing_kept_nothing_learnt():
    """beta > 1 is FedAvg on the labels; weight decay does not act either."""
    model = client(beta=1.1)
    data = {"inputs": torch.zeros(1, 4), "strong": torch.zeros(1, 4)}
    before = weights(model)
    values = step(model, {**data, "branch": "unlabelled"}, lr=1.0, weight_decay=0.1)
    assert values["kept"].item() == 0
    assert all(torch.equal(v, before[n]) for n, v in weights(model).items())
    model.beta, model.warm_rounds = 0.0, 3
    model.progress.step, model.progress.steps = 2, 9  # rounds
    assert model.loss(branch="unlabelled", **data) == {}
    model.progress.step = 3
    assert "loss_pseudo" in model.loss(branch="unlabelled", **data)


def test_gradients_stop_at_the_labels():
    model = FedLabel(dict(type="pld_mmdet.MLP", sizes=(4, 8, 3)), beta=0.0)
    model.start_client(0, client=0)
    x = torch.randn(5, 4)
    before = weights(model._global[0])
    losses = model.loss_unlabelled(x, x + 0.1)
    (losses["loss_pseudo"] + losses["loss_kl"]).backward()
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is None for p in model._global[0].parameters())
    assert all(torch.equal(v, before[n]) for n, v in weights(model._global[0]).items())
    assert all(name.startswith("student.") for name in model.state_dict())
    labels = torch.tensor([0, 1, 2, 0, 1])
    loss = model.loss(branch="labelled", inputs=x, targets=labels)["loss_labelled"]
    assert torch.equal(loss, F.cross_entropy(model.student(x), labels))


def test_wrong_words():
    network = dict(type="pld_mmdet.MLP", sizes=(4, 3))
    with pytest.raises(UserError, match="h='size'"):
        FedLabel(network, h="size")
    with pytest.raises(UserError, match="experts='none'"):
        FedLabel(network, experts="none")


class TestFederation:
    def test_partition(self):
        targets = np.arange(1000) % 10
        even, odd = (
            dirichlet_partition(targets, 5, alpha, seed=0) for alpha in (1e4, 0.05)
        )
        for parts in (even, odd):
            assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
        shares = [np.bincount(targets[p], minlength=10) / len(p) for p in even]
        assert np.abs(np.array(shares) - 0.1).max() < 0.02
        assert np.mean([np.bincount(targets[p]).max() / len(p) for p in odd]) > 0.3
        again = dirichlet_partition(targets, 5, 0.05, seed=0)
        assert all(np.array_equal(a, b) for a, b in zip(odd, again, strict=True))

    @pytest.mark.parametrize(
        ("clients", "alpha", "wrong"),
        [
            (5, 0.0, "alpha=0.0"),
            (5, float("nan"), "alpha=nan"),
            (0, 0.1, "num_clients=0"),
            (11, 0.1, "11 clients"),  # of ten images
            (10, 1e-9, "10 clients"),  # each class to one of them
        ],
    )
    def test_what_nobody_could_draw_ends(self, clients, alpha, wrong):
        with pytest.raises(UserError, match=wrong):
            dirichlet_partition(np.arange(10) % 2, clients, alpha, seed=0)

    def test_views(self):
        data = Federation(
            dict(type="pld_mmdet.DigitViews", part="val"), 4, alpha=0.5, labelled=0.1
        )
        assert sum(data.sizes) == len(data) == 360
        seen = []
        for views, size in zip(data.clients, data.sizes, strict=True):
            marked, rest = views["labelled"], views["unlabelled"]
            assert len(marked) == max(1, round(0.1 * size))
            assert len(marked) + len(rest) == size
            seen += marked.indices + rest.indices
        assert sorted(seen) == list(range(360))
        known = [i for views in data.clients for i in views["labelled"].indices]
        assert data.labelled.indices == known
        assert len(data.labelled) < 60
        sample = marked[DrawIndex(0, 5, 1)]
        assert sample["index"] == marked.indices[0]
        whole = data[DrawIndex(marked.indices[0], 5, 1)]
        assert torch.equal(sample["strong"], whole["strong"])
        full = Federation(
            dict(type="pld_mmdet.DigitViews", part="val"), 4, labelled=1.0
        )
        assert [len(c["labelled"]) for c in full.clients] == full.sizes

    def test_weak_noise_is_less_than_strong_noise(self):
        data = NoisyDigits(part="val")
        sample, clean = data[DrawIndex(3, 7, 5)], data.images[3]
        assert (sample["inputs"] - clean).std() < 0.05
        assert 0.05 < (sample["strong"] - clean).std() < 0.3

    @pytest.mark.parametrize("views", [DigitViews, NoisyDigits])
    def test_views_are_counted(self, views):
        data = views(part="val")
        one, two = data[DrawIndex(3, 7, 5)], data[DrawIndex(3, 7, 5)]
        assert torch.equal(one["inputs"], two["inputs"])
        assert torch.equal(one["strong"], two["strong"])
        others = [DrawIndex(3, 8, 5), DrawIndex(3, 7, 6)]
        assert not any(torch.equal(data[i]["strong"], one["strong"]) for i in others)

    def test_a_weak_view_is_the_moved_digit(self):
        data = DigitViews(part="val", weak_shift=2)
        digit, seen = data.images[3, 0].numpy(), set()
        moves = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        for draw in range(100):
            view = data[DrawIndex(3, draw, 0)]["inputs"][0].numpy()
            seen |= {m for m in moves if np.array_equal(view, moved(digit, *m))}
        assert seen == set(moves)
        still = DigitViews(part="val")[DrawIndex(3, 0, 0)]["inputs"]
        assert np.array_equal(still[0].numpy(), digit)

    def test_a_strong_view_does_what_it_is_asked(self):
        still = dict(part="val", shift=0, degrees=0.0, scale=0.0, cutout=0, noise=0.0)
        digit = DigitViews(**still).images[3]

        def strong(draw: int, **changes) -> torch.Tensor:
            return DigitViews(**{**still, **changes})[DrawIndex(3, draw, 0)]["strong"]

        assert torch.allclose(strong(0), digit, atol=1e-6)
        noise = torch.stack([strong(d, noise=0.1) - digit for d in range(50)])
        assert noise.std().item() == pytest.approx(0.1, rel=0.05)
        blanked = torch.stack([strong(d, cutout=3) != digit for d in range(50)])
        assert 0 < blanked.sum((1, 2, 3)).amax() <= 9
        for change in (dict(degrees=30.0), dict(scale=0.2), dict(shift=1)):
            views = torch.stack([strong(d, **change) for d in range(50)])
            assert (views - digit).abs().amax((1, 2, 3)).median() > 0.1
            # what is turned, scaled or moved is still the same amount of ink, nearly
            assert views.sum((1, 2, 3)).mean() > 0.8 * digit.sum()


def moved(digit: np.ndarray, down: int, right: int) -> np.ndarray:
    """The digit moved by whole pixels over an empty ground."""
    height, width = digit.shape
    big = np.zeros((3 * height, 3 * width), digit.dtype)
    big[height : 2 * height, width : 2 * width] = digit
    top, left = height - down, width - right
    return big[top : top + height, left : left + width]


@pytest.mark.parametrize("name", ["toy", "views"])
def test_config_runs_saves_and_resumes(name, tmp_path):
    changes = {
        "train_cfg.max_iters": 4,
        "model.warm_rounds": 1,
        "model.beta": 0.1,
        "param_scheduler": [
            dict(type="MultiStepLR", milestones=[1, 3], by_epoch=False)
        ],
        "optim_wrapper.optimizer.momentum": 0.9,
    }
    checkpoint, runner = small_run(
        f"configs/fedlabel/{name}.py", tmp_path, changes, last="iter_4.pth", stop=2
    )
    rate = runner.cfg.optim_wrapper.optimizer.lr
    assert runner.optim_wrapper.get_lr()["lr"] == [pytest.approx(0.01 * rate)]
    assert not checkpoint["optimizer"]["state"]
    assert runner.message_hub.get_scalar("train/pseudo_accuracy").current() > 0


def test_paper_config_steps(tmp_path):
    cfg = Config.fromfile("configs/fedlabel/paper.py")
    record = np.random.RandomState(0).randint(0, 10, (8, 3073)).astype(np.uint8)
    for number in range(1, 6):
        record.tofile(tmp_path / f"data_batch_{number}.bin")
    inner = cfg.train_dataloader.dataset.dataset.dataset
    inner.update(data_root=str(tmp_path))
    cfg.train_dataloader.dataset.update(num_clients=2, alpha=10.0)
    settings = {k: v for k, v in cfg.train_dataloader.dataset.items() if k != "type"}
    data = Federation(**settings)
    assert isinstance(data.dataset.dataset, CIFARViews)
    sample = data.clients[0]["unlabelled"][0]
    assert sample["inputs"].shape == sample["strong"].shape == (3, 32, 32)
    assert not torch.allclose(sample["inputs"], sample["strong"])
    whole = MODELS.build(cfg.model.network)
    assert sum(p.numel() for p in whole.parameters()) == 21_282_122
    cfg.model.network.update(blocks=(1, 1, 1, 1), width=4)
    cfg.model.beta = 0.0
    model = MODELS.build(cfg.model)
    model.start_client(0, 0)
    batch = {k: torch.stack([sample[k]] * 2) for k in ("inputs", "strong", "targets")}
    for branch in ("labelled", "unlabelled"):
        values = step(model, {**batch, "branch": branch}, lr=0.05)
        assert torch.isfinite(values["loss"])


def test_clients_by_an_attribute_of_the_data():
    class Cities(torch.utils.data.Dataset):
        cities = torch.tensor([2, 0, 2, 5, 0])
        one = torch.zeros(5)

    parts = [places.tolist() for places in partition_by(Cities(), "cities")]
    assert parts == [[1, 4], [0, 2], [3]]
    for name in ("one", "scenes"):
        with pytest.raises(UserError, match=f"Cities does not divide by {name}"):
            partition_by(Cities(), name)
