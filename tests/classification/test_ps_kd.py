"""PS-KD: hand-worked numbers, the bank, epochs, resuming, its configs."""

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.classification import PSKD
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.classification.helpers import check_toy, load, train

MLP = dict(type="pld_mmdet.MLP", sizes=(4, 3))


def build(epoch: int = 1, epochs: int = 2, **changes) -> PSKD:
    torch.manual_seed(0)
    cfg = dict(type="pld_mmdet.PSKD", network=MLP, num_samples=6, num_classes=3)
    model = MODELS.build(cfg | changes)
    model.progress = Progress(steps=1, epoch=epoch, epochs=epochs)
    return model


def batch(n: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 3, index=torch.arange(n))


def cross_entropy(model, data):
    return F.cross_entropy(model.network(data["inputs"]), data["targets"])


@pytest.mark.parametrize(
    ("epoch", "alpha"), [(1, 0.0053333), (149, 0.4), (299, 0.8), (300, 0.8)]
)
def test_alpha_rises_with_the_epoch(epoch, alpha):
    """Seen where the past is sure of another class; 300: a part of an epoch more."""
    model = build(epoch, 300)
    model.bank.rows[2] = torch.tensor([0.0, 1.0, 0.0])
    target = model.soft_targets(torch.tensor([0]), torch.tensor([2]))
    assert target[0].tolist() == pytest.approx([1 - alpha, alpha, 0.0], abs=1e-6)


def test_worked_target_loss_and_gradient():
    """Worked by hand: y = 0, P = (.6, .3, .1), alpha = .4, z = (1, .5, 0)."""
    model = build(epoch=1, epochs=4)
    model.bank.rows[2] = torch.tensor([0.6, 0.3, 0.1])
    y, index = torch.tensor([0]), torch.tensor([2])
    target = model.soft_targets(y, index)
    assert torch.allclose(target, torch.tensor([[0.84, 0.12, 0.04]]))
    z = torch.tensor([[1.0, 0.5, 0.0]], requires_grad=True)
    model.network = torch.nn.Identity()
    loss = model.loss(z, y, index)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(0.7802697, abs=1e-6)
    expected = torch.tensor([[-0.3335196, 0.1871959, 0.1463237]])
    assert torch.allclose(z.grad, expected, atol=1e-6)
    # and this step's prediction is the next epoch's past
    assert torch.allclose(model.bank.rows[2], z.detach().softmax(1)[0])


@pytest.mark.parametrize("where", [dict(epoch=0), dict(alpha_T=0.0)])
def test_first_epoch_and_alpha_zero_are_cross_entropy(where):
    model, data = build(**where), batch()
    model.bank.rows[:] = torch.tensor([0.2, 0.5, 0.3])
    found = model.loss(**data)["loss"]
    assert found.item() == pytest.approx(cross_entropy(model, data).item(), abs=1e-6)


def test_an_image_without_a_past_has_its_label():
    model, data = build(epoch=1), batch()
    model.bank.rows[:3] = torch.tensor([0.2, 0.5, 0.3])
    target = model.soft_targets(data["targets"], data["index"])
    one_hot = F.one_hot(data["targets"], 3).float()
    assert torch.equal(target[3:], one_hot[3:])
    assert not torch.isclose(target[:3], one_hot[:3]).any(1).any()


def test_writes_the_rows_of_the_batch_only():
    model, data = build(), {k: v[:2] for k, v in batch().items()}
    model.bank.rows.fill_(0.1)
    data["index"] = torch.tensor([4, 1])
    expected = model.network(data["inputs"]).softmax(1)
    model.loss(**data)
    assert torch.allclose(model.bank.rows[[4, 1]], expected)
    assert torch.allclose(model.bank.rows[[4, 1]].sum(1), torch.ones(2))
    assert torch.equal(model.bank.rows[[0, 2, 3, 5]], torch.full((4, 3), 0.1))
    assert not model.bank.rows.requires_grad


def test_refuses_what_would_go_wrong_silently():
    model, data = build(), batch()
    model.progress = Progress()
    with pytest.raises(UserError, match="how long the run is") as error:
        model.loss(**data)
    assert "ProgressHook" in error.value.fix
    with pytest.raises(UserError, match="num_samples=2"):
        build(num_samples=2).loss(**data)
    with pytest.raises(UserError, match="alpha_T=2"):
        build(alpha_T=2)


def test_predictions_leave_the_bank_alone():
    model, data = build(), batch()
    (answer,) = model(mode="predict", **data)
    assert torch.equal(answer["logits"], model.network(data["inputs"]))
    assert not model.bank.rows.any()


def test_bfloat16():
    model, data = build(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(**data)["loss"]
    assert loss.dtype == model.bank.rows.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.allclose(model.bank.rows.sum(1), torch.ones(6), atol=1e-5)


def test_toy_config_resumes_with_its_past(tmp_path):
    """Stopped inside the second epoch: the next targets come from the file."""
    expected = check_toy("ps_kd/toy.py", tmp_path, stop=3)
    rows = expected["bank.rows"]
    assert rows.shape == (400, 10)
    # 20 images in two epochs of two batches: all of them, and no others, have a past
    assert torch.allclose(rows[:20].sum(1), torch.ones(20), atol=1e-5)
    assert not rows[20:].any()


@pytest.mark.parametrize("name", ["plain", "label_smoothing"])
def test_rivals_train(tmp_path, name):
    assert train(load(f"ps_kd/{name}.py", tmp_path)).iter == 2


def test_the_network_of_the_paper_has_its_size():
    network = MODELS.build(Config.fromfile("configs/ps_kd/paper.py").model.network)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(11.2, abs=0.1)
