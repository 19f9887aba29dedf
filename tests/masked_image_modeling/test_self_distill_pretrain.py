"""Self-distilled further pre-training: the gap by hand, who starts where, copies."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.masked_image_modeling.learners.pretraining import masked_pixel_loss
from pld_mmdet.masked_image_modeling.networks.vit import MaskedViT
from pld_mmdet.masked_image_modeling.self_distill_pretrain import feature_gap
from pld_mmdet.shared.data.digits import Digits
from tests.toy_run import ROOT, enter, toy_config, train


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/self_distill_pretrain/toy.py").model
    cfg.update(changes)
    return MODELS.build(cfg)


def images(n=4):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def same(first, second) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_gap_by_hand():
    """Squares 1 + 0 + 1 and 1 + 0 + 0 over two images: 1.5; the mean MSE is .5."""
    ours = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    theirs = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert feature_gap(ours, theirs).item() == pytest.approx(1.5)
    assert (ours - theirs).square().mean().item() == pytest.approx(0.5)
    ours = torch.tensor([[1.0, 2.0], [0.0, 1.0]])  # the page's number
    assert feature_gap(ours, torch.zeros(2, 2)).item() == pytest.approx(3.0)
    assert feature_gap(ours[:0], ours[:0]).item() == 0
    with pytest.raises(UserError):
        feature_gap(ours, theirs)


def test_normalised_pixels_by_hand():
    """A patch (1, 3): mean 2, unbiased variance 2, so -+1 / sqrt 2."""
    patches = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    keep = torch.tensor([[1]])
    guess = torch.tensor([[[0.0, 1.0], [9.0, 9.0]]])
    root = 2**-0.5
    wanted = (root**2 + (1 - root) ** 2) / 2
    found = masked_pixel_loss(guess, patches, keep, normalise=True)
    assert found.item() == pytest.approx(wanted, abs=1e-5)
    assert masked_pixel_loss(guess, patches, keep).item() == pytest.approx((1 + 4) / 2)


def test_distill_goes_back_to_the_start():
    """Theta -> f_0 -> theta again, with f_0 as teacher; the loss is not 0."""
    model = build()
    theta = build()
    assert same(model.student, theta.student)
    model.start_stage("further", None, Path())
    with torch.no_grad():
        for part in (model.student, model.decoder):
            for parameter in part.parameters():
                parameter.add_(0.05)
    model.start_stage("distill", None, Path())
    assert same(model.student, theta.student)
    assert same(model.decoder, theta.decoder)
    assert not same(model.teacher.network, theta.student)
    enter(model, "distill")
    first = model.loss(images())["loss_dist"]
    assert first.item() > 0.1
    first.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.student.norm.weight.grad.abs().sum() > 0
    # A second round: the student of the first is the teacher, theta the start.
    with torch.no_grad():
        model.student.norm.bias.fill_(0.3)
    model.start_stage("distill_2", None, Path())
    assert torch.allclose(model.teacher.network.norm.bias, torch.tensor(0.3))
    assert same(model.student, theta.student)


def test_weight_zero_is_further_pre_training():
    model = build(weight=0.0)
    model.start_stage("further", None, Path())
    losses = []
    for stage in ("further", "distill"):
        enter(model, stage)
        torch.manual_seed(5)
        losses.append(model.loss(images()))
    assert torch.equal(losses[0]["loss_rec"], losses[1]["loss_rec"])
    assert losses[1]["loss_dist"].item() == 0


def test_the_whole_image_is_compared_and_the_token_is_named():
    x = images()
    for token in ("cls", "mean"):
        model = build(token=token)
        enter(model, "distill")
        torch.nn.init.constant_(model.teacher.network.norm.bias, 0.25)
        ours = model.student(model.normalised(x))
        ours = ours[:, 0] if token == "cls" else ours[:, 1:].mean(1)
        theirs = model.teacher(model.normalised(x))
        theirs = theirs[:, 0] if token == "cls" else theirs[:, 1:].mean(1)
        wanted = (ours - theirs).square().sum() / 4
        assert wanted > 1
        assert torch.allclose(model.loss(x)["loss_dist"], wanted)


def test_tokens_by_hand():
    tokens = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 6.0]]])
    assert build(token="cls").pooled(tokens).tolist() == [[9, 9]]
    assert build(token="mean").pooled(tokens).tolist() == [[2, 4]]


@pytest.mark.parametrize("normalise", [True, False])
def test_pixels_are_normalised_if_asked(normalise):
    model = build(normalise_pixels=normalise)
    torch.manual_seed(5)
    found = model.loss(images())["loss_rec"]
    torch.manual_seed(5)
    x, keep = model.masked(images())
    guess = model.decoder(model.student(x, keep), keep)
    wanted = masked_pixel_loss(guess, model.student.patches(x), keep, normalise)
    torch.testing.assert_close(found, wanted)


def test_copies_by_hand():
    """One image of the first draw, three of the second; both copies answer."""
    model, x = build(subsets=2, mean=0.3, std=2.0), images()
    enter(model, "finetune")
    y, subset = torch.tensor([0, 1, 4, 2]), torch.tensor([1, 0, 1, 1])
    for number, network in enumerate(model.tuned):
        torch.nn.init.constant_(network.norm.bias, 0.5 + number)
    losses = model.loss(x, y, subset=subset)
    for number, answer in enumerate(model.predict(x, y)):
        tokens = model.tuned[number]((x - 0.3) / 2)
        z = model.heads[number](model.pooled(tokens))
        torch.testing.assert_close(answer["logits"], z)
        own = subset == number
        wanted = F.cross_entropy(z[own], y[own])
        torch.testing.assert_close(losses[f"loss_ce_{number}"], wanted)
    # without numbers all belong to the first
    first, second = model.loss(x, y).values()
    assert first > 0
    assert second == 0


def test_each_copy_learns_its_own_draw():
    model = build(subsets=2)
    enter(model, "finetune")
    model.start_stage("further", None, Path())
    torch.nn.init.constant_(model.student.norm.bias, 0.3)  # what it has become
    model.start_stage("finetune", None, Path())
    assert all(same(network, model.student) for network in model.tuned)
    x, y = images(), torch.tensor([0, 1, 4, 2])
    losses = model.loss(x, y, subset=torch.tensor([1, 1, 1, 1]))
    assert losses["loss_ce_0"].item() == 0
    losses["loss_ce_1"].backward()
    assert model.tuned[0].norm.weight.grad is None
    assert model.tuned[1].norm.weight.grad.abs().sum() > 0
    assert model.student.norm.weight.grad is None
    answers = model.predict(x, y)
    assert [tuple(answer["logits"].shape) for answer in answers] == [(4, 5)] * 2


def test_refuses_a_distillation_without_a_teacher():
    model = build()
    with pytest.raises(UserError, match="`distill` has no teacher yet"):
        model.start_stage("distill", None, Path())
    with pytest.raises(UserError, match="token"):
        build(token="last")


def test_a_short_run_and_its_encoder(tmp_path):
    options = [f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1, 2, 4)]
    path = "configs/self_distill_pretrain/toy.py"
    model = train(toy_config(path, tmp_path, *options)).model
    assert not same(model.teacher.network, model.start.network[0])
    (path,) = tmp_path.glob("stages/*_export/encoder.pth")
    encoder = MaskedViT(8, 2, 1, dim=48, depth=4, heads=4, checkpoint=str(path))
    assert same(encoder, model.student)


def test_unlabelled_digits_name_no_class():
    """What theta learns from is no set of classes: a checkpoint fits other digits."""
    known = Digits("train", classes=[0, 1, 2, 3, 4], labelled=3)
    data = Digits("train", classes=[0, 1, 2, 3, 4], labelled=3, unlabelled=True)
    assert torch.equal(data.images, known.images)
    assert data.metainfo == {}
    assert set(data.targets.tolist()) == {-1}
    assert known.metainfo == {"classes": ("0", "1", "2", "3", "4")}
