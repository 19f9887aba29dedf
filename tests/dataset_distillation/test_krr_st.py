"""KRR-ST: hand-worked regression, where gradients stop, the pool, kill and resume."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DATASETS, MODELS, RUNNERS
from torch import nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.distilled import DistilledPairs, SyntheticSet
from pld_mmdet.dataset_distillation.krr_st import kernel_ridge
from pld_mmdet.distill.contrastive import barlow_twins_loss
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.options import parse_options
from pld_mmdet.shared.views import random_view
from tests.engine.processes import Tool
from tests.engine.state.test_resume import differences
from tests.toy_run import ROOT, enter, toy_config, train

POINTS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
TARGETS = torch.tensor([[1.0], [3.0]])


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/krr_st/toy.py").model
    cfg.update(size=6, inner_steps=3, **changes)
    model = MODELS.build(cfg)
    model.start_stage("target", None, None)
    model.start_stage("distill", Loader(), None)
    return model


class Loader:
    dataset = DATASETS.build(dict(type="pld_mmdet.Digits", part="val"))


def real(n=8):
    return torch.stack([Loader.dataset[i]["inputs"] for i in range(n)])


def optimizers(model):
    parts = {f"pool.{i}": network for i, network in enumerate(model.pool)}
    parts["synthetic"] = model.synthetic
    return OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9))
            for name, part in parts.items()
        }
    )


def weights(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_regression_by_hand():
    """K = [[2, 1], [1, 2]], lambda = 4e-6: almost through both points."""
    guess = kernel_ridge(torch.ones(1, 3), POINTS, TARGETS)
    assert guess.item() == pytest.approx(2.666663, abs=2e-6)
    known = kernel_ridge(POINTS, POINTS, TARGETS)
    assert known.flatten().tolist() == pytest.approx([1.000001, 2.999993], abs=2e-6)


def test_regression_ignores_the_order_of_pairs():
    queries, points, targets = torch.randn(5, 8), torch.randn(4, 8), torch.randn(4, 3)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(
        kernel_ridge(queries, points, targets),
        kernel_ridge(queries, points[order], targets[order]),
        atol=1e-5,
    )


def test_penalty_carries_no_gradient():
    """With the trace detached, scaling all features by c leaves the guess as it is."""
    points = POINTS.double().requires_grad_()
    queries = torch.ones(1, 3)
    kernel_ridge(queries, points, TARGETS, ridge=0.5).sum().backward()
    flat = points.detach().flatten()

    def guess(values, trace):
        found = values.reshape(2, 3).float()
        kernel = found @ found.T + 0.5 * trace * torch.eye(2)
        return (queries @ found.T @ torch.linalg.solve(kernel, TARGETS)).sum().double()

    for i in range(6):
        step = torch.zeros(6, dtype=torch.double)
        step[i] = 1e-3
        slope = (guess(flat + step, 4.0) - guess(flat - step, 4.0)) / 2e-3
        assert points.grad.flatten()[i].item() == pytest.approx(slope.item(), abs=2e-3)


def test_nothing_to_learn_when_real_and_synthetic_agree():
    model = build()
    images = model.synthetic.images.detach().clone()
    assert torch.allclose(
        model.synthetic.targets, model.target.network.backbone(images), atol=1e-6
    )
    same = model.outer_loss(model.pool[0], images).item()
    assert same < 1e-6
    assert model.outer_loss(model.pool[0], real()).item() > 10 * same


def test_outer_gradient_reaches_the_pairs_only():
    model = build()
    model.train()
    before = {k: v.clone() for k, v in model.pool[0].state_dict().items()}
    model.outer_loss(model.pool[0], real()).backward()
    assert model.synthetic.images.grad.abs().sum() > 0
    assert model.synthetic.targets.grad.abs().sum() > 0
    others = [p for n, p in model.named_parameters() if not n.startswith("synthetic")]
    assert all(p.grad is None for p in others)
    assert all(p.requires_grad for p in model.pool.parameters())
    after = model.pool[0].state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)  # statistics too
    assert model.pool[0].training


class Says(nn.Module):
    """Features of an image are its first pixels, times a factor; the answer is one."""

    def __init__(self, factor, width):
        super().__init__()
        self.factor, self.width, self.modes = factor, width, []

    def backbone(self, x):
        self.modes.append(self.training)
        return self.factor * x.flatten(1)[:, : self.width]

    def forward(self, x):
        return self.backbone(x) + 1


def pairs(targets):
    """Black images, the second one with a first pixel of 1."""
    found = SyntheticSet(len(targets), (1, 8, 8), 1)
    images = torch.zeros(len(targets), 1, 8, 8)
    images[1, 0, 0, 0] = 1.0
    found.fill(images, torch.tensor(targets))
    return found


def test_outer_loss_by_hand():
    """A network that sees the first pixel; pairs (0, 1) and (1, 3): 1 + 2 pixel.

    At real pixels 2 and -1 the regression says 5 and -1, the target 3 * pixel says 6
    and -3: the mean of 1 and 4. The network is asked in evaluation mode.
    """
    model = build()
    model.synthetic = pairs([[1.0], [3.0]])
    network, model.target.network = Says(1.0, 1), Says(3.0, 1)
    network.train()
    images = torch.zeros(2, 1, 8, 8)
    images[:, 0, 0, 0] = torch.tensor([2.0, -1.0])
    assert model.outer_loss(network, images).item() == pytest.approx(2.5, abs=1e-3)
    assert network.modes == [False, False]
    assert network.training


def test_inner_and_pretraining_losses_by_hand():
    """Answers pixel + 1 = 1 and 2 beside targets 3 and 7: (4 + 25) / 2."""
    model = build(batch_size=2)
    model.synthetic = pairs([[3.0], [7.0]])
    model.student = Says(1.0, 1)
    enter(model, "pretrain")
    assert model.loss(real())["loss_pairs"].item() == pytest.approx(14.5)
    model.pool[0] = Says(1.0, 1)
    model.pool[0].unused = nn.Parameter(torch.zeros(1))
    found = []
    wrapper = OptimWrapper(torch.optim.SGD([model.pool[0].unused], lr=0.1))
    wrapper.update_params = lambda loss: found.append(loss.item())
    before = int(model.steps[0])
    logged = model._inner_step(0, {"pool.0": wrapper})
    assert found == [pytest.approx(14.5)]
    assert logged.item() == pytest.approx(14.5)
    assert int(model.steps[0]) == before + 1


def test_an_outer_step_before_the_inner_one(monkeypatch):
    """The network of the outer loss learns afterwards, from the moved pairs."""
    model, order = build(pool_size=2), []
    model.steps.fill_(0)
    outer, inner = model.outer_loss, model._inner_step
    start = weights(model.synthetic)

    def spy_outer(network, images):
        order.append(("outer", [n is network for n in model.pool].index(True)))
        return outer(network, images)

    def spy_inner(number, wrapper):
        moved = not torch.equal(start, weights(model.synthetic))
        order.append(("inner", number, moved))
        return inner(number, wrapper)

    monkeypatch.setattr(model, "outer_loss", spy_outer)
    monkeypatch.setattr(model, "_inner_step", spy_inner)
    model.train_step({"inputs": real()}, optimizers(model))
    (kind, number), (then, same, moved) = order
    assert (kind, then, moved) == ("outer", "inner", True)
    assert number == same


def test_outer_steps_lower_the_outer_loss():
    model = build()
    optimizer = torch.optim.Adam(model.synthetic.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = model.outer_loss(model.pool[0], real(64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("official", [False, True])
def test_pool_grows_old_and_starts_anew(official):
    model = build(pool_size=1, official_reset=official)
    wrappers, data = optimizers(model), {"inputs": real()}
    torch.manual_seed(1)
    model.train_step(data, wrappers)
    first = int(model.steps)  # warm-up of 1 to 3 steps, and one more below 3
    assert 2 <= first <= 3
    ages, moved = [], []
    for _ in range(6):
        before = weights(model.pool[0])
        logs = model.train_step(data, wrappers)
        ages.append(int(model.steps))
        moved.append("inner" in logs)
        assert not torch.equal(before, weights(model.pool[0]))
    start = [3] * (3 - first)
    assert ages == (start + [3] * 6 if official else [*start, 0, 1, 2, 3, 0, 1])[:6]
    assert moved == [not official and age != 0 for age in ages] or first == 2
    if official:  # a random net for good, without momentum
        assert not wrappers["pool.0"].optimizer.state
        assert not moved[-1]


def test_reset_network_has_fresh_statistics():
    model = build(pool_size=1)
    model.steps[0] = 3
    model.pool[0](torch.randn(8, 1, 8, 8))
    norm = model.pool[0].backbone[1]
    assert norm.running_mean.abs().sum() > 0
    model.train_step({"inputs": real()}, optimizers(model))
    assert not norm.running_mean.any()
    assert torch.equal(norm.running_var, torch.ones(16))
    assert int(model.steps) == 0


def test_synthetic_images_are_raw():
    """Batches are (pixels - 0.5) / 0.25: the pairs start as the pixels themselves."""

    class Normalised:
        dataset = [dict(inputs=(real(8)[i] - 0.5) / 0.25) for i in range(8)]

    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/krr_st/toy.py").model
    cfg.update(size=8, mean=[0.5], std=[0.25])
    model = MODELS.build(cfg)
    model.start_stage("target", None, None)
    model.start_stage("pretrain", Normalised(), None)
    found = model.synthetic.images.flatten(1).sum(1).sort().values
    assert torch.allclose(found, real(8).flatten(1).sum(1).sort().values, atol=1e-4)
    # g sees them normalised
    wanted = model.target.network.backbone((model.synthetic.images - 0.5) / 0.25)
    assert torch.allclose(model.synthetic.targets, wanted, atol=1e-5)


def test_barlow_twins_by_hand():
    """Two features, perfectly correlated: C is all ones; 2 weight for the others."""
    z = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins_loss(z, z, 0.5).item() == pytest.approx(1.0, abs=1e-3)
    z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    assert barlow_twins_loss(z, z, 0.5).item() == pytest.approx(0.0, abs=1e-3)
    assert barlow_twins_loss(z, -z, 0.5).item() == pytest.approx(8.0, abs=1e-3)


def test_views_are_shifted_images():
    picture = torch.zeros(64, 1, 5, 5)
    picture[:, :, 2, 2] = 1.0
    torch.manual_seed(0)
    views = random_view(picture, shift=1, noise=0.0)
    assert torch.equal((views > 0).flatten(1).sum(1), torch.ones(64))
    assert views.amax((1, 2, 3)).min() >= 0.6
    place = (views > 0).flatten(1).float().argmax(1)
    assert set((place // 5).tolist()) == set((place % 5).tolist()) == {1, 2, 3}


def test_says_what_is_missing():
    cfg = Config.fromfile(ROOT / "configs/krr_st/toy.py").model
    model = MODELS.build(cfg)
    with pytest.raises(UserError, match="no stage trained the target"):
        model.start_stage("distill", Loader(), None)
    model.start_stage("target", None, None)
    with pytest.raises(UserError, match="no real images to start from"):
        model.start_stage("distill", None, None)
    cfg.size = 500
    model = MODELS.build(cfg)
    model.start_stage("target", None, None)
    with pytest.raises(UserError, match="500 pairs cannot start from 360"):
        model.start_stage("distill", Loader(), None)


def test_each_label_draw_tunes_its_own_copy():
    """A copy gets the gradient that it would get alone; predict gives all answers."""
    model = build(subsets=2)
    with torch.no_grad():
        for p in model.student.parameters():
            p.mul_(1.5)  # as if pre-trained
    model.start_stage("finetune", None, None)
    enter(model, "finetune")
    images, labels = real(8), torch.arange(8)
    number = torch.tensor([0, 1, 0, 1, 0, 1, 1, 1])
    model.train()
    sum(model.loss(images, labels, subset=number).values()).backward()
    for draw in (0, 1):
        network, mine = model.tuned[draw].backbone, number == draw
        first = network[0].weight
        assert torch.equal(first, model.student.backbone[0].weight)
        together = first.grad.clone()
        logits = model.classifiers[draw](network(images[mine]))
        (alone,) = torch.autograd.grad(F.cross_entropy(logits, labels[mine]), first)
        assert torch.allclose(together, alone, atol=1e-7)
    assert all(p.grad is None for p in model.student.parameters())
    answers = model.predict(images, labels)
    assert len(answers) == 2
    assert not torch.equal(answers[0]["logits"], answers[1]["logits"])
    assert all(torch.equal(answer["targets"], labels) for answer in answers)


SHORT = [
    "train_cfg.stages.0.max_iters=1",
    "train_cfg.stages.1.max_iters=3",
    "train_cfg.stages.2.max_iters=1",
    "train_cfg.stages.3.max_iters=1",
]


def test_killed_inside_distillation(tmp_path):
    """SIGKILL before iteration 3: pairs, pool and four optimizers go on unchanged."""
    cfg = toy_config("configs/krr_st/toy.py", tmp_path, *SHORT)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=-1)
    cfg.custom_imports = dict(imports=["tests.engine.toy"])
    cfg.custom_hooks.append(dict(type="PauseHook"))
    cfg.pop("work_dir")
    path, log = tmp_path / "toy.py", tmp_path / "log"
    cfg.dump(path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = Tool("train", path, "--work-dir", killed, log=log, TOY_PAUSE=3)
    run.wait_for(killed / "paused")
    run.kill()
    assert not (killed / "iter_4.pth").exists()
    Tool("train", path, "--work-dir", killed, "--resume", log=log).finish()
    Tool("train", path, "--work-dir", whole, log=log).finish()
    a, b = (
        torch.load(folder / "iter_6.pth", weights_only=True)
        for folder in (whole, killed)
    )
    assert differences(a["state_dict"], b["state_dict"]) == []
    assert differences(a["optimizer"], b["optimizer"]) == []
    between = torch.load(killed / "iter_4.pth", weights_only=True)
    assert between["optimizer"].keys() == {"synthetic", "pool.0", "pool.1", "pool.2"}


@pytest.mark.parametrize("name", ["plain", "random_pairs"])
def test_rivals_train(tmp_path, name):
    number = 1 if name == "plain" else 3
    stages = [f"train_cfg.stages.{i}.max_iters=1" for i in range(number)]
    options = ["train_dataloader.batch_size=8", *stages]
    cfg = toy_config(f"configs/krr_st/{name}.py", tmp_path, *options, walk=False)
    model = train(cfg).model
    assert bool(model.filled) == (name != "plain")
    assert (model.steps == -1).all()


def test_any_config_trains_on_the_exported_set(tmp_path):
    """A plain mmengine run on distilled.pth; the same set read from a checkpoint."""
    train(toy_config("configs/krr_st/toy.py", tmp_path / "distil"))
    file = tmp_path / "distil/distilled.pth"
    pairs = DistilledPairs(file)
    assert len(pairs) == 50
    assert pairs[3]["inputs"].shape == (1, 8, 8)
    assert pairs[3]["targets"].shape == (64,)
    again = DistilledPairs(tmp_path / "distil/iter_4.pth")
    assert torch.equal(again.images, pairs.images)
    pictures = DistilledPairs(tmp_path / "distil/distilled")
    span = pairs.images.max() - pairs.images.min()
    assert (pictures.images - pairs.images).abs().max() <= span / 500
    assert torch.equal(pictures.targets, pairs.targets)
    cfg = Config.fromfile(ROOT / "configs/_base_/toy_runtime.py")
    network = dict(type="pld_mmdet.MLP", sizes=(64, 64))
    cfg.merge_from_dict(
        dict(
            model=dict(type="PairRegression", network=network),
            train_dataloader=dict(
                dataset=dict(type="pld_mmdet.DistilledPairs", file=str(file)),
                sampler=dict(type="pld_mmdet.ResumableSampler"),
                collate_fn=dict(type="default_collate"),
                batch_size=10,
            ),
            optim_wrapper=dict(optimizer=dict(type="Adam", lr=0.01)),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=3, val_interval=4),
            work_dir=str(tmp_path / "student"),
            experiment_name="krr_st_student",
        )
    )
    assert RUNNERS.build(cfg).train() is not None
    bad = tmp_path / "bad.pth"
    torch.save({"images": torch.zeros(2, 1)}, bad)
    with pytest.raises(UserError, match="holds no distilled set"):
        DistilledPairs(bad)


def pair_regression():
    from pld_mmdet.engine.run.method import Method

    @MODELS.register_module(force=True)
    class PairRegression(Method):
        def __init__(self, network):
            super().__init__()
            self.network = MODELS.build(network)

        def loss(self, inputs, targets, **_):
            return {"loss": F.mse_loss(self.network(inputs), targets)}

        def predict(self, **_):
            raise NotImplementedError


pair_regression()


def write_cifar(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("train.bin", "test.bin"):
        table = rng.integers(0, 256, (12, 2 + 3072), dtype=np.uint8)
        table[:, :2] %= 100
        table.tofile(folder / name)


def test_paper_config_steps(tmp_path):
    write_cifar(tmp_path / "cifar")
    cfg = Config.fromfile(ROOT / "configs/krr_st/paper.py")
    small = dict(blocks=(1, 1), widths=(4, 8), stem=4)
    cfg.model.target.update(small)
    target = MODELS.build(cfg.model.target)
    torch.save({"state_dict": target.state_dict()}, tmp_path / "target.pth")
    cfg.model.update(target_checkpoint=str(tmp_path / "target.pth"), target_dim=8)
    cfg.model.update(size=4, inner_steps=2, batch_size=3)
    cfg.model.network.widths = (4, 8, 8)
    loaders = [cfg.train_dataloader, cfg.test_dataloader]
    stages = cfg.train_cfg.stages
    loaders += [stages[0].work_dataloader, stages[2].dataloader]
    for loader in loaders:
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        inner = loader.dataset.get("dataset", loader.dataset)
        inner.data_root = str(tmp_path / "cifar")
    for stage, length in zip(stages, (2, 1, 1), strict=True):
        stage.max_iters = length
    cfg.merge_from_dict(parse_options(["default_hooks.checkpoint.interval=4"]))
    cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), "krr_st_paper"
    runner = RUNNERS.build(cfg)
    runner.train()
    assert torch.equal(weights(runner.model.target), weights(target))
    assert len(DistilledPairs(tmp_path / "run/distilled.pth")) == 4
    assert len(runner.model.pool) == 10
