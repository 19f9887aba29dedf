"""CoTTA: hand-worked numbers, the order of an iteration, the stream."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.engine.data.seeding import SeededDataset
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.weak_supervision.cotta import (
    CoTTA,
    stochastic_restore,
)
from pld_mmdet.weak_supervision.data.augment import CoTTAViews, shift_hue
from pld_mmdet.weak_supervision.data.streams import (
    CifarC,
    CorruptedDigits,
    StreamMetric,
)
from pld_mmdet.weak_supervision.learners.online_adaptation import Tent
from tests.weak_supervision.helpers import learn, small_run, step, weights

NETWORK = dict(type="pld_mmdet.DigitNet", size=8, widths=(4, 8))


def cotta(**changes) -> CoTTA:
    torch.manual_seed(0)
    return CoTTA(**{"network": NETWORK, "views": 2, **changes})


def moved(model: CoTTA) -> CoTTA:
    """A student that is not its teacher: two equal networks have no gradient."""
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def batch(size: int = 8) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "inputs": torch.rand(size, 1, 8, 8, generator=generator),
        "targets": torch.arange(size) % 10,
    }


class TestNumbers:
    """Worked by hand."""

    s, t = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.5, 0.0]])

    def loss(self, student: torch.Tensor, **options) -> torch.Tensor:
        model = cotta(p_th=0.0, **options)
        model.teacher.forward = lambda x: self.t
        model.student.forward = lambda x: student
        losses, answer = model.adapt(torch.zeros(1, 1, 8, 8))
        assert torch.equal(answer, self.t)
        return losses["loss_consistency"]

    def test_cross_entropy(self):
        assert self.loss(self.s).item() == pytest.approx(1.343209)
        both = self.loss(self.s, symmetric=True)
        assert both.item() == pytest.approx(1.061293, abs=1e-6)

    def test_the_symmetric_half_teaches_too(self):
        """Its target are the student's probabilities, and they get a gradient."""
        s = self.s.clone().requires_grad_()
        self.loss(s, symmetric=True).backward()
        p, log_t = self.s.softmax(-1), self.t.log_softmax(-1)
        forward = p - self.t.softmax(-1)
        backward = -p * (log_t - (p * log_t).sum())
        torch.testing.assert_close(s.grad, (forward + backward) / 2)

    def test_equal_logits_give_the_entropy(self):
        assert self.loss(self.t).item() == pytest.approx(1.020191, abs=1e-6)

    def test_views_average_logits_not_probabilities(self):
        model, answers = cotta(), iter([[4.0, 0.0], [0.0, 0.0]])
        model.teacher.forward = lambda x: torch.tensor([next(answers)])
        model.anchor.forward = lambda x: torch.zeros(1, 2)  # confidence 0.5 < 0.92
        target = model.label(batch(1)["inputs"]).softmax(-1)[0].tolist()
        assert target == pytest.approx([0.8808, 0.1192], abs=1e-4)

    def test_teacher(self):
        model = cotta(p=1.0)
        for network, value in ((model.teacher.network, 1.0), (model.student, 3.0)):
            for parameter in network.parameters():
                nn.init.constant_(parameter, value)
        model.after_step()
        for parameter in model.teacher.parameters():
            assert torch.allclose(parameter, torch.tensor(1.002))


def test_one_iteration_by_hand():
    """Label, step, EMA before the restore, answer from before the update."""
    model, data = moved(cotta(p=0.5, alpha=0.75, p_th=0.0)), batch()
    ours = copy.deepcopy(model)
    target = ours.teacher(data["inputs"])  # p_th = 0: no views
    loss = soft_cross_entropy(ours.student(data["inputs"]), target.softmax(-1))
    loss.backward()
    with torch.no_grad():
        for parameter in ours.student.parameters():
            parameter -= 0.1 * parameter.grad
        for slow, fast in zip(
            ours.teacher.parameters(), ours.student.parameters(), strict=True
        ):
            slow.copy_(0.75 * slow + 0.25 * fast)
    stepped = weights(ours.student)
    values, predictions = learn(model, data, lr=0.1)
    assert values["loss_consistency"].item() == pytest.approx(loss.item())
    assert torch.equal(predictions[0]["logits"], target)
    for ours_, theirs in zip(
        ours.teacher.parameters(), model.teacher.parameters(), strict=True
    ):
        assert torch.allclose(ours_, theirs, atol=1e-6)
    back = kept = 0
    source = weights(model.anchor.network)
    for name, value in weights(model.student).items():
        old = torch.isclose(value, source[name], atol=1e-7)
        new = torch.isclose(value, stepped[name], atol=1e-7)
        assert (old | new).all()
        back, kept = back + (old & ~new).sum(), kept + (new & ~old).sum()
    assert 0.4 < back / (back + kept) < 0.6
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is None for p in model.anchor.parameters())


@pytest.mark.parametrize(("p", "equal"), [(1.0, True), (0.0, False)])
def test_restore_of_everything_and_of_nothing(p, equal):
    model = moved(cotta(p=p))
    step(model, batch(), lr=0.1)
    source = weights(model.anchor.network)
    same = [torch.equal(v, source[n]) for n, v in weights(model.student).items()]
    assert all(same) if equal else not any(same)


def test_restore_leaves_other_names_alone():
    class Tokens(nn.Module):
        def __init__(self, value: float):
            super().__init__()
            self.token = nn.Parameter(torch.full((3,), value))
            self.linear = nn.Linear(2, 2)

    student, source = Tokens(1.0), Tokens(0.0)
    stochastic_restore(student, source, p=1.0)
    assert student.token.tolist() == [1.0] * 3
    assert torch.equal(student.linear.weight, source.linear.weight)


def test_equal_networks_without_views_have_no_gradient():
    model = cotta(p_th=0.0)
    model.loss(**batch())["loss_consistency"].backward()
    assert max(p.grad.abs().max() for p in model.student.parameters()) < 1e-7


def test_views_only_when_the_source_network_is_unsure():
    for p_th, calls in ((0.0, 0), (1.1, 2)):
        model, seen = cotta(p_th=p_th), []
        augment = model.augment
        model.augment = lambda x, a=augment, s=seen: s.append(1) or a(x)
        model.label(batch()["inputs"])
        assert len(seen) == calls


@pytest.mark.parametrize(("views", "p_th", "calls"), [(0, 1.1, 0), (1, 1.1, 1)])
def test_as_many_views_as_are_asked_for(views, p_th, calls):
    model, seen, inputs = cotta(p_th=p_th, views=views), [], batch()["inputs"]
    model.augment = lambda x: seen.append(1) or x
    assert torch.equal(model.label(inputs), model.teacher(inputs))
    assert len(seen) == calls


def test_a_network_just_as_sure_as_asked_for_needs_no_views():
    model, seen, inputs = cotta(), [], batch()["inputs"]
    model.augment = lambda x: seen.append(1) or x
    model.p_th = model.anchor(inputs).softmax(-1).amax(-1).mean().item()
    model.label(inputs)
    assert not seen


def test_batch_statistics_in_every_mode():
    model, data = cotta(), batch()
    train = model.teacher(data["inputs"])
    model.eval()
    assert torch.equal(model.teacher(data["inputs"]), train)
    assert not torch.allclose(model.teacher(data["inputs"][:4]), train[:4])
    assert not list(model.buffers())


def test_a_source_checkpoint_fills_all_three(tmp_path):
    plain = MODELS.build(dict(type="pld_mmdet.Classifier", network=NETWORK))
    for state in (plain.state_dict(), plain.network.state_dict()):
        model = cotta()
        model.load_state_dict(dict(state), strict=True)
        for network in (model.student, model.teacher.network, model.anchor.network):
            assert torch.equal(network[-1].weight, plain.network[-1].weight)
        tent = Tent(NETWORK)
        tent.load_state_dict(dict(state), strict=True)
        assert torch.equal(tent.network[-1].weight, plain.network[-1].weight)


def test_tent_moves_batch_norm_alone():
    model = Tent(NETWORK)
    before = weights(model)
    step(model, batch(), lr=0.1)
    moved = {n for n, v in weights(model).items() if not torch.equal(v, before[n])}
    norms = {1, 5}
    assert moved == {f"network.{i}.{n}" for i in norms for n in ("weight", "bias")}


class TestViews:
    def test_a_still_view_is_the_image(self):
        one = (1.0, 1.0)
        still = CoTTAViews(
            brightness=one,
            contrast=one,
            saturation=one,
            hue=(0.0, 0.0),
            gamma=one,
            degrees=0.0,
            translate=0.0,
            scale=one,
            sigma=(0.01, 0.01),
            flip=0.0,
            noise=0.0,
        )
        x = torch.rand(2, 3, 8, 8)
        assert torch.allclose(still(x), x, atol=1e-5)

    def test_range_shape_and_one_draw_for_the_batch(self):
        views = CoTTAViews(noise=0.0)
        for channels in (1, 3):
            x = torch.rand(1, channels, 8, 8).expand(3, -1, -1, -1)
            y = views(x)
            assert y.shape == x.shape
            assert y.min() >= 0
            assert y.max() <= 1
            assert torch.allclose(y[0], y[1])
            assert not torch.allclose(y, views(x))

    def test_hue(self):
        red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
        green = shift_hue(red, 1 / 3).flatten().tolist()
        assert green == pytest.approx([0.2, 0.8, 0.2], abs=1e-6)
        x = torch.rand(2, 3, 4, 4)
        assert torch.allclose(shift_hue(x, 0.0), x, atol=1e-6)
        assert torch.allclose(shift_hue(shift_hue(x, 0.2), -0.2), x, atol=1e-5)

    def test_a_quarter_turn_of_a_wide_image(self):
        """A dot right of the centre goes below it, as far in pixels."""
        views = CoTTAViews(degrees=90.0, translate=0.0, scale=(1.0, 1.0))
        x = torch.zeros(1, 1, 9, 17)
        x[..., 4, 11] = 1.0  # three right of the centre (4, 8)
        low = torch.finfo(torch.float).eps
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "pld_mmdet.weak_supervision.data.augment._uniform",
                lambda a, b: b if abs(b) > low else 0.0,
            )
            y = views._affine(x)[0, 0]
        assert y.max().item() == pytest.approx(1.0, abs=1e-4)
        assert divmod(int(y.argmax()), 17) in ((7, 8), (1, 8))


class TestStream:
    def test_order_and_determinism(self):
        one, two = (
            CorruptedDigits("val", ["noise", "clean"], rounds=2, images=5)
            for _ in range(2)
        )
        assert len(one) == 20
        assert torch.equal(one.images, two.images)
        assert one.rounds.tolist() == [0] * 10 + [1] * 10
        assert one.domains.tolist() == ([0] * 5 + [1] * 5) * 2
        assert torch.equal(one.images[5:10], one.images[15:])  # clean
        assert not torch.equal(one.images[:5], one.images[10:15])  # drawn anew
        assert one[7]["index"] == 7
        with pytest.raises(UserError, match="no corruption 'fog'"):
            CorruptedDigits("val", ["fog"])

    def test_training_images_are_moved_by_their_draw(self):
        still = CorruptedDigits("train", images=5)
        data = SeededDataset(CorruptedDigits("train", images=5, pad=2))
        digit = F.pad(still.images[3], (2,) * 4)
        places = [(y, x) for y in range(5) for x in range(5)]
        seen = set()
        for draw in range(150):
            index = DrawIndex(3, draw, 0)
            view = data[index]["inputs"]
            assert torch.equal(data[index]["inputs"], view)
            crops = {p: digit[:, p[0] :, p[1] :][:, :16, :16] for p in places}
            found = {p for p, crop in crops.items() if torch.equal(crop, view)}
            assert found
            seen |= found
        assert seen == set(places)
        assert torch.equal(still[3]["inputs"], still.images[3])

    def test_cifar_c(self, tmp_path):
        np.save(tmp_path / "labels.npy", np.arange(10) % 5)
        images = np.zeros((10, 32, 32, 3), np.uint8)
        images[9, 0, 0] = (255, 0, 51)
        np.save(tmp_path / "fog.npy", images)
        data = CifarC(str(tmp_path), ["fog"], severity=5)
        assert len(data) == 2
        sample = data[1]
        assert sample["inputs"].shape == (3, 32, 32)
        assert sample["inputs"][:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
        assert sample["targets"] == 4
        with pytest.raises(UserError, match=r"no snow\.npy"):
            CifarC(str(tmp_path), ["snow"])
        for severity in (0, 6):
            with pytest.raises(UserError, match=f"severity {severity}"):
                CifarC(str(tmp_path), ["fog"], severity)
        np.save(tmp_path / "labels.npy", np.arange(15) % 5)
        with pytest.raises(UserError, match="are 15, 10"):
            CifarC(str(tmp_path), ["fog"])

    def test_metric_by_round_and_domain(self):
        metric = StreamMetric()
        metric.dataset_meta = {"domains": ("a", "b")}
        logits = torch.tensor([[3.0, 0.0]] * 4)
        for rounds, targets in ((0, [0, 1, 1, 1]), (1, [0, 0, 0, 1])):
            place = {
                "round": torch.full((4,), rounds),
                "domain": torch.tensor([0, 0, 1, 1]),
            }
            sample = {"logits": logits, "targets": torch.tensor(targets)}
            metric.process(place, [sample])
        found = metric.evaluate(8)
        assert found["accuracy"] == 0.5
        assert found["accuracy_first"] == 0.25
        assert found["accuracy_last"] == 0.75
        assert found["accuracy_a"] == 0.75
        assert found["accuracy_b"] == 0.25


def test_toy_config_runs_saves_and_resumes(tmp_path):
    """Four batches; the second run is stopped after two and goes on."""
    changes = {
        "load_from": None,
        "train_dataloader.dataset.rounds": 2,
        "train_dataloader.dataset.images": 60,
        "train_dataloader.dataset.corruptions": ["noise", "shift"],
        "model.views": 2,
    }
    small_run("configs/cotta/toy.py", tmp_path, changes, last="iter_4.pth", stop=2)
    online = (tmp_path / "whole/online.json").read_text()
    assert '"accuracy_last"' in online


def test_paper_config_steps(tmp_path):
    cfg = Config.fromfile("configs/cotta/paper.py")
    cfg.model.network.depth, cfg.model.network.widen = 10, 1
    cfg.model.views, cfg.model.p_th = 1, 1.1
    model = MODELS.build(cfg.model)
    data = {"inputs": torch.rand(4, 3, 32, 32), "targets": torch.arange(4)}
    values, predictions = learn(model, data, **cfg.optim_wrapper.optimizer)
    assert torch.isfinite(values["loss_consistency"])
    assert predictions[0]["logits"].shape == (4, 10)
    assert len(cfg.corruptions) == 15
