"""4DGen: clouds, tracks, score distillation, its stages, scenes and scores."""

import math
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pld_mmdet.diffusion import gen4d
from pld_mmdet.diffusion.data.moving_object import (
    MovingObject,
    OtherObjects,
    SceneViews,
)
from pld_mmdet.diffusion.gen4d import chamfer, smoothness
from pld_mmdet.diffusion.networks.priors import pose
from pld_mmdet.diffusion.processes.losses import score_gradient_loss
from pld_mmdet.diffusion.rendering.hexplane import HexPlaneField
from pld_mmdet.diffusion.rendering.splatting import orbit
from pld_mmdet.diffusion.scores.fidelity import PSNR, psnr
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

FIELD = dict(
    type="pld_mmdet.HexPlaneField",
    channels=4,
    resolution=4,
    times=4,
    levels=(1,),
    width=8,
    depth=1,
)
UNET = dict(
    type="pld_mmdet.DiffusersUNet",
    sample_size=8,
    in_channels=6,
    out_channels=3,
    block_out_channels=(8, 8),
    layers_per_block=1,
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
    class_embed_type="identity",
)
PRIOR = dict(
    prior=dict(type="pld_mmdet.ViewPrior", unet=UNET, width=32),
    process=dict(type="pld_mmdet.EpsProcess"),
)


def build(**changes):
    torch.manual_seed(0)
    settings = dict(count=6, capacity=8, size=8, perceptual=0.0) | changes
    return MODELS.build(dict(type="pld_mmdet.Gen4D", field=FIELD, **settings))


def batch(count=3, size=8):
    data = MovingObject("train", size=size)
    items = [data[5 * k] for k in range(count)]
    return {
        name: torch.stack([torch.as_tensor(item[name]) for item in items])
        for name in items[0]
    }


def test_chamfer_by_hand():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    b = torch.tensor([[0.0, 0, 0], [0, 2, 0]])
    assert chamfer(a, b).item() == pytest.approx(2.5)
    assert chamfer(a, a).item() == 0
    two = torch.tensor([[0.0, 0, 0], [2, 0, 0]])
    one = torch.tensor([[1.0, 0, 0]], requires_grad=True)
    loss = chamfer(two, one)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    # a to b pulls from both sides, b to a towards one of two that are as near
    assert one.grad.abs().tolist() == [[2, 0, 0]]
    # each direction has the mean of its own points: 2 / 3 + 1
    three = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert chamfer(three, one.detach()).item() == pytest.approx(2 / 3)
    for bad in (torch.zeros(0, 3), torch.zeros(3)):
        with pytest.raises(UserError, match="chamfer: clouds"):
            chamfer(bad, a)


def test_smoothness_by_hand():
    assert smoothness(torch.tensor([0.0, 1, 4])).item() == 4
    assert smoothness(torch.tensor([1.0, 2, 4, 7])).item() == 2
    steady = torch.arange(5.0)[:, None, None] * torch.tensor([[1.0, -3.0]])
    assert smoothness(steady).item() == 0
    track = torch.tensor([0.0, 1, 4], requires_grad=True)
    smoothness(track).backward()
    assert track.grad.tolist() == [4, -8, 4]
    short = torch.ones(2, 3, requires_grad=True)
    smoothness(short).backward()
    assert short.grad.abs().sum() == 0
    assert smoothness(torch.zeros(0, 3)).item() == 0


def test_score_gradients():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    score_gradient_loss(x, torch.tensor([0.1, -0.2])).backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.2, -0.4]))


def test_a_right_prior_moves_nothing(monkeypatch):
    model, data = build(**PRIOR, sds=1.0), batch()
    drawn = []
    like = torch.randn_like
    monkeypatch.setattr(
        gen4d.torch, "randn_like", lambda x: drawn.append(like(x)) or drawn[-1]
    )
    model.prior.guided = lambda *_: drawn[-1]
    loss = model.distilled(**data)
    assert loss.item() == pytest.approx(0, abs=1e-10)
    model.prior.guided = lambda *_: drawn[-1] + 1
    loss = model.distilled(**data)
    loss.backward()
    assert loss.item() > 0
    assert model.colours.grad[:6].abs().max() > 0
    assert all(p.grad is None for p in model.prior.parameters())


def test_levels_of_score_distillation_and_its_weight(monkeypatch):
    model, data = build(**PRIOR), batch(1)
    levels = []

    def guided(z, level, *_):
        levels.append(int(level))
        noise = (z - model.process.a[level] * kept[0]) / model.process.s[level]
        return noise + 0.5

    kept = []
    encode = model.prior.encode
    model.prior.encode = lambda x: kept.insert(0, encode(x)) or kept[0]
    model.prior.guided = guided
    for _ in range(30):
        loss = model.distilled(**data).item()
        signal = model.process.a[levels[-1]].item() ** 2
        expected = 3 * 64 * (0.5 * (1 - signal)) ** 2
        assert loss == pytest.approx(expected, rel=1e-3)
    assert 200 <= min(levels) < max(levels) <= 600


def test_time_planes_of_one_mean_no_motion():
    torch.manual_seed(0)
    field = HexPlaneField(4, 4, 4, (1, 2), 8, 1)
    nn.init.normal_(field.mlp[-1].weight)
    points = torch.rand(7, 3) - 0.5
    moves, turns = field(points, torch.tensor([0.0, 0.3, 0.9]))
    assert moves.shape == (3, 7, 3)
    assert turns.shape == (3, 7, 4)
    assert moves.abs().max() > 0
    torch.testing.assert_close(moves[1], moves[0], atol=1e-6, rtol=0)
    with torch.no_grad():
        field.planes[3][..., 2, :] = 2.0  # x and t: later times are other
    moves, _ = field(points, torch.tensor([0.0, 0.6]))
    assert (moves[1] - moves[0]).abs().max() > 1e-3
    # all features are 1: no plane of space, or of time, is steep
    for plane in field.planes:
        nn.init.ones_(plane)
    assert field.total_variation().item() == 0
    assert sum(smoothness(bend) for bend in field.bends()).item() == 0
    with torch.no_grad():
        field.planes[0][0, 0, 0, 0] = 3.0
    assert field.total_variation().item() == pytest.approx(8 / 64)
    assert field.bends()[0].shape == (4, 4, 4)


def test_the_static_stage_leaves_the_field_alone():
    model, data = build(), batch()
    model.parse_losses(model.loss_static(**data))[0].backward()
    assert all(p.grad is None for p in model.field.parameters())
    assert model.means.grad[:6].abs().sum() > 0
    assert model.means.grad[6:].abs().sum() == 0  # they are not there yet
    torch.testing.assert_close(model.steepness, model.means.grad.norm(dim=1))
    model = build()
    losses = model.loss_coarse(**data)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.field.parameters())
    assert set(losses) == {
        "loss_photometric",
        "loss_chamfer",
        "loss_tv",
        "loss_smooth",
    }


def test_views_count_as_they_should():
    model = build(l1=2.0, front=3.0, pseudo=0.5)
    a = torch.zeros(2, 4, 8, 8)
    b = torch.stack([torch.full((4, 8, 8), 0.1), torch.full((4, 8, 8), 0.4)])
    video = torch.tensor([True, False])
    expected = (3 * 2 * 0.1 + 0.5 * 2 * 0.4) / 2
    assert model.photometric(a, b, video).item() == pytest.approx(expected)


def test_the_released_terms_weigh_all_views_alike(monkeypatch):
    """LPIPS .5 and .1, front 10: (10 (20 x .5) + 2 x .5 + 20 x .1 + 2 x .1) / 2."""
    model = build(perceptual=20.0, even=2.0, l1=0.0)
    model._lpips = [lambda a, b: torch.tensor([0.5, 0.1]).view(2, 1, 1, 1)]
    a, b = torch.rand(2, 2, 4, 8, 8)
    video = torch.tensor([True, False])
    found = model.photometric(a, b, video).item()
    assert found == pytest.approx((100 + 1 + 2 + 0.2) / 2)
    model.perceptual = model.even = 0.0
    model.ssim = 2.0
    monkeypatch.setattr(gen4d, "ssim", lambda x, y: torch.tensor([0.9, 0.25]))
    found = model.photometric(a, b, video).item()
    assert found == pytest.approx((2 * 0.1 + 2 * 0.75) / 2)
    assert build().sds_share == 0.8


def test_gaussians_are_cloned_split_and_pruned():
    torch.manual_seed(0)
    model = build(densify_from=1.0, ball=2.0)  # large: above 0.02
    optimizer = torch.optim.Adam([model.means, model.scales])
    model.means.grad = torch.ones_like(model.means)
    optimizer.step()
    with torch.no_grad():
        model.scales[1].fill_(math.log(0.015))  # small: cloned
        model.opacities[3] = -9.0  # invisible: dropped
        # over two steps: 4, 3, and a third that is not steep enough
        model.steepness[:] = torch.tensor([8.0, 6, 1.5, 9, 0, 0, 0, 0])
        before = model.means.clone()
    model.densify(optimizer, 2)
    assert model.alive.tolist() == [True] * 6 + [True, False]
    # 0 (large, the steepest) was split into the first free place, which is 3
    assert not torch.equal(model.means[0], before[0])
    assert not torch.equal(model.means[0], model.means[3])
    assert model.scales[3, 0].item() == pytest.approx(math.log(0.05 / 1.6))
    assert model.scales[0, 0].item() == pytest.approx(math.log(0.05 / 1.6))
    torch.testing.assert_close(model.means[6], before[1])
    torch.testing.assert_close(model.means[1], before[1])
    moments = optimizer.state[model.means]["exp_avg"][:, 0]
    assert (moments != 0).tolist() == [
        False,
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    assert model.steepness.abs().sum() == 0
    # no room: nothing happens to the steepest
    model.steepness[:7] = 9.0
    model.densify(optimizer, 1)
    assert model.alive.all()
    model.steepness[:] = 9.0
    kept = model.means.clone()
    model.densify(optimizer, 1)
    assert torch.equal(model.means, kept)


def test_a_split_gaussian_is_drawn_along_its_own_axes(monkeypatch):
    """Turned by 90 degrees about z: its x axis is the world's y."""
    model = build(densify_from=1.0)
    with torch.no_grad():
        model.turns[2] = torch.tensor([1.0, 0, 0, 1])
        model.scales[2] = torch.tensor([0.3, 0.05, 0.02]).log()
        model.steepness[2] = 2.0
        before = model.means[2].clone()
    monkeypatch.setattr(gen4d.torch, "randn_like", torch.ones_like)
    model.densify(torch.optim.SGD(model.parameters(), lr=0.1), 1)
    moved = torch.tensor([-0.05, 0.3, 0.02])
    for place in (2, 6):
        torch.testing.assert_close(model.means[place], before + moved)


def test_gaussians_are_doubled_after_every_third_step():
    model, data, calls = build(densify_every=3), batch(1), []
    model.densify = lambda optimizer, steps: calls.append((model.progress.step, steps))
    wrapper = FiniteOptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    for step in range(6):
        model.progress = Progress(step=step, steps=6, stage="static")
        model.train_step(data, wrapper)
    assert calls == [(2, 3), (5, 3)]


def test_terms_of_the_coarse_stage_by_hand():
    """Two frames; second differences 2 over three numbers; variation 0.7."""
    model, data = build(chamfer=2.0, tv=3.0, smooth=5.0), batch(2)
    model.field.total_variation = lambda: torch.tensor(0.7)
    model.field.bends = lambda: [torch.tensor([0.0, 1, 4]), torch.zeros(5)]
    found = model.loss_coarse(**data)
    means = model.gaussians(data["time"]).means
    apart = [chamfer(*pair) for pair in zip(means, data["points"], strict=True)]
    assert found["loss_chamfer"].item() == pytest.approx(sum(apart).item(), rel=1e-5)
    assert found["loss_tv"].item() == pytest.approx(3 * 0.7)
    assert found["loss_smooth"].item() == pytest.approx(5 * 4 / 3)


def test_a_track_is_three_even_times_inside_the_video():
    model, times = build(smooth=5.0, rate=0.4), []
    track = torch.tensor([0.0, 1, 4])[:, None, None].expand(3, 2, 3)
    model.loss_coarse = lambda **_: {}
    model.gaussians = lambda time: (
        times.append(time) or types.SimpleNamespace(means=track)
    )
    for _ in range(40):
        found = model.loss_fine(time=torch.zeros(1))
    # six numbers a frame, each with a second difference of 2
    assert found["loss_track"].item() == pytest.approx(5 * 4)
    times = torch.stack(times)
    assert times.min() >= 0
    assert 0.5 < times.max() <= 1
    steps = times.diff(dim=1)
    torch.testing.assert_close(steps[:, 0], steps[:, 1])
    assert 0.2 < steps.max() <= 0.4


def test_the_weight_of_score_distillation():
    model = build(**PRIOR, sds=0.25, sds_share=0.5)
    model.distilled = lambda **_: torch.tensor(3.0)
    model.progress = Progress(step=1, steps=2, stage="fine")
    assert model.loss_fine(**batch(1))["loss_sds"].item() == pytest.approx(0.75)


def test_the_prior_sees_view_0_and_the_cameras_angles(monkeypatch):
    """And the picture goes against guess - noise, a mean over three frames."""
    model, data = build(**PRIOR, guidance=2.5), batch()
    asked, seen, kept = [], [], []
    like, encode = torch.randn_like, model.prior.encode
    monkeypatch.setattr(
        gen4d.torch, "randn_like", lambda x: kept.append(like(x)) or kept[-1]
    )

    def camera(up, right, far):
        asked.append(torch.stack([up, right], 1))
        return orbit(up, right, far)

    def picture(x):
        kept.append(encode(x))
        kept[-1].retain_grad()
        return kept[-1]

    monkeypatch.setattr(gen4d, "orbit", camera)
    model.prior.encode = picture
    model.prior.guided = lambda *given: seen.append(given) or kept[-1] + 0.5
    for _ in range(12):
        kept.clear()
        model.distilled(**data).backward()
        _, level, reference, angles, scale = seen[-1]
        assert scale == 2.5
        assert torch.equal(reference, data["reference"][:, :3])
        assert torch.equal(angles, asked[-1])
        signal = model.process.a[level].square()
        wanted = 2 * 0.5 * (1 - signal) / 3
        torch.testing.assert_close(kept[0].grad[:, 0, 0, 0], wanted)
    up, right = torch.cat(asked).abs().amax(0).tolist()
    assert 15 < up <= 30
    assert 90 < right <= 180


def test_the_prior_learns_noise_and_forgets_one_reference_in_ten(monkeypatch):
    model, data = build(**PRIOR), batch(2)
    shown, drawn = [], []
    like = torch.randn_like
    monkeypatch.setattr(
        gen4d.torch, "randn_like", lambda x: drawn.append(like(x)) or drawn[-1]
    )
    model.prior.noise = lambda z, level, seen, angles: shown.append(seen) or 0 * z
    data["angles"] = torch.zeros(2, 2)
    for step in (8, 9, 10, 19):
        model.progress = Progress(step=step, steps=20, stage="prior")
        found = model.loss_prior(**data)["loss_prior"]
        torch.testing.assert_close(found, drawn[-1].square().mean())
    assert [seen is None for seen in shown] == [False, True, False, True]
    assert torch.equal(shown[0], data["reference"][:, :3])


def test_stages_take_their_steps():
    model = build(**PRIOR, densify_every=2, sds_share=0.5)
    wrapper = FiniteOptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    data = batch()
    seen = {}
    for stage, steps in (("prior", 1), ("static", 2), ("coarse", 1), ("fine", 2)):
        for step in range(steps):
            model.progress = Progress(step=step, steps=steps, stage=stage)
            seen[stage, step] = model.train_step(data, wrapper)
    assert "loss_prior" in seen["prior", 0]
    assert "loss_track" in seen["fine", 0]
    assert "loss_sds" in seen["fine", 1]
    assert "loss_photometric" not in seen["fine", 1]
    assert all(torch.isfinite(logs["loss"]) for logs in seen.values())


def test_bad_settings_get_a_sentence():
    with pytest.raises(UserError, match="capacity=5"):
        build(capacity=5)
    with pytest.raises(UserError, match="needs its process"):
        build(prior=PRIOR["prior"])
    with pytest.raises(UserError, match="no prior to train"):
        build().loss_prior(*[None] * 3)
    with pytest.raises(UserError, match="part='dev'"):
        MovingObject("dev")


def test_the_object_and_its_labeller():
    train, test = MovingObject("train", scene=1), MovingObject("test", scene=1)
    assert len(train) == 4 * 4
    assert len(MovingObject("train", first_only=True)) == 4
    assert len(MovingObject("train", views="video")) == 4
    assert len(test) == 3 * 4 + 7
    assert {round(8 * float(item["time"])) for item in train.items} == {0, 2, 4, 6}
    assert torch.equal(train[0]["inputs"], train[0]["reference"])
    # a pseudo view is another error in each frame
    first, later = (next(i for i in train.items[k:]) for k in (1, 5))
    assert not torch.equal(first["inputs"], later["inputs"])
    assert test[0]["space"].item() + test[0]["between"].item() <= 1
    assert {bool(item["space"]) for item in test.items} == {True, False}
    pair = OtherObjects(2)[1]
    assert pair["inputs"].shape == pair["reference"].shape == (4, 24, 24)
    torch.testing.assert_close(
        pose(torch.tensor([[30.0, 90.0]])),
        torch.tensor([[-math.pi / 6, 1.0, 0.0, 0.0]]),
        atol=1e-6,
        rtol=0,
    )


def test_psnr_by_hand():
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[0] += 0.1
    b[1] += 0.2
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 13.9794]))
    metric = PSNR(groups=("late",))
    late = torch.tensor([False, True])
    metric.process({}, [dict(samples=a - 1, references=b, late=late)])
    found = metric.compute_metrics(metric.results)
    assert found["psnr"] == pytest.approx(16.9897, abs=1e-4)
    assert found["psnr_late"] == pytest.approx(13.9794, abs=1e-4)


def test_a_users_own_scene(tmp_path):
    folder = tmp_path / "views"
    folder.mkdir()
    with pytest.raises(UserError, match=r"no views\.json"):
        SceneViews(str(tmp_path))
    for frame in (0, 1):
        for view in (0, 1):
            colour = (255, 0, 51 * view, 255 if frame else 0)
            Image.new("RGBA", (4, 4), colour).save(folder / f"{frame}_{view}.png")
    (tmp_path / "views.json").write_text("[[0, 0], [30, 90]]")
    (tmp_path / "points").mkdir()
    np.save(tmp_path / "points/1.npy", np.ones((5, 3)))
    data = SceneViews(str(tmp_path))
    assert len(data) == 4
    assert len(SceneViews(str(tmp_path), first_only=True)) == 2
    item = data[3]
    assert item["inputs"][:, 0, 0].tolist() == pytest.approx([1, 0, 0.2, 1])
    assert item["reference"][:, 0, 0].tolist() == [1, 0, 0, 1]
    assert item["time"].item() == 0.5
    assert not item["video"]
    assert item["points"].shape == (5, 3)
    assert data[0]["inputs"][:, 0, 0].tolist() == [1, 1, 1, 0]  # clear: white
    (tmp_path / "views.json").write_text("[[0, 0]]")
    with pytest.raises(UserError, match="has 1 views"):
        SceneViews(str(tmp_path))
    (tmp_path / "views.json").write_text("[[0, 0, 2.5], [30, 90, 2.5]]")
    with pytest.raises(UserError, match=r"not \[elevation, azimuth\]"):
        SceneViews(str(tmp_path))
