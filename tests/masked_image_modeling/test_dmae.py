"""DMAE: hand-worked losses, shared masks, where gradients stop, resume, ViT-L size."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS
from torch import nn
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.experiments.options import parse_options
from pld_mmdet.masked_image_modeling.dmae import feature_loss, masked_pixel_loss
from pld_mmdet.masked_image_modeling.networks.vit import (
    MaskedViT,
    random_visible,
    sine_cosine_positions,
)
from tests.toy_run import ROOT, assert_resume_is_exact, enter, toy_config, train


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/dmae/toy.py").model
    cfg.update(changes)
    return MODELS.build(cfg)


def images(n=4):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def weights(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.mark.parametrize(
    ("ratio", "visible"), [(0.75, 49), (0.9, 19), (0.95, 9), (0.98, 3)]
)
def test_visible_patches_of_a_224_image(ratio, visible):
    keep = random_visible(5, 196, ratio)
    assert keep.shape == (5, visible)
    assert all(len(set(row.tolist())) == visible for row in keep)
    assert keep.max() < 196


def test_directions_by_hand():
    """(3, 4) / 5 and (4, 3) / 5 differ by 0.2 in both channels; lengths: by 1."""
    student, teacher = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
    assert feature_loss(student, teacher).item() == pytest.approx(0.2)
    assert feature_loss(7 * student, teacher).item() == pytest.approx(0.2)
    assert feature_loss(student, teacher, normalise=False).item() == 1.0
    assert feature_loss(student, student).item() == 0.0


def test_pixels_of_visible_patches_do_not_count():
    """Two of four patches are hidden, with errors 1 and 9 (mean 5)."""
    patches = torch.zeros(1, 4, 2)
    guess = torch.tensor([[[5.0, 5], [1, 1], [3, 3], [7, 7]]])
    keep = torch.tensor([[0, 3]])
    assert masked_pixel_loss(guess, patches, keep).item() == 5.0
    guess[:, [0, 3]] = 100
    assert masked_pixel_loss(guess, patches, keep).item() == 5.0


def test_patches_row_by_row():
    vit = MaskedViT(4, 2, 1, dim=8, depth=1, heads=2)
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert vit.patches(picture)[0].tolist() == expected
    # The embedding has the same order: a kernel that sums reads the patches' sums.
    nn.init.ones_(vit.patch_embed.proj.weight)
    nn.init.zeros_(vit.patch_embed.proj.bias)
    sums = vit.patch_embed(picture)[0, :, 0]
    assert sums.tolist() == vit.patches(picture)[0].sum(1).tolist()


def test_positions_are_those_of_mae():
    table = sine_cosine_positions(2, 8)[0]
    assert not table[0].any()
    one = [np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)]
    zero = [0, 0, 1, 1]
    # columns first, then rows
    assert table[2].tolist() == pytest.approx([*one, *zero], abs=1e-6)
    assert table[3].tolist() == pytest.approx([*zero, *one], abs=1e-6)


def test_visible_tokens_are_the_whole_images_tokens_in_another_order():
    """Attention has no order: keeping all patches, shuffled, changes nothing."""
    vit = build().student
    x, order = images(), torch.randperm(16).expand(4, -1)
    whole, shuffled = vit(x), vit(x, order)
    assert torch.allclose(whole[:, 1:][:, order[0]], shuffled[:, 1:], atol=1e-5)
    assert torch.allclose(whole[:, 0], shuffled[:, 0], atol=1e-5)


def test_stopping_early_gives_the_blocks_output():
    vit, ran = build().learner, []
    for block in vit.blocks:
        block.register_forward_hook(lambda module, inputs, output: ran.append(output))
    stopped = vit(images(), until=3)
    assert len(ran) == 4
    assert stopped is ran[3]
    vit(images())
    assert torch.equal(ran[4 + 3], stopped)


def test_both_networks_see_the_same_patches():
    model, seen = build(), {}
    for name, network in (
        ("student", model.student),
        ("teacher", model.teacher.network),
    ):
        network.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs})
        )
    losses = model.loss(images())
    assert losses.keys() == {"loss_rec", "loss_dist_block1"}
    assert torch.equal(seen["student"][1], seen["teacher"][1])
    assert seen["student"][1].shape == (4, 4)  # a quarter of 16 patches is seen


def test_gradients_reach_the_student_only():
    model = build()
    model.train()
    assert not model.teacher.network.training
    losses = model.loss(images())
    losses["loss_dist_block1"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.student.blocks[1].attn.qkv.weight.grad.abs().sum() > 0
    assert model.project[0].weight.grad.abs().sum() > 0
    # Behind the aligned block the features' loss has no say.
    assert model.student.blocks[2].attn.qkv.weight.grad is None
    assert all(p.grad is None for p in model.decoder.parameters())


def test_losses_from_the_parts():
    """Both see (x - 0.3) / 2; the student's block 1 is led to the teacher's block 3."""
    model, seen = build(mean=0.3, std=2.0, alpha=1.5), {}
    assert model.aligned == [(1, 3)]
    model.eval()
    x = images()
    for name, network in (
        ("student", model.student),
        ("teacher", model.teacher.network),
    ):
        network.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs})
        )
    losses = model.loss(x)
    assert torch.allclose(seen["student"][0], (x - 0.3) / 2)
    assert torch.equal(seen["student"][0], seen["teacher"][0])
    inputs, keep = seen["student"][:2]
    ours = model.student(inputs, keep, until=1)
    theirs = model.teacher.network(inputs, keep, until=3)
    distance = feature_loss(model.project[0](ours), theirs)
    assert losses["loss_dist_block1"].item() == pytest.approx(1.5 * distance.item())
    guess = model.decoder(model.student(inputs, keep), keep)
    wanted = masked_pixel_loss(guess, model.student.patches(inputs), keep)
    assert losses["loss_rec"].item() == pytest.approx(wanted.item())


def test_inputs_are_what_the_data_gives_unless_said():
    cfg = Config.fromfile(ROOT / "configs/dmae/toy.py").model
    del cfg["mean"], cfg["std"]
    assert torch.equal(MODELS.build(cfg).masked(images())[0], images())


@pytest.mark.parametrize("normalise", [True, False])
def test_two_pairs_of_blocks_have_each_their_projection(normalise):
    model = build(aligned=[(0, 4), (2, 1)], normalise=normalise)
    torch.manual_seed(5)
    losses = model.loss(images())
    torch.manual_seed(5)
    x, keep = model.masked(images())
    for number, (ours, theirs) in enumerate([(0, 4), (2, 1)]):
        s = model.project[number](model.student(x, keep, until=ours))
        t = model.teacher(x, keep, until=theirs)
        if normalise:
            s, t = (z / z.norm(dim=2, keepdim=True) for z in (s, t))
        found = losses[f"loss_dist_block{ours}"].item()
        assert found == pytest.approx((s - t).abs().mean().item(), rel=1e-4)


def test_the_teachers_stage_trains_the_learner_and_its_decoder():
    model = build()
    enter(model, "teacher")
    model.loss(images())["loss_teacher"].backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"learner", "learner_decoder"}


def test_the_teacher_is_what_its_stage_made_when_it_begins_to_teach():
    model, no_stage = build(), build(teacher_decoder=None)
    own = weights(model.teacher)
    for name in ("teacher", "finetune", "again"):
        model.start_stage(name, None, None)
        assert torch.equal(weights(model.teacher), own)
    model.start_stage("distill", None, None)
    assert not torch.equal(weights(model.teacher), own)
    assert torch.equal(weights(model.teacher), weights(model.learner))
    own = weights(no_stage.teacher)
    no_stage.start_stage("distill", None, None)
    assert torch.equal(weights(no_stage.teacher), own)


def test_features_are_the_mean_patch_without_the_class_token():
    model = build()
    model.eval()
    x = images()
    (answer,) = model.predict(x, torch.zeros(4))
    tokens = model.student((x - model.mean) / model.std)
    assert torch.allclose(answer["features"], tokens[:, 1:].mean(1))
    enter(model, "finetune")
    truth = torch.tensor([3, 0, 1, 1])
    wanted = F.cross_entropy(answer["logits"], truth)
    assert torch.allclose(model.loss(x, truth)["loss_ce"], wanted)


def test_equal_features_cost_nothing():
    """A student of the teacher's shape and weights, with a projection that is 1."""
    vit = Config.fromfile(ROOT / "configs/dmae/toy.py").model.teacher
    model = build(student=vit, aligned=[(3, 3)])
    model.teacher.network.load_state_dict(model.student.state_dict())
    nn.init.eye_(model.project[0].weight)
    nn.init.zeros_(model.project[0].bias)
    assert model.loss(images())["loss_dist_block3"].item() == pytest.approx(0, abs=1e-7)


def test_alpha_zero_is_a_plain_mae():
    plain, dmae = build(alpha=0.0, teacher=None, teacher_decoder=None), build()
    dmae.student.load_state_dict(plain.student.state_dict())
    dmae.decoder.load_state_dict(plain.decoder.state_dict())
    losses = []
    for model in (plain, dmae):
        torch.manual_seed(5)
        losses.append(model.loss(images()))
    assert losses[0].keys() == {"loss_rec"}
    assert torch.equal(losses[0]["loss_rec"], losses[1]["loss_rec"])
    double = build(alpha=2.0)
    double.load_state_dict(dmae.state_dict())
    torch.manual_seed(5)
    twice = double.loss(images())["loss_dist_block1"]
    assert torch.allclose(twice, 2 * losses[1]["loss_dist_block1"])


def test_fine_tuning_moves_the_student_and_its_head():
    model = build()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    enter(model, "finetune")
    loss = model.loss(images(), torch.arange(4))["loss_ce"]
    assert loss.item() == pytest.approx(np.log(10))  # a head of zeros knows nothing
    nn.init.ones_(model.head.weight[0])
    model.loss(images(), torch.arange(4))["loss_ce"].backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"student", "head"}
    assert model.student.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_fine_tuning_sees_few_labels_only(tmp_path):
    """The last stage of `finetune.py` has its own ten images a class."""
    options = ["train_cfg.stages.2.max_iters=1"]
    runner = train(toy_config("configs/dmae/finetune.py", tmp_path, *options))
    stages = runner.train_loop.stages
    assert [stage["name"] for stage in stages] == ["teacher", "distill", "finetune"]
    data = runner.train_loop.dataloader.dataset
    assert np.bincount(data.targets).tolist() == [10] * 10
    assert runner.model.progress.stage == "finetune"


def test_refuses_what_cannot_work():
    with pytest.raises(UserError, match=r"alpha=1\.0 needs a teacher"):
        build(teacher=None)
    for pair, said in (
        ((1, 6), "teacher has no block 6"),
        ((1, 8), "teacher has no block 8"),
        ((-1, 5), "student has no block -1"),
    ):
        with pytest.raises(UserError, match=said):
            build(aligned=[(0, 0), pair])
    model = build(teacher_decoder=None)
    with pytest.raises(UserError, match="needs teacher_decoder"):
        enter(model, "teacher")


def test_toy_run_resumes_exactly(tmp_path):
    """Stopped behind the seam of the two stages; the teacher is the learner's."""
    stages = [f"train_cfg.stages.{i}.max_iters=2" for i in range(2)]
    runner, last = assert_resume_is_exact("configs/dmae/toy.py", tmp_path, 3, *stages)
    model = runner.model
    assert torch.equal(weights(model.teacher), weights(model.learner))
    again = MODELS.build(runner.cfg.model)
    again.load_state_dict(last["state_dict"], strict=True)


@pytest.mark.parametrize(
    ("name", "stages"),
    [("plain", 1), ("long", 1), ("lengths", 2), ("finetune_plain", 2)],
)
def test_rivals_train(tmp_path, name, stages):
    options = [f"train_cfg.stages.{i}.max_iters=1" for i in range(stages)]
    options.append("train_dataloader.batch_size=8")
    cfg = toy_config(f"configs/dmae/{name}.py", tmp_path, *options, walk=False)
    model = train(cfg).model
    assert model.normalise == (name != "lengths")
    assert (model.alpha == 0) == (name != "lengths")


def test_paper_config_steps(tmp_path):
    """Narrow networks of the published depths, an official-looking teacher file."""
    (tmp_path / "images/n01").mkdir(parents=True)
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"images/n01/{i}.JPEG"), picture)
    cfg = Config.fromfile(ROOT / "configs/dmae/paper.py")
    small = dict(image_size=32, patch_size=8, heads=2)
    teacher = MaskedViT(32, 8, 3, dim=16, depth=24, heads=2)
    path = tmp_path / "teacher.pth"
    # The official file holds the decoder too, under the key "model".
    extra = {"mask_token": torch.zeros(1, 1, 4)}
    torch.save({"model": {**teacher.state_dict(), **extra}}, path)
    cfg.model.student.update(small, dim=8)
    cfg.model.teacher.update(small, dim=16, checkpoint=str(path))
    cfg.model.decoder.update(dim=8, depth=1, heads=2)
    data = "train_dataloader.dataset.dataset"
    options = [
        f"{data}.data_root={tmp_path / 'images'}",
        f"{data}.size=32",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=2",
        "default_hooks.checkpoint.interval=2",
    ]
    cfg.merge_from_dict(parse_options(options))
    cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), "dmae_paper"
    runner = RUNNERS.build(cfg)
    runner.train()
    assert torch.equal(weights(runner.model.teacher), weights(teacher))
    assert (tmp_path / "run/iter_2.pth").is_file()
    cfg.model.teacher.dim = 32
    with pytest.raises(UserError, match="no encoder of this size"):
        MODELS.build(cfg.model)


def test_paper_networks_have_the_published_sizes():
    cfg = Config.fromfile(ROOT / "configs/dmae/paper.py").model
    cfg.teacher.checkpoint = None
    with torch.device("meta"):
        model = MODELS.build(cfg)
    millions = [
        sum(p.numel() for p in part.parameters()) / 1e6
        for part in (model.student, model.teacher)
    ]
    assert millions == pytest.approx([85.6, 303.1], abs=0.3)  # without positions
