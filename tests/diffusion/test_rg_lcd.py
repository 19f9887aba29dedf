"""RG-LCD: boundary, pairs and Huber by hand, guidance, who learns in which step."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pld_mmdet.diffusion.data.ring import GaussianRing
from pld_mmdet.diffusion.networks.spaces import LatentSpace
from pld_mmdet.diffusion.networks.text import CaptionedImages, waves
from pld_mmdet.diffusion.rg_lcd import boundary, pair_kl
from pld_mmdet.diffusion.scores.ring_reward import MeanOf, RingExpert
from pld_mmdet.distill.losses import pseudo_huber
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.TimeMLP", width=16, depth=2, num_classes=4, guided=True)
POINT = dict(type="pld_mmdet.PointReward", num_classes=3, width=8)


def build(**changes):
    torch.manual_seed(0)
    settings = dict(
        process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
        network=NET,
        teacher=NET,
        expert=POINT,
        proxy=POINT,
        num_classes=3,
        w=(0.0, 1.0),
    )
    model = MODELS.build(dict(type="pld_mmdet.RGLCD", **settings | changes))
    model.progress = Progress(step=1, steps=10)
    return model


def batch(n=6):
    torch.manual_seed(8)
    return dict(inputs=torch.randn(n, 2), targets=torch.arange(n) % 3)


def optimizers(model):
    return OptimWrapperDict(
        student=OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.1)),
        proxy=OptimWrapper(torch.optim.SGD(model.proxy.parameters(), lr=0.1)),
    )


def flat(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_the_boundary_by_hand():
    skip, out = boundary(torch.tensor([0, 19]))
    assert skip[0].item() == 1
    assert out[0].item() == 0
    assert skip[1].item() == pytest.approx(6.925e-6, rel=1e-3)
    assert out[1].item() == pytest.approx(0.9999965, abs=1e-7)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [((3.0, 4.0), 3.499000), ((0.002, -0.001, 0.0), 0.000550)],
)
def test_huber_by_hand(difference, expected):
    found = pseudo_huber(torch.tensor([difference]), 0.001, "element")
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("expert", "expected"), [((1.0, 2, 4), 0.941040), ((1.0, 2, 0), 0.549701)]
)
def test_pairs_by_hand(expert, expected):
    logits = torch.tensor([expert])
    assert pair_kl(logits, torch.zeros(1, 3)).item() == pytest.approx(
        expected, abs=1e-5
    )
    two = torch.cat([logits, torch.zeros(1, 3)])
    assert pair_kl(two, torch.zeros(2, 3)).item() == pytest.approx(
        expected / 2, abs=1e-5
    )


def test_pairs_have_an_order_and_no_level():
    one, other = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0.5, 0.1, -1]])
    assert pair_kl(one, one).item() == pytest.approx(0, abs=1e-7)
    assert pair_kl(one, other).item() != pytest.approx(pair_kl(other, one).item())
    torch.testing.assert_close(pair_kl(one, other + 7), pair_kl(one, other))
    # a single pair: (2, 0) against (0, 0); the others here are (2, 0) and (0, 0) too
    single = F.kl_div(
        torch.full((2,), 0.5).log(), torch.tensor([2.0, 0]).softmax(0), reduction="sum"
    )
    assert single.item() == pytest.approx(0.327813, abs=1e-6)
    found = pair_kl(one, torch.zeros(1, 3)).item()
    assert found == pytest.approx(2 * 0.327813, abs=1e-5)
    empty = torch.zeros(0, 3, requires_grad=True)
    pair_kl(torch.zeros(0, 3), empty).backward()
    assert empty.grad.shape == (0, 3)


def test_guidance_adds_w_times_the_difference():
    model, data = build(), batch()
    z, n = data["inputs"], len(data["inputs"])
    level, before = torch.full((n,), 499), torch.full((n,), 459)
    w = torch.linspace(0, 1, n)
    found = model.guided_step(z, level, before, w, data["targets"])
    t = torch.full((n,), 499 / 999)
    none = torch.full((n,), 3)
    x0 = model.teacher(z, t, data["targets"])
    u0 = model.teacher(z, t, none)
    x0, u0 = x0 + w[:, None] * (x0 - u0), u0
    a, s = math.cos(math.pi / 2 * 499 / 999), math.sin(math.pi / 2 * 499 / 999)
    eps = (z - a * x0) / s  # eps is linear in x0, so it is guided alike
    angle = math.pi / 2 * 459 / 999
    wanted = math.cos(angle) * x0 + math.sin(angle) * eps
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_grid_ends_at_the_data():
    model, seen = build(points=50), []
    plain = model.guided_step

    def guided(z, level, before, *rest):
        seen.append((level, before))
        return plain(z, level, before, *rest)

    model.guided_step = guided
    big = batch(3000)
    model.student_losses(**big)
    level, before = seen[0]
    assert sorted(set(level.tolist())) == list(range(19, 1000, 20))
    assert torch.equal(before, (level - 20).clamp(min=0))
    # at level 0 the target is what the teacher's step made of it
    z, zero = torch.randn(4, 2), torch.zeros(4)
    condition = (torch.zeros(4, dtype=torch.long), torch.ones(4))
    with torch.no_grad():
        torch.testing.assert_close(model.f(model.target, z, zero, condition), z)


def test_without_a_reward_it_is_lcd():
    losses = []
    for changes in (
        dict(expert=None, proxy=None),
        dict(reward="direct", beta=0.0),
        dict(reward="latent", beta=0.0),
    ):
        model = build()
        other = build(**changes)
        names = ("student", "teacher", "target")
        for name in names:
            getattr(other, name).load_state_dict(getattr(model, name).state_dict())
        data = batch()
        torch.manual_seed(3)
        found, latents = other.student_losses(**data)
        losses.append(sum(found.values()).item())
        assert latents.shape == (6, 3, 2)
        assert torch.equal(latents[:, 2], data["inputs"])
        assert not latents.requires_grad
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx(losses[2], rel=1e-6)


@pytest.mark.parametrize("reward", ["direct", "latent"])
def test_the_reward_reaches_the_student_alone(reward):
    model = build(reward=reward, beta=0.7)
    losses, latents = model.student_losses(**batch())
    judge = model.expert if reward == "direct" else model.proxy
    with torch.no_grad():
        gain = judge(latents[:, 0], batch()["targets"]).mean()
    assert losses["loss_reward"].item() == pytest.approx(-0.7 * gain.item(), rel=1e-5)
    losses["loss_reward"].backward()
    assert model.student.last.weight.grad.abs().max() > 0
    for frozen in (model.expert, model.proxy, model.teacher, model.target):
        assert all(p.grad is None for p in frozen.parameters())
    assert all(p.requires_grad for p in model.proxy.parameters())


def test_the_goal_is_the_averages_answer_at_the_level_before():
    model, data, seen = build(w=(5.0, 15.0), huber=0.0), batch(300), []
    with torch.no_grad():
        model.target.network.last.bias += 0.3
    stepped = torch.randn(300, 2)
    model.guided_step = lambda *given: seen.append(given) or stepped
    losses, latents = model.student_losses(**data)
    (_, level, before, w, targets) = seen[0]
    assert torch.equal(targets, data["targets"])
    assert 5 <= w.min() < 6 < 14 < w.max() <= 15
    with torch.no_grad():
        wanted = model.f(model.target, stepped, before, (targets, w))
        others = [
            model.f(model.student, stepped, before, (targets, w)),
            model.f(model.target, stepped, level, (targets, w)),
        ]
    torch.testing.assert_close(latents[:, 1], wanted)
    assert all((wanted - other).abs().max() > 1e-2 for other in others)
    squared = (latents[:, 0] - latents[:, 1]).square().mean()
    torch.testing.assert_close(losses["loss_lcd"].detach(), squared)


def test_the_future_teacher_learns_without_some_conditions():
    seen = []
    for drop in (0.0, 0.3, 1.0):
        model, data = build(drop=drop), batch(900)

        def matching(network, x, t, noise, targets, own=data["targets"]):
            seen.append((targets == 3).float().mean().item())
            assert ((targets == 3) | (targets == own)).all()
            return x.sum()

        model.process.matching_loss = matching
        model.loss_teacher(**data)
    assert seen == [0, pytest.approx(0.3, abs=0.06), 1]


def test_pixels_are_clamped_before_the_expert_sees_them():
    model, seen = build(), []
    model.space = SimpleNamespace(network=SimpleNamespace(decode=lambda z: 2 * z - 1))
    model.expert.forward = lambda images, targets: seen.append(images) or images
    model.judged(torch.tensor([[-1.0, 0.25, 0.75, 3.0]]), torch.tensor([0]))
    assert seen[0].tolist() == [[0, 0, 0.5, 1]]


def test_both_sides_of_the_pairs_are_scaled():
    model = build(reward="latent", logit_scale=5.0)
    latents, targets = torch.randn(6, 3, 2), batch()["targets"]
    with torch.no_grad():
        expert, proxy = (
            torch.stack([judge(z, targets) for z in latents.unbind(1)], 1)
            for judge in (model.expert, model.proxy)
        )
    found = model.proxy_losses(latents, targets)["loss_proxy"].item()
    assert found == pytest.approx(pair_kl(5 * expert, 5 * proxy).item(), rel=1e-5)


def test_two_calls_with_new_noise_between_them():
    model, targets = build(w=(0.0, 3.0)), batch()["targets"]
    assert model.sample_w == 1.5
    first, second = torch.randn(6, 2), torch.randn(6, 2)
    draws = iter([first, second])
    with torch.no_grad():
        for p in model.student.parameters():  # guidance begins without effect
            p.add_(0.2 * torch.randn_like(p))
        found = model._sample(lambda: next(draws), targets)
        given = (targets, torch.full((6,), 1.5))
        z = model.f(model.student, first, torch.full((6,), 999.0), given)
        t = torch.full((6,), 499.0)
        z = model.process.add_noise(z, t / 999, second)
        torch.testing.assert_close(found, model.f(model.student, z, t, given))
    asked = []
    model.process.sample = lambda network, *_: asked.append(network)
    model.predict_on = "teacher"
    model._sample(lambda: first, targets)
    model.progress.reset("teacher")
    model._sample(lambda: first, targets)
    assert asked == [model.teacher, model.student]


def test_a_constant_proxy_moves_nothing():
    model = build(reward="latent")
    nn.init.zeros_(model.proxy.rest[-1].weight)
    losses, _ = model.student_losses(**batch())
    losses["loss_reward"].backward()
    assert model.student.last.weight.grad.abs().max() == 0


def test_one_iteration_moves_student_target_and_proxy():
    model = build(reward="latent", keep=0.95)
    names = ("student", "target", "proxy", "teacher", "expert")
    before = {name: flat(getattr(model, name)) for name in names}
    # the proxy's gradient from its own loss alone
    torch.manual_seed(6)
    twin = copy.deepcopy(model)
    logs = model.train_step(batch(), optimizers(model))
    after = {name: flat(getattr(model, name)) for name in names}
    moved = [name for name in names if not torch.equal(before[name], after[name])]
    assert moved == ["student", "target", "proxy"]
    expected = 0.95 * before["target"] + 0.05 * after["student"]
    torch.testing.assert_close(after["target"], expected, atol=1e-6, rtol=0)
    torch.manual_seed(6)
    _, latents = twin.student_losses(**batch())
    loss = twin.proxy_losses(latents, batch()["targets"])["loss_proxy"]
    assert logs["loss_proxy"].item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    wanted = before["proxy"] - 0.1 * torch.cat(
        [p.grad.flatten() for p in twin.proxy.parameters()]
    )
    torch.testing.assert_close(after["proxy"], wanted)
    assert all(p.grad is None for p in twin.student.parameters())


def test_samples_and_the_best_of_four():
    model, data, index = build(), batch(), torch.arange(6)
    one = model.predict(index=index, **data)[0]
    assert torch.equal(one["samples"], model.predict(index=index, **data)[0]["samples"])
    four = build(best_of=4)
    four.load_state_dict(model.state_dict())
    best = four.predict(index=index, **data)[0]
    assert (best["expert"] >= one["expert"]).all()
    assert (best["expert"] > one["expert"]).any()
    metric = MeanOf(("expert",))
    metric.process({}, [dict(expert=torch.tensor([1.0, 2.0]))])
    metric.process({}, [dict(expert=torch.tensor([6.0]))])
    assert metric.compute_metrics(metric.results)["expert"] == 3.0


def test_bad_settings_get_a_sentence():
    with pytest.raises(UserError, match="network is missing"):
        build(reward="latent", proxy=None)
    with pytest.raises(UserError, match="network is missing"):
        build(best_of=2, expert=None)
    with pytest.raises(UserError, match="points=7"):
        build(points=7)
    lost = build(teacher=None)
    lost.progress = Progress(step=0, steps=10)
    with pytest.raises(UserError, match="RGLCD has no teacher"):
        lost.train_step(batch(), optimizers(lost))


def test_the_teachers_stage_makes_all_three():
    model = build(teacher=None)
    model.progress.reset("teacher")
    assert model.loss_teacher(**batch())["loss_teacher"] > 0
    with torch.no_grad():
        model.student.last.bias += 1
    model.start_stage("distill", None, None)
    assert torch.equal(flat(model.target), flat(model.student))
    assert torch.equal(flat(model.teacher), flat(model.student))


def test_the_expert_is_the_same_for_everybody_and_wrong_outside():
    torch.manual_seed(1)
    one = RingExpert(steps=60)
    state = torch.get_rng_state()
    two = RingExpert(steps=60)
    assert torch.equal(flat(one), flat(two))
    assert torch.equal(torch.get_rng_state(), state)  # nobody's dice were taken
    goal = one.true(one.goals, torch.arange(8))
    torch.testing.assert_close(goal, torch.ones(8))
    beside = one.goals + torch.tensor([0.3, 0.0])
    found = one.true(beside, torch.arange(8))
    torch.testing.assert_close(found, torch.full((8,), math.exp(-0.5)))
    item = GaussianRing("train", 16, labels=True)[3]
    angle = 2 * math.pi * int(item["targets"]) / 8
    centre = 0.7 * torch.tensor([math.cos(angle), math.sin(angle)])
    assert (item["inputs"] - centre).norm() < 0.3
    assert "targets" not in GaussianRing("train", 16)[3]


def test_words_and_latents(tmp_path):
    unet = dict(
        type="pld_mmdet.TextUNet",
        guidance_dim=8,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=8,
    )
    tower = dict(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    text = dict(tower, vocab_size=20, max_position_embeddings=5, eos_token_id=19)
    model = build(
        network=unet,
        teacher=unet,
        num_classes=0,
        conditioner=dict(type="pld_mmdet.ClipWords", empty=(18, 19, 19, 19), **text),
        space=dict(
            type="pld_mmdet.LatentSpace",
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=3,
            norm_num_groups=2,
        ),
        expert=dict(
            type="pld_mmdet.ClipScore",
            text_config=text,
            vision_config=dict(tower, image_size=8, patch_size=4),
            projection_dim=6,
        ),
        proxy=dict(
            type="pld_mmdet.LatentReward", channels=3, vocabulary=20, width=4, dim=6
        ),
        reward="latent",
    )
    for n in range(2):
        Image.new("RGB", (20, 16), (255 * n, 0, 0)).save(tmp_path / f"{n}.png")
    with pytest.raises(UserError, match=r"no captions\.json"):
        CaptionedImages(str(tmp_path), 16)
    for wrong, said in (
        ('["a"]', "no list of captions"),
        ('{"0.png": [18, 3], "1.png": [18, 4, 5]}', "differs in length"),
        ('{"0.png": [18, 3], "7.png": [18, 4]}', r"no image '7\.png'"),
    ):
        (tmp_path / "captions.json").write_text(wrong)
        with pytest.raises(UserError, match=said):
            CaptionedImages(str(tmp_path), 16)
    captions = '{"0.png": [18, 3, 19, 19], "1.png": [18, 4, 5, 19]}'
    (tmp_path / "captions.json").write_text(captions)
    data = CaptionedImages(str(tmp_path), 16)
    assert data[1]["inputs"][:, 3, 3].tolist() == [1, 0, 0]
    items = [data[k] for k in range(2)]
    both = {k: torch.stack([i[k] for i in items]) for k in ("inputs", "targets")}
    before = flat(model.space)
    logs = model.train_step(both, optimizers(model))
    assert torch.isfinite(logs["loss_proxy"])
    assert torch.equal(flat(model.space), before)
    # before a step guidance says nothing, after one it does
    z, words = torch.randn(2, 3, 8, 8), model.conditions(both["targets"])[0]
    t = torch.tensor([3.0, 700.0])
    told = model.teacher(z, t, (words, torch.tensor([5.0, 9.0])))
    torch.testing.assert_close(model.teacher(z, t, words), told)
    # the direct reward passes through the decoder
    direct = build(reward="direct")
    assert direct.proxy is not None
    model.reward = "direct"
    losses, _ = model.student_losses(**both)
    model.student.zero_grad()
    losses["loss_reward"].backward()
    assert model.student.unet.conv_out.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in model.space.parameters())


def test_guidance_is_embedded_as_lcm_does():
    """Frequencies 1 and 1 / 10000 of 1000 w, sines first."""
    found = waves(torch.tensor([0.5, 4.0]), 4)[1].tolist()
    angles = (4000.0, 0.4)
    wanted = [math.sin(v) for v in angles] + [math.cos(v) for v in angles]
    assert found == pytest.approx(wanted, abs=1e-3)


def test_latents_are_the_most_probable_ones_or_drawn():
    """An encoder that says mean (3, -1), variance (.25, 4); the factor is 0.5."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    sizes = dict(
        block_out_channels=(4,),
        norm_num_groups=2,
        latent_channels=2,
        scaling_factor=0.5,
    )
    still, drawn = LatentSpace(**sizes), LatentSpace(drawn=True, **sizes)
    said = torch.tensor([3.0, -1.0, math.log(0.25), math.log(4.0)])
    for space in (still, drawn):
        space.vae.encode = lambda x: SimpleNamespace(
            latent_dist=DiagonalGaussianDistribution(
                said[None, :, None, None].expand(len(x), -1, 100, 100)
            )
        )
    images = torch.zeros(2, 3, 8, 8)
    wanted = torch.tensor([1.5, -0.5])
    assert torch.equal(still.encode(images)[:, :, 7, 9], wanted.expand(2, 2))
    torch.manual_seed(0)
    found = drawn.encode(images)
    assert not torch.equal(found[0], found[1])
    values = found.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), wanted, atol=0.04, rtol=0)
    torch.testing.assert_close(
        values.std(1), torch.tensor([0.25, 1.0]), atol=0.03, rtol=0
    )
