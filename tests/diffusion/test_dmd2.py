"""DMD2: hand-worked losses, turns, where gradients stop, resume, published setting."""

import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, RUNNERS
from torch import nn

from pld_mmdet.diffusion.dmd2 import distribution_matching_loss, gan_losses
from pld_mmdet.diffusion.networks.denoisers import Critic, DiffusersUNet
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.options import parse_options
from tests.toy_run import ROOT, assert_resume_is_exact, toy_config, train

X = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
REAL = torch.tensor([[0.0, 2.0, 2.0, 4.0]])
FAKE = torch.tensor([[0.5, 2.5, 2.0, 3.0]])


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/dmd2/toy.py").model
    cfg.denoiser = dict(type="pld_mmdet.TimeMLP", width=16)
    cfg.head = dict(type="pld_mmdet.MLPHead", sizes=(16,))
    cfg.update(changes)
    model = MODELS.build(cfg)
    model.start_stage("distill", None, None)
    model.progress.steps = 10
    return model


def optimizers(model):
    return OptimWrapperDict(
        generator=OptimWrapper(torch.optim.SGD(model.generator.parameters(), lr=0.01)),
        critic=OptimWrapper(torch.optim.SGD(model.critic.parameters(), lr=0.01)),
    )


def weights(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def batch(n=8):
    return {"inputs": torch.randn(n, 2), "index": torch.arange(n)}


def test_distribution_matching_by_hand():
    """|x - real| has mean 0.5, so g = (fake - real) / 0.5 = (1, 1, 0, -2)."""
    x = X.clone().requires_grad_()
    loss = distribution_matching_loss(x, REAL, FAKE)
    loss.backward()
    assert loss.item() == pytest.approx(0.75)
    assert torch.allclose(x.grad, torch.tensor([[0.25, 0.25, 0.0, -0.5]]))


def test_each_sample_has_its_own_scale():
    """Ten times larger everywhere: the same g. A neighbour in the batch: no effect."""
    x = torch.cat([X, 10 * X]).requires_grad_()
    distribution_matching_loss(
        x, torch.cat([REAL, 10 * REAL]), torch.cat([FAKE, 10 * FAKE])
    ).backward()
    assert torch.allclose(x.grad[0], x.grad[1])
    assert torch.allclose(2 * x.grad[0], torch.tensor([0.25, 0.25, 0.0, -0.5]))


def test_a_sample_may_have_any_number_of_dimensions():
    """The same numbers as a 1 x 2 x 2 image beside an image ten times as large."""
    x, real, fake = (torch.cat([t, 10 * t]).view(2, 1, 2, 2) for t in (X, REAL, FAKE))
    x.requires_grad_()
    distribution_matching_loss(x, real, fake).backward()
    expected = torch.tensor([0.25, 0.25, 0.0, -0.5]).view(1, 1, 2, 2) / 2
    assert torch.allclose(x.grad, expected.expand(2, -1, -1, -1))


def test_equal_scores_leave_the_sample_alone():
    for real in (REAL, X):  # X: the teacher returns the sample itself, scale 0
        x = X.clone().requires_grad_()
        loss = distribution_matching_loss(x, real, real)
        loss.backward()
        assert loss.item() == 0.0
        assert not x.grad.any()


@pytest.mark.parametrize("away", [1.0, -1.0])
def test_a_sample_that_the_teacher_returns_is_left_alone(away):
    """1 / 0 and -1 / 0: whatever the critic says of it, there is no scale."""
    x = X.clone().requires_grad_()
    distribution_matching_loss(x, X, X + away).backward()
    assert not x.grad.any()


def test_gan_losses_of_an_undecided_head():
    zero = torch.zeros(3)
    assert gan_losses(zero, zero).item() == pytest.approx(1.386294, abs=1e-6)
    sure = gan_losses(torch.full((3,), -9.0), torch.full((3,), 9.0))
    assert sure.item() == pytest.approx(2 * math.log1p(math.exp(-9)), rel=1e-4)


def test_turns_and_what_moves():
    """Ten iterations with r = 5: the generator moves at 0 and 5, the critic always."""
    model, data = build(generator_interval=5), batch()
    wrappers = optimizers(model)
    teacher = weights(model.real)
    moved = []
    for _ in range(10):
        before = weights(model.generator), weights(model.critic)
        logs = model.train_step(data, wrappers)
        model.progress.step += 1
        after = weights(model.generator), weights(model.critic)
        moved.append(
            [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        )
        assert ("generator_loss_dm" in logs) == moved[-1][0]
    assert [i for i, (generator, _) in enumerate(moved) if generator] == [0, 5]
    assert all(critic for _, critic in moved)
    assert torch.equal(weights(model.real), teacher)
    assert all(p.grad is None for p in model.real.parameters())


def test_a_step_of_the_critic_is_of_the_critic_alone():
    model = build(generator_interval=1)
    before = weights(model.generator), weights(model.critic)
    model.critic_step(batch(), optimizers(model))
    assert torch.equal(weights(model.generator), before[0])
    assert not torch.equal(weights(model.critic), before[1])


def test_levels_of_each_loss(monkeypatch):
    """The generator's last level is drawn too; the critic knows all of them."""
    model, asked = build(level_range=(0.2, 0.7)), []
    levels = model._levels
    monkeypatch.setattr(
        model, "_levels", lambda x, *ends: asked.append(ends) or levels(x, *ends)
    )
    x = batch()["inputs"]
    model.generator_losses(x, None)
    assert asked == [(model.lowest, model.highest + 1), (0, 1000)]
    asked.clear()
    model.critic_losses((x, None), (x, None))
    assert asked == [(0, 1000)] * 3
    assert (build().lowest, build().highest) == (20, 980)


def test_generators_losses_leave_the_critic_without_gradient():
    model = build()
    with torch.no_grad():  # as long as it is the teacher, there is nothing to correct
        model.critic.network.last.bias.add_(0.5)
    fake = model.generate(torch.randn(8, 2), None)
    losses = model.generator_losses(fake, None)
    assert losses.keys() == {"loss_dm", "loss_gan"}
    losses["loss_gan"].backward(retain_graph=True)
    by_gan = weights_of_gradients(model.generator)
    losses["loss_dm"].backward()
    assert by_gan.abs().sum() > 0  # the GAN's term does reach the generator
    assert not torch.equal(weights_of_gradients(model.generator), by_gan)
    assert all(p.grad is None for p in model.critic.parameters())
    assert all(p.requires_grad for p in model.critic.parameters())


def weights_of_gradients(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()]).clone()


def test_critics_losses_leave_the_generator_without_gradient():
    model = build()
    data = batch()["inputs"]
    losses = model.critic_losses((data, None), (data + 1, None))
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.critic.head.parameters())
    # The head's loss also teaches the network below it, as in the official code.
    first = model.critic.network.first.weight
    first.grad = None
    model.critic_losses((data, None), (data + 1, None))["loss_gan"].backward()
    assert first.grad.abs().sum() > 0


def test_undecided_head_by_hand():
    model = build(gan_weight=2.0, critic_gan_weight=0.5)
    for parameter in model.critic.head.parameters():
        nn.init.zeros_(parameter)
    x = batch()["inputs"]
    gan = model.generator_losses(x, None)["loss_gan"]
    assert gan.item() == pytest.approx(2 * 0.693147, abs=1e-5)
    gan = model.critic_losses((x, None), (x, None))["loss_gan"]
    assert gan.item() == pytest.approx(0.5 * 1.386294, abs=1e-5)


def test_both_gan_terms_by_hand(monkeypatch):
    """Logits -0.3 of fakes and 1.2 of real data: the generator wants the first up."""
    model = build(gan_weight=2.0, critic_gan_weight=0.25)
    x, real = batch()["inputs"], batch()["inputs"] + 50
    monkeypatch.setattr(
        model, "_logits", lambda x0, _: torch.full((8,), 1.2 if x0.mean() > 9 else -0.3)
    )
    gan = model.generator_losses(x, None)["loss_gan"]
    assert gan.item() == pytest.approx(2 * math.log1p(math.exp(0.3)), rel=1e-5)
    gan = model.critic_losses((x, None), (real, None))["loss_gan"]
    expected = math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.2))
    assert gan.item() == pytest.approx(0.25 * expected, rel=1e-5)


def test_teacher_and_critic_in_the_generators_term(monkeypatch):
    """x = 1, the teacher says 3, the critic 4: g = (4 - 3) / |1 - 3|, loss g^2 / 2."""
    model, seen = build(gan_weight=0.0, level_range=(0.2, 0.7)), []

    def denoise(network, x, level, condition):
        seen.append((x, level))
        return torch.full_like(x, 3.0 if network is model.real else 4.0)

    monkeypatch.setattr(model.process, "denoise", denoise)
    x = torch.ones(400, 2, requires_grad=True)
    loss = model.generator_losses(x, None)["loss_dm"]
    assert loss.item() == pytest.approx(0.5 * 0.5**2)
    loss.backward()
    assert torch.allclose(x.grad, torch.full_like(x, 0.5 / x.numel()))
    (noised, level), (again, same) = seen
    assert torch.equal(noised, again)
    assert torch.equal(level, same)
    assert level.unique().numel() > 50
    assert 200 <= level.min() < level.max() <= 700


def test_the_last_level_is_the_last_one():
    model = build(level_range=(0.5, 1.0))
    assert (model.lowest, model.highest) == (500, 999)
    model.generator_losses(torch.zeros(2000, 2), None)


class Recorder(nn.Module):
    """Says 0; keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, time, condition):
        self.calls.append((x, time, torch.is_grad_enabled(), condition))
        return torch.zeros_like(x)


def test_backward_simulation():
    """Level 999 sees the noise itself; later levels what the generator made of it."""
    model = build(
        process=dict(type="pld_mmdet.EpsProcess"), denoising_steps=(999, 749, 499, 249)
    )
    model.generator = Recorder()
    noise, fresh = torch.randn(4, 2), torch.ones(4, 2)
    model.process.few_steps(model.generator, noise, None, (999,), None)
    assert len(model.generator.calls) == 1
    assert torch.equal(model.generator.calls[0][0], noise)
    model.generator.calls.clear()
    levels = model.denoising_steps[:3]
    model.process.few_steps(model.generator, noise, None, levels, lambda like: fresh)
    steps = [int(time[0]) for _, time, _, _ in model.generator.calls]
    assert steps == [999, 749, 499]
    assert [grad for _, _, grad, _ in model.generator.calls] == [False, False, True]
    # eps = 0, so x0 = noise / a_999, noised again by fresh noise to level 749
    process = model.process
    expected = process.a[749] * noise / process.a[999] + process.s[749] * fresh
    assert torch.allclose(model.generator.calls[1][0], expected)
    drawn = set()
    for _ in range(40):
        model.generator.calls.clear()
        model.generate(noise, None)
        drawn.add(len(model.generator.calls))
    assert drawn == {1, 2, 3, 4}


def test_only_the_teacher_is_guided():
    model = build(num_classes=3, guidance=4.0)

    class ByClass(nn.Module):
        def forward(self, x, time, condition):
            return condition[:, None].float().expand_as(x)

    model.process.denoise = lambda network, x, level, condition: network(
        x, 0, condition
    )
    model.real = ByClass()
    condition = torch.tensor([0, 1, 2])
    model._levels = lambda x, low, high: torch.zeros(len(x), dtype=torch.long)
    seen = []
    guided = model.process.guided
    model.process.guided = lambda *args: seen.append(guided(*args)) or seen[0]
    model.critic = model.real
    model.gan_weight = 0.0
    model.generator_losses(torch.zeros(3, 2), condition)
    (guess,) = seen
    # class 3 is "no class": 3 + 4 (c - 3)
    assert torch.equal(guess[:, 0], 3 + 4 * (condition - 3.0))
    with pytest.raises(UserError, match="guidance needs conditions"):
        build(guidance=4.0)


def test_without_a_teacher_nothing_is_distilled():
    model = MODELS.build(Config.fromfile(ROOT / "configs/dmd2/toy.py").model)
    model.progress.steps = 10
    with pytest.raises(UserError, match="has no teacher"):
        model.train_step(batch(), optimizers(model))
    with pytest.raises(UserError, match="predict_on='fake'"):
        build(predict_on="fake")


def test_a_teacher_of_its_own_is_where_all_begin():
    model = build(teacher=dict(type="pld_mmdet.TimeMLP", width=16))
    model.init_weights()  # as the runner does, which may bring the teacher's weights
    for network in (model.generator, model.critic.network):
        assert torch.equal(weights(network), weights(model.real))


def test_predictions_can_be_repeated():
    model = build(denoising_steps=(999, 500))
    data = batch()
    (one,) = model(mode="predict", **data)
    torch.rand(3)
    (two,) = model(mode="predict", **data)
    assert torch.equal(one["samples"], two["samples"])
    model.predict_on = "teacher"
    (three,) = model(mode="predict", **data)
    assert three["samples"].shape == (8, 2)
    # While the teacher is being made, it is the generator's network.
    model.progress.stage = "teacher"
    with torch.no_grad():
        model.real.network.last.bias.add_(3.0)
    (four,) = model(mode="predict", **data)
    assert torch.equal(four["samples"], three["samples"])
    model.progress.stage = "distill"
    (five,) = model(mode="predict", **data)
    assert not torch.equal(five["samples"], three["samples"])


def test_who_samples_and_in_how_many_steps(monkeypatch):
    """The generator at its levels from noise that is the index's; else the teacher."""
    model, data = build(denoising_steps=(999, 500)), batch()
    columns = Config.fromfile(ROOT / "configs/dmd2/toy.py").experiment.columns
    assert f"teacher, {model.teacher_steps} steps" in columns  # what the table says
    few, many = [], []
    monkeypatch.setattr(model.process, "few_steps", lambda *args: few.append(args))
    monkeypatch.setattr(model.process, "sample", lambda *args: many.append(args))
    data["index"] += 5
    model.predict(**data)
    ((network, noise, condition, levels, _),) = few
    assert network is model.generator
    assert (condition, levels) == (None, (999, 500))
    assert torch.equal(
        noise, torch.randn(8, 2, generator=torch.Generator().manual_seed(5))
    )
    model.predict_on = "teacher"
    model.predict(**data)
    ((network, again, condition, steps),) = many
    assert network is model.real
    assert (condition, steps) == (None, 40)
    assert torch.equal(again, noise)


def test_toy_run_resumes_exactly(tmp_path):
    """Killed between two turns of the generator: the rhythm and both Adams go on."""
    stages = "train_cfg.stages.0.max_iters=2", "train_cfg.stages.1.max_iters=4"
    runner, last = assert_resume_is_exact(
        "configs/dmd2/toy.py",
        tmp_path,
        4,
        *stages,
        "model.generator_interval=3",
        "train_cfg.val_interval=3",
        "custom_hooks.2.begin=0",
    )
    assert last["optimizer"].keys() == {"generator", "critic"}
    assert last["pld_progress"]["step"] == 4
    curves = [
        (tmp_path / f"{name}/online.json").read_text() for name in ("whole", "resumed")
    ]
    assert curves[0] == curves[1]
    assert '"3"' in curves[0]
    again = MODELS.build(runner.cfg.model)
    again.load_state_dict(last["state_dict"], strict=True)


@pytest.mark.parametrize("name", ["dmd", "two_rates", "teacher"])
def test_rivals_build_and_step(tmp_path, name):
    model = train(toy_config(f"configs/dmd2/{name}.py", tmp_path)).model
    interval = 1 if name == "dmd" else 5
    assert model.generator_interval == interval
    assert (model.gan_weight == 0) == (name != "teacher")


def test_paper_config_steps(tmp_path):
    """The published recipe with a UNet of one width and images of 8 pixels."""
    for name in ("n01", "n02"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            picture = np.random.default_rng(i).integers(0, 255, (12, 10, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name / f"{i}.png"), picture)
    cfg = Config.fromfile(ROOT / "configs/dmd2/paper.py")
    small = dict(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=4,
        num_class_embeds=2,
    )
    unet = {**cfg.model.denoiser, **small}
    torch.manual_seed(0)
    kwargs = {k: v for k, v in unet.items() if k != "type"}
    DiffusersUNet(**kwargs).unet.save_pretrained(tmp_path / "teacher")
    cfg.model.denoiser = unet
    cfg.model.teacher.pretrained = str(tmp_path / "teacher")
    cfg.model.head.update(channels=16, size=4, groups=4)
    cfg.model.bottleneck = "unet.down_blocks.1"
    dataset = "train_dataloader.dataset.dataset"
    options = [
        f"{dataset}.data_root={tmp_path / 'images'}",
        f"{dataset}.size=8",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=2",
        "default_hooks.checkpoint.interval=2",
    ]
    cfg.merge_from_dict(parse_options(options))
    cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), "dmd2_paper"
    with pytest.raises(UserError, match=r"is 1000, .* 2 classes \(n01, n02\)"):
        RUNNERS.build(cfg).train()
    cfg.model.num_classes, cfg.experiment_name = 2, "dmd2_paper_of_two"
    runner = RUNNERS.build(cfg)
    runner.train()
    model = runner.model
    start = DiffusersUNet(pretrained=str(tmp_path / "teacher"))
    assert torch.equal(weights(model.real), weights(start))
    assert not torch.equal(weights(model.critic.network), weights(start))
    # The first of 71 warm-up steps: the generator has hardly left the teacher.
    assert torch.allclose(weights(model.generator), weights(start), atol=1e-6)
    assert (tmp_path / "run/iter_2.pth").is_file()
    # Convolutions that change the resolution are another network.
    cfg.model.denoiser.update(downsample_type="conv", upsample_type="conv")
    with pytest.raises(UserError, match=r"DMD2: .* do not fit model\.denoiser"):
        MODELS.build(cfg.model)


def test_full_size_paper_network():
    cfg = Config.fromfile(ROOT / "configs/dmd2/paper.py").model
    with torch.device("meta"):
        network = MODELS.build(cfg.denoiser)
        head = MODELS.build(cfg.head)
        bottleneck = torch.empty(2, 768, 8, 8)
        assert head(bottleneck).shape == (2, 1, 1, 1)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(295.898, abs=0.001)  # EDM's network: 295.899
    network.get_submodule(cfg.bottleneck)


def test_the_head_sees_the_encoders_last_output():
    """Of a down block's outputs (features, skips) the first; the middle doesn't run."""
    torch.manual_seed(0)
    network = DiffusersUNet(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    seen = []
    network.unet.mid_block.register_forward_hook(lambda *a: seen.append("middle"))
    last = network.unet.down_blocks[1].resnets[-1]
    last.register_forward_hook(lambda *a: seen.append(a[2]))
    critic = Critic(network, nn.Flatten(), "unet.down_blocks.1")
    logits = critic.logits(torch.randn(2, 3, 8, 8), torch.tensor([1.0, 2.0]), None)
    (features,) = seen
    assert features.shape == (2, 16, 4, 4)
    assert torch.equal(logits, features.flatten())
