"""G2SD: hand-worked targets and losses, where teachers stop, two heads, the files."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.masked_image_modeling.g2sd import PooledClassifier, target
from pld_mmdet.masked_image_modeling.networks.vit import (
    MAEDecoder,
    MaskedViT,
    random_visible,
)
from tests.toy_run import ROOT, enter, toy_config, train


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/g2sd/toy.py").model
    cfg.update(changes)
    return MODELS.build(cfg)


def images(n=4):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_target_by_hand():
    """(1, 3, 5): mean 3, biased deviation sqrt(8 / 3) = 1.632993."""
    found = target(torch.tensor([[1.0, 3.0, 5.0], [-2.0, 0.0, 5.0]]))
    assert found[0].tolist() == pytest.approx([-1.224745, 0, 1.224745], abs=1e-5)
    assert found[1].tolist() == pytest.approx(
        [-1.019049, -0.339683, 1.358732], abs=1e-5
    )
    assert target(torch.zeros(0, 5, 3)).shape == (0, 5, 3)
    assert target(torch.ones(2, 3).bfloat16()).dtype == torch.float32
    with pytest.raises(UserError, match="no channels"):
        target(torch.zeros(4, 0))


def test_target_forgets_scale_and_place():
    """A token and its stretched, moved copy are the same target."""
    x = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(target(3 * x + 5), target(x), atol=1e-4)
    assert torch.allclose(
        target(x).var(-1, unbiased=False), torch.ones(2, 3), atol=1e-4
    )


def generic(model, **fixed):
    """The generic loss with a decoder and a predictor that give known tokens."""
    ours, theirs = fixed["ours"], fixed["theirs"]
    model.decoder.hidden = lambda tokens, keep: ours
    model.predictor = torch.nn.Identity()
    model.teacher_decoder.network.hidden = lambda tokens, keep, until: theirs
    return model.loss(images(1))


def test_generic_loss_by_hand():
    """SmoothL1 with beta 2: errors 3, 1, -1, .5 cost 2, .25, .25, .0625: .640625."""
    wanted = torch.tensor([-1.0, -1.0, 1.0, 1.0])  # a layer norm leaves it alone
    error = torch.tensor([3.0, 1.0, -1.0, 0.5])
    theirs = wanted.expand(1, 17, 4)
    found = generic(build(), ours=theirs + error, theirs=theirs)
    assert found["loss_generic"].item() == pytest.approx(0.640625, abs=1e-5)
    # 1 - (9 + 1 + 1 + .25) / 4
    assert found["explained"].item() == pytest.approx(-1.8125, abs=1e-4)
    # Errors of 1, 2 and 4 cost .25, 1 and 3; the rest none.
    error = torch.tensor([1.0, 2.0, 4.0, 0.0])
    found = generic(build(), ours=theirs + error, theirs=theirs)
    assert found["loss_generic"].item() == pytest.approx(4.25 / 4, abs=1e-5)
    # The teacher's tokens are normalised, whatever their scale and place.
    found = generic(build(), ours=theirs + error, theirs=3 * theirs + 5)
    assert found["loss_generic"].item() == pytest.approx(4.25 / 4, abs=1e-4)


def test_both_encoders_see_the_same_patches():
    model, seen = build(), []
    for network in (model.student, model.teacher.network):
        network.register_forward_pre_hook(lambda module, given: seen.append(given))
    model.loss(images())
    ours, theirs = seen
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert ours[1].shape == (4, 4)


def test_all_tokens_or_the_masked_patches_alone():
    """Errors of 4 (cost 3) at the class token and the visible patches."""
    wanted = torch.tensor([-1.0, 1.0]).expand(1, 17, 2)
    torch.manual_seed(7)
    keep = random_visible(1, 16, 0.75)  # what the loss will draw
    wrong = wanted.clone()
    wrong[:, 0] += 4
    wrong[:, keep[0] + 1] += 4
    losses = {}
    for supervise in ("all", "masked"):
        torch.manual_seed(7)
        model = build(supervise=supervise)
        torch.manual_seed(7)
        found = generic(model, ours=wrong, theirs=wanted)
        losses[supervise] = found["loss_generic"].item()
    assert losses["all"] == pytest.approx(3 * 5 / 17, abs=1e-5)
    assert losses["masked"] == pytest.approx(0, abs=1e-5)


def test_the_teacher_stops_after_its_block_and_gets_no_gradient():
    model, ran = build(), []
    for number, block in enumerate(model.teacher_decoder.network.decoder_blocks):
        block.register_forward_hook(lambda m, i, o, number=number: ran.append(number))
    model.loss(images())["loss_generic"].backward()
    assert ran == [0]
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"student", "decoder", "predictor"}
    # The student's decoder ends without its norm and its pixels.
    assert model.decoder.decoder_norm.weight.grad is None
    assert model.decoder.decoder_pred.weight.grad is None


def test_stopping_a_decoder_is_a_hook_on_its_block():
    torch.manual_seed(0)
    decoder, seen = MAEDecoder(8, 16, 4, dim=16, depth=3, heads=2), []
    decoder.decoder_blocks[1].register_forward_hook(lambda m, i, o: seen.append(o))
    keep = random_visible(2, 16, 0.75)
    tokens = torch.randn(2, 5, 8)
    whole = decoder(tokens, keep)
    assert torch.equal(decoder.hidden(tokens, keep, until=1), seen[0])
    last = decoder.decoder_norm(decoder.hidden(tokens, keep))
    assert torch.equal(decoder.decoder_pred(last)[:, 1:], whole)


def test_specific_loss_from_the_parts():
    """Half the labels' cross-entropy, half that with the tutor's choice."""
    model = build(mixup=0.0, smoothing=0.1)
    enter(model, "specific")
    x, y = images(), torch.tensor([3, 0, 9, 1])
    losses = model.loss(x, y)
    z, z_dist = model.two_heads(model.normalised(x))
    soft = 0.9 * F.one_hot(y, 10) + 0.01
    chosen = model.tutor(model.normalised(x)).argmax(1)
    hard = F.cross_entropy(z_dist, chosen).item()
    assert losses["loss_class"].item() == pytest.approx(
        0.5 * F.cross_entropy(z, soft).item()
    )
    assert losses["loss_dist"].item() == pytest.approx(0.5 * hard)
    sum(losses.values()).backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"student", "dist_token", "head_class", "head_dist"}


def test_the_tutor_is_asked_about_the_mixed_images():
    model, seen = build(mixup=0.8, cutmix=0.0), []
    enter(model, "specific")
    for network in (model.student, model.tutor.network):
        network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.loss(images(), torch.tensor([3, 0, 9, 1]))
    ours, theirs = seen
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, model.normalised(images()))


def test_each_head_has_its_token():
    model = build()
    x = model.normalised(images())
    tokens = model.student(x, more=model.dist_token)
    z, z_dist = model.two_heads(x)
    torch.testing.assert_close(z, model.head_class(tokens[:, 0]))
    torch.testing.assert_close(z_dist, model.head_dist(tokens[:, 17]))


@pytest.mark.parametrize(
    ("stage", "learns"),
    [("tutor", {"learner_tutor"}), ("finetune", {"student", "head"})],
)
def test_learning_from_labels_alone(stage, learns):
    model, x, y = build(mixup=0.0, smoothing=0.0), images(), torch.tensor([3, 0, 9, 1])
    enter(model, stage)
    loss = model.loss(x, y)["loss_ce"]
    loss.backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == learns
    z = model.learner_tutor(model.normalised(x))
    if stage == "finetune":
        z = model.head(model.student(model.normalised(x))[:, 1:].mean(1))
    torch.testing.assert_close(loss, F.cross_entropy(z, y))


def test_a_pooled_classifier_is_a_vit_that_norms_its_mean_patch():
    vit = Config.fromfile(ROOT / "configs/g2sd/toy.py").model.teacher
    torch.manual_seed(0)
    pooled, encoder = PooledClassifier(vit, 10), MODELS.build(vit)
    encoder.norm = torch.nn.Identity()
    known = pooled.state_dict()
    encoder.load_state_dict({name: known[name] for name in encoder.state_dict()})
    torch.nn.init.uniform_(pooled.fc_norm.weight, 0.2, 3.0)
    wanted = pooled.head(pooled.fc_norm(encoder(images())[:, 1:].mean(1)))
    torch.testing.assert_close(pooled(images()), wanted)


def test_who_hands_on_what():
    """The tutor begins as the MAE's encoder; the generic stage takes all three."""
    model = build()
    parts = model.learner, model.learner_decoder, model.learner_tutor
    for value, part in zip((0.2, 0.3, 0.4), parts, strict=True):
        for parameter in part.parameters():
            torch.nn.init.constant_(parameter, value)

    def values(part):
        return {round(v, 4) for p in part.parameters() for v in p.unique().tolist()}

    model.start_stage("generic", None, Path())
    taken = model.teacher, model.teacher_decoder, model.tutor
    assert [values(part) for part in taken] == [{0.2}, {0.3}, {0.4}]
    model.start_stage("tutor", None, Path())
    assert values(model.learner_tutor.blocks) == {0.2}
    assert values(model.learner_tutor.head) == {0.4}


def test_the_token_stands_at_the_end_and_is_seen():
    model = build()
    x = model.normalised(images())
    with_token = model.student(x, more=model.dist_token)
    assert with_token.shape == (4, 18, 32)
    # Attention has no mask: the token changes the others, and only through its value.
    torch.nn.init.ones_(model.dist_token)
    assert not torch.equal(with_token, model.student(x, more=model.dist_token))
    assert model.student(x).shape == (4, 17, 32)


def test_who_answers():
    model = build()
    x, y = images(), torch.zeros(4, dtype=torch.long)
    z, z_dist = model.two_heads(model.normalised(x))
    found = {}
    for name in ("both", "class", "finetuned", "tutor"):
        model.predict_on = name
        found[name] = model.predict(x, y)[0]["logits"]
    assert torch.equal(found["both"], (z + z_dist) / 2)
    assert torch.equal(found["class"], z)
    assert torch.equal(found["finetuned"], model.head(model.features(x)))
    assert torch.equal(found["tutor"], model.learner_tutor(model.normalised(x)))


def test_labels_are_smoothed_and_mixed():
    model = build(mixup=0.8, cutmix=0.0, num_classes=4, smoothing=0.2)
    x, y = images(), torch.tensor([3, 0, 2, 1])
    blended, soft = model.mixed(x, y)
    assert soft.sum(1).tolist() == pytest.approx([1] * 4)
    assert not torch.equal(blended, x)
    model.mixup = 0.0
    unmixed, soft = model.mixed(x, y)
    assert torch.equal(unmixed, x)
    assert soft[0].tolist() == pytest.approx([0.05, 0.05, 0.05, 0.85])
    # CutMix: whole pixels of one image or the other, labels by their share
    model.cutmix, model.smoothing = 1.0, 0.0
    numbers = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
    np.random.seed(0)
    for _ in range(3):
        blended, soft = model.mixed(numbers, torch.arange(4))
        assert set(blended.unique().tolist()) <= {0, 1, 2, 3}
        shares = F.one_hot(blended.long().flatten(1), 4).float().mean(1)
        torch.testing.assert_close(soft, shares)
    assert 0.5 <= soft.amax(1).min() < 1


def test_teachers_are_handed_on_and_the_encoder_becomes_a_file(tmp_path):
    options = [f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1, 2, 4)]
    model = train(toy_config("configs/g2sd/toy.py", tmp_path, *options)).model
    mae, theirs = model.learner.state_dict(), model.teacher.network.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in mae.items())
    tuned = model.learner_tutor.state_dict()
    assert all(
        torch.equal(model.tutor.network.state_dict()[name], value)
        for name, value in tuned.items()
    )
    assert not torch.equal(
        tuned["blocks.0.attn.qkv.weight"], mae["blocks.0.attn.qkv.weight"]
    )
    (path,) = tmp_path.glob("stages/*_export/encoder.pth")
    encoder = MaskedViT(8, 2, 1, dim=32, depth=3, heads=4, checkpoint=str(path))
    assert encoder.state_dict().keys() == model.student.state_dict().keys()


def test_published_files_load(tmp_path):
    """A pre-trained MAE in one file, a fine-tuned ViT (without `norm`) in another."""
    torch.manual_seed(0)
    vit = dict(type="pld_mmdet.MaskedViT", image_size=8, patch_size=2, in_channels=1)
    vit |= dict(dim=16, depth=2, heads=2)
    small = dict(type="pld_mmdet.MAEDecoder", dim=8, depth=2, heads=2)
    encoder, decoder = MODELS.build(vit), MAEDecoder(16, 16, 4, 8, 2, 2)
    tuned = PooledClassifier(vit, 10)
    mae, fine = tmp_path / "mae.pth", tmp_path / "fine.pth"
    torch.save({"model": {**encoder.state_dict(), **decoder.state_dict()}}, mae)
    torch.save({"model": tuned.state_dict()}, fine)
    model = build(
        teacher=dict(vit, checkpoint=str(mae)),
        teacher_decoder=dict(small, checkpoint=str(mae)),
        tutor_checkpoint=str(fine),
        learn_teachers=False,
    )
    for part, network in (
        (model.teacher, encoder),
        (model.teacher_decoder, decoder),
        (model.tutor, tuned),
    ):
        state = copy.deepcopy(network.state_dict())
        found = part.network.state_dict()
        assert all(torch.equal(found[name], state[name]) for name in state)
    with pytest.raises(UserError, match="no decoder of this size"):
        build(teacher_decoder=dict(small, dim=16, checkpoint=str(mae)))


def test_refuses_what_cannot_work():
    with pytest.raises(UserError, match="decoder has no block 2"):
        build(until=2)
    with pytest.raises(UserError, match="supervise"):
        build(supervise="some")
    model = build(learn_teachers=False)
    with pytest.raises(UserError, match="`tutor` needs learn_teachers"):
        enter(model, "tutor")
