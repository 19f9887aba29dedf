"""FST: hand-worked trajectories, what a virtual step leaves alone, the toy recipe."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from pld_mmdet.engine.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.fst import FST
from pld_mmdet.segmentation.losses import pixel_ce
from pld_mmdet.segmentation.mixing import class_masks
from pld_mmdet.segmentation.self_training import (
    ClassMixSelfTraining,
    CutMixSelfTraining,
)
from pld_mmdet.shared.mixing import box_masks, mix
from tests.segmentation.helpers import (
    ROOT,
    make_streets,
    run,
    same,
    semi_batch,
    tiny_segmentor,
    toy_config,
)


@MODELS.register_module(force=True)
class OneWeight(Method):
    """Loss theta^2 / 2, or of each batch: slope * theta. The teacher is not asked."""

    def __init__(self, theta=1.0, phi=2.0):
        super().__init__()
        self.student = nn.Linear(1, 1, bias=False)
        self.teacher = nn.Linear(1, 1, bias=False).requires_grad_(False)
        nn.init.constant_(self.student.weight, theta)
        nn.init.constant_(self.teacher.weight, phi)

    def loss(self, slope, **_):
        theta = self.student.weight.squeeze()
        if slope.isnan().any():
            return {"loss": 0.5 * theta**2}
        return {"loss": slope.mean() * theta}

    def predict(self, **_):
        return []


def one_weight(optimizer="SGD", lr=0.1, **kwargs):
    kwargs.setdefault("mu", 0.9)
    method = FST(dict(type="pld_mmdet.OneWeight"), **kwargs)
    method.t += 10_000  # past the warm-up of mu
    found = getattr(torch.optim, optimizer)(method.student.parameters(), lr=lr)
    return method, OptimWrapper(found)


def batch_of(*slopes):
    # labelled and unlabelled samples of the batches, as the sampler orders them
    values = torch.tensor(slopes or [float("nan")])
    return dict(
        slope=torch.cat([values, values]),
        labelled=torch.arange(2 * len(values)) < len(values),
    )


def weights(method):
    return method.student.weight.item(), method.teacher.weight.item()


def test_depth_three_by_hand():
    """phi 1.9, 1.8, 1.701, then 1.6038; theta 0.9 and not 0.9^4."""
    method, optimizer = one_weight(depth=3)
    seen = []
    loss = method.learner.loss
    method.learner.loss = lambda **b: seen.append(weights(method)) or loss(**b)
    method.train_step(batch_of(), optimizer)
    thetas, phis = zip(*seen, strict=True)
    assert phis == pytest.approx([1.9, 1.8, 1.701, 1.6038])
    assert thetas == pytest.approx([1, 0.9, 0.81, 1])
    assert weights(method) == pytest.approx((0.9, 1.6038))


def test_depth_zero_is_plain_self_training():
    method, optimizer = one_weight(depth=0)
    method.train_step(batch_of(), optimizer)
    assert weights(method) == pytest.approx((0.9, 1.9))


def test_width_three_by_hand():
    """Virtual 0.9, 0.8, 0.7: phi 1.88 before the real step, then one more move."""
    method, optimizer = one_weight(depth=0, width=3)
    seen = []
    loss = method.learner.loss
    method.learner.loss = lambda **b: seen.append(weights(method)) or loss(**b)
    method.train_step(batch_of(5.0, 1.0, 2.0, 3.0), optimizer)
    thetas, phis = zip(*seen, strict=True)
    assert thetas == pytest.approx([1, 1, 1, 1])
    assert phis == pytest.approx([2, 2, 2, 1.88])
    assert weights(method) == pytest.approx((0.5, 0.9 * 1.88 + 0.1 * 0.5))


def test_no_step_length_moves_the_teacher_k_plus_one_times():
    method, optimizer = one_weight(depth=3, lr=0.0)
    method.train_step(batch_of(), optimizer)
    assert weights(method) == pytest.approx((1, 0.9**4 * 2 + (1 - 0.9**4) * 1))


def test_student_does_not_feel_the_future_when_the_loss_ignores_the_teacher():
    paths = []
    for depth in (0, 3):
        method, optimizer = one_weight("AdamW", depth=depth)
        path = []
        for _ in range(5):
            method.train_step(batch_of(), optimizer)
            path.append(weights(method))
        paths.append(path)
    plain, ahead = paths
    assert [theta for theta, _ in plain] == [theta for theta, _ in ahead]
    assert all(a[1] < p[1] for a, p in zip(ahead, plain, strict=True))


def test_a_released_virtual_step_leaves_traces_in_the_optimizer():
    """restore_optimizer=False: AdamW counts four steps an iteration, as released."""
    counts = []
    for strict in (True, False):
        method, optimizer = one_weight("AdamW", depth=3, restore_optimizer=strict)
        method.train_step(batch_of(), optimizer)
        method.train_step(batch_of(), optimizer)
        state = optimizer.state_dict()["state"][0]
        counts.append(int(state["step"]))
    assert counts == [2, 8]


def test_mu_warms_up_by_evaluations_or_iterations():
    """mu_t = min(1 - 1/(t + 1), mu): t 1, 4, 998, 999."""
    from pld_mmdet.distill.ema import ramped_keep

    found = [ramped_keep(t, 0.999) for t in (1, 4, 998, 999, 2000)]
    assert found == pytest.approx([0.5, 0.8, 0.998999, 0.999, 0.999], abs=1e-6)
    for count, after in (("evaluations", [1, 5, 9]), ("iterations", [1, 2, 3])):
        method, optimizer = one_weight(depth=3, count=count)
        method.t.zero_()
        times = []
        for _ in range(3):
            method.train_step(batch_of(), optimizer)
            times.append(int(method.t))
        assert times == after


def test_first_iteration_is_plain_from_a_copy():
    """theta 1 -> 0.9; the released teacher then goes half the way, others stay at 1."""
    for first_move, phi in ((False, 1.0), (True, 0.95)):
        method, optimizer = one_weight(depth=3, first_move=first_move)
        method.t.zero_()
        method.train_step(batch_of(), optimizer)
        assert weights(method) == pytest.approx((0.9, phi))


@pytest.mark.parametrize("kind", ["CutMix", "ClassMix"])
def test_virtual_loop_leaves_student_optimizer_and_teacher_gradients(kind):
    """Everything of the student is as before the look ahead, to the bit."""
    learner = dict(type=f"pld_mmdet.{kind}SelfTraining", segmentor=tiny_segmentor())
    if kind == "ClassMix":
        learner.update(ignore_rows=(1, 2), things=(1, 2))
    method = FST(learner, depth=2, mu=0.9)
    method.init_weights()
    method.train()
    optimizer = OptimWrapper(
        torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    )
    method.train_step(semi_batch(), optimizer)
    before = {k: v.clone() for k, v in method.student.state_dict().items()}
    known = {
        k: {n: v.clone() for n, v in s.items()}
        for k, s in optimizer.optimizer.state.items()
    }
    checked = []
    move = method._move_teacher

    def spy():
        move()
        checked.append(same(before, method.student.state_dict()))

    method._move_teacher = spy
    step = method.learner.loss
    calls = []

    def loss(**batch):
        calls.append(
            same(before, method.student.state_dict())
            and all(
                torch.equal(v, optimizer.optimizer.state[k][n])
                for k, s in known.items()
                for n, v in s.items()
            )
        )
        return step(**batch)

    method.learner.loss = loss
    log = method.train_step(semi_batch(), optimizer)
    assert checked == [True, False, False]
    assert calls == [True, False, True]  # virtual, virtual, real
    assert all(torch.isfinite(value) for value in log.values())
    assert not same(before, method.student.state_dict())
    teacher = set(method.teacher.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teacher)
    assert not teacher & set(optimizer.optimizer.state)


def test_a_labelled_stage_is_one_plain_step_and_does_not_count():
    method, optimizer = one_weight(depth=3, first_move=False)
    method.t.zero_()
    method.enter_stage("labelled")
    method.train_step(batch_of(), optimizer)
    assert weights(method) == pytest.approx((0.9, 2))
    assert method.t == 0
    method.enter_stage("self_training")
    method.train_step(batch_of(), optimizer)  # plain, from a copy of 0.9
    assert weights(method) == pytest.approx((0.81, 0.9))
    learner = CutMixSelfTraining(tiny_segmentor())
    learner.labelled_only = True
    assert learner.loss(**semi_batch()).keys() == {"loss_ce"}


def test_depth_and_width_exclude_each_other():
    with pytest.raises(UserError, match="depth=3, width=2"):
        FST(dict(type="pld_mmdet.OneWeight"), depth=3, width=2)
    with pytest.raises(UserError, match="count='steps'"):
        FST(dict(type="pld_mmdet.OneWeight"), count="steps")
    method, optimizer = one_weight(depth=0, width=3)
    with pytest.raises(UserError, match="cannot part 2 labelled"):
        method.train_step(batch_of(1.0, 2.0), optimizer)
    optimizer._accumulative_counts = 2
    with pytest.raises(UserError, match="accumulate"):
        method.train_step(batch_of(1.0, 2.0, 3.0, 4.0), optimizer)


def test_pixel_ce_and_its_divisors():
    """Two pixels of ln 2 and one ignored: ln 2 over valid ones, 2/3 of it over all."""
    logits, targets = torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 255]]])
    assert pixel_ce(logits, targets).item() == pytest.approx(0.693147)
    assert pixel_ce(logits, targets, over="all").item() == pytest.approx(0.462098)
    weight = torch.tensor([[[1.0, 0.0, 1.0]]])
    assert pixel_ce(logits, targets, weight).item() == pytest.approx(0.3465736)
    assert pixel_ce(logits, torch.full((1, 1, 3), 255)).item() == 0


def test_masks_and_mix():
    masks = box_masks(200, (20, 40), area=0.5)
    assert masks.float().mean().item() == pytest.approx(0.5, abs=0.02)
    targets = torch.tensor([[[0, 1, 2]], [[3, 255, 255]]])
    chosen = class_masks(targets)
    assert not chosen[targets == 255].any()
    assert 0 < chosen.sum() < 4
    ours, theirs = torch.zeros(2, 3, 1, 3), torch.ones(2, 3, 1, 3)
    assert mix(ours, theirs, chosen).mean(1).bool().equal(chosen)


def test_cutmix_learner_scales_up_what_it_keeps():
    """B H W / kept times the mean over kept; labels of the unlabelled are not read."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=100.0)
    learner.train()

    def loss(batch, **changes):
        fresh = copy.deepcopy(learner)  # a pass moves the teacher's statistics
        vars(fresh).update(changes)
        return fresh.loss(**batch)["loss_unlabelled"]

    batch = semi_batch()
    whole, half = loss(batch), loss(batch, drop_percent=50.0)
    assert half != whole
    threefold = loss(batch, drop_percent=50.0, weight=3.0)
    assert threefold.item() == pytest.approx(3 * half.item())
    batch["targets"][2:] = 1
    assert loss(batch).equal(whole)


def test_classmix_confidence_is_one_number_for_the_batch():
    learner = ClassMixSelfTraining(
        tiny_segmentor(), tau=0.0, ignore_rows=(0, 0), feature_weight=0.0
    )
    learner.train()
    assert learner.loss(**semi_batch())["confident"] == 1
    learner.tau = 1.1
    losses = learner.loss(**semi_batch())
    assert losses["confident"] == 0
    assert losses["loss_mixed"] > 0  # the pasted source pixels weigh 1


_NORMS = nn.modules.batchnorm._NormBase


def fixed_logits(monkeypatch, learner, table):
    """Networks that answer constants: {network: [C] logits at every pixel}."""
    asked, modes = [], learner.__dict__.setdefault("modes", {})

    def answer(segmentor, images, *_):
        name = "teacher" if segmentor is learner.teacher else "student"
        asked.append((name, images.clone()))
        norms = [m.training for m in segmentor.modules() if isinstance(m, _NORMS)]
        modes.setdefault(name, []).append((segmentor.training, *sorted(set(norms))))
        row = torch.tensor(table[name])
        return row[None, :, None, None].expand(len(images), -1, *images.shape[-2:])

    monkeypatch.setattr("pld_mmdet.segmentation.self_training.full_logits", answer)
    monkeypatch.setattr(learner.student, "extract_feat", lambda images: images)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.self_training.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    monkeypatch.setattr(
        "pld_mmdet.segmentation.segmentors.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    return asked


def two_and_two():
    """Two source images (0 and 10), two targets (20 and 30), 4 x 8."""
    values = torch.tensor([0.0, 10, 20, 30])[:, None, None, None]
    targets = torch.zeros(4, 4, 8, dtype=torch.long)
    targets[:2, :, :2] = 255  # a quarter of the source's pixels has no label
    return dict(
        inputs=values.expand(4, 3, 4, 8).clone(),
        targets=targets,
        labelled=torch.tensor([True, True, False, False]),
    )


def test_classmix_by_hand(monkeypatch):
    """The teacher's class 1 labels the target; q and the rows weigh it; source is 1.

    Student: p = softmax(2, 0), CE of class 0 is .126928, of class 1 2.126928. Teacher:
    p(1) = softmax(0, 3)_1 = .952574, so q = 1 at tau .95 and 0 at .96. Nothing is
    pasted. The first of 4 rows and the last have weight 0: a half of 2.126928.
    """
    learner = ClassMixSelfTraining(
        tiny_segmentor(), tau=0.95, ignore_rows=(1, 1), feature_weight=0.0
    )
    learner.train()
    table = dict(student=[2.0, 0.0], teacher=[0.0, 3.0])
    asked = fixed_logits(monkeypatch, learner, table)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.self_training.class_masks",
        lambda truth: torch.zeros(truth.shape, dtype=torch.bool),
    )
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(()))  # no jitter
    losses = learner.loss(**two_and_two())
    assert losses["loss_ce"].item() == pytest.approx(0.75 * 0.126928, abs=1e-6)
    assert losses["loss_mixed"].item() == pytest.approx(0.5 * 2.126928, abs=1e-6)
    assert losses["confident"] == 1
    labelled = [images for name, images in asked if name == "teacher"]
    assert [images.unique().tolist() for images in labelled] == [[20, 30]]
    # its batch norms use the batch, nothing else of it trains
    assert learner.modes["teacher"] == [(False, True)]
    assert not learner.teacher.backbone.layer1[0].bn1.training
    learner.tau = 0.96
    assert learner.loss(**two_and_two())["loss_mixed"] == 0
    learner.source_over = "valid"
    found = learner.loss(**two_and_two())["loss_ce"].item()
    assert found == pytest.approx(0.126928, abs=1e-6)
    # three quarters pasted: their label is 0, their weight 1, wherever they are
    monkeypatch.setattr(
        "pld_mmdet.segmentation.self_training.class_masks", lambda truth: truth == 0
    )
    found = learner.loss(**two_and_two())["loss_mixed"].item()
    assert found == pytest.approx(0.75 * 0.126928, abs=1e-6)
    mixed = asked[-1][1]
    assert mixed[0, 0, 0].tolist() == [20, 20, 0, 0, 0, 0, 0, 0]


def test_cutmix_by_hand(monkeypatch):
    """The teacher labels unlabelled images alone and drops by its own entropy."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=100.0)
    learner.train()
    table = dict(student=[2.0, 0.0], teacher=[0.0, 3.0])
    asked = fixed_logits(monkeypatch, learner, table)
    losses = learner.loss(**two_and_two())
    assert losses["loss_ce"].item() == pytest.approx(0.126928, abs=1e-6)
    assert losses["loss_unlabelled"].item() == pytest.approx(2.126928, abs=1e-6)
    found = [(name, images.unique().tolist()) for name, images in asked]
    everything = [0, 10, 20, 30]
    # it labels in evaluation mode; the second pass moves its statistics
    assert learner.modes["teacher"] == [(False, False), (True, True)]
    assert not learner.teacher.training
    assert found[0] == ("teacher", [20, 30])
    assert found[1] == ("teacher", everything)
    assert [name for name, _ in found] == ["teacher", "teacher", "student"]
    # with probability 1 each image has a box of its neighbour
    learner.cutmix = 1.0
    monkeypatch.setattr(
        "pld_mmdet.segmentation.self_training.box_masks",
        lambda count, size: (torch.arange(8) < 3).expand(count, 4, 8),
    )
    learner.loss(**two_and_two())
    mixed = asked[-2][1]
    assert mixed[2, 0, 0].tolist() == [30] * 3 + [20] * 5
    assert mixed[3, 0, 0].tolist() == [20] * 3 + [30] * 5


def test_the_kept_half_is_the_sure_half_and_weighs_twice(monkeypatch):
    """Doubt rises with the column: the left half keeps its labels."""
    learner = CutMixSelfTraining(tiny_segmentor(), cutmix=0.0, drop_percent=50.0)
    learner.train()
    ramp = torch.linspace(4, 0.5, 8)

    def answer(segmentor, images, *_):
        sure = ramp if segmentor is learner.teacher else ramp.flip(0)
        shape = (len(images), 1, 4, 8)
        return torch.cat([torch.zeros(shape), sure.expand(shape)], 1)

    monkeypatch.setattr("pld_mmdet.segmentation.self_training.full_logits", answer)
    monkeypatch.setattr(learner.student, "extract_feat", lambda images: images)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.self_training.head_logits",
        lambda segmentor, images, size, *_: answer(segmentor, images),
    )
    found = learner.loss(**two_and_two())["loss_unlabelled"].item()
    student = torch.nn.functional.softplus(-ramp.flip(0))  # CE of class 1
    assert found == pytest.approx(2 * student[:4].mean().item(), rel=1e-5)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return make_streets(tmp_path_factory.mktemp("fst") / "data")


def fst_config(streets, work_dir):
    cfg = toy_config("fst/toy.py", streets, work_dir)
    labelled, unlabelled = cfg.train_dataloader.dataset.dataset.datasets
    labelled.indices, unlabelled.indices = [0, 6], [1, 2, 3, 4, 5]
    for stage, length in zip(cfg.train_cfg.stages, (1, 3), strict=True):
        stage.max_iters = length
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    return cfg


def test_toy_recipe_resumes_to_the_bit(streets, tmp_path):
    whole = run(fst_config(streets, tmp_path / "whole"))
    metrics = whole.val_loop.run()
    assert 0 < metrics["mIoU"] < 1
    part = fst_config(streets, tmp_path / "part")
    part.load_from, part.resume = str(tmp_path / "whole/iter_2.pth"), True
    resumed = run(part)
    assert resumed.iter == 4
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    saved = torch.load(tmp_path / "whole/iter_4.pth", weights_only=True)
    assert same(saved["state_dict"], whole.model.state_dict())


def test_paper_config_steps():
    cfg = Config.fromfile(ROOT / "configs/fst/paper.py")
    learner = cfg.model.learner
    learner.segmentor.backbone.update(depth=18, base_channels=4, stem_channels=4)
    learner.segmentor.backbone.init_cfg = None
    learner.encoder.update(depth=18, base_channels=4, stem_channels=4, init_cfg=None)
    learner.segmentor.decode_head.in_channels = 32
    learner.ignore_rows = (2, 8)
    method = MODELS.build(cfg.model)
    method.train()
    weights = [p for p in method.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.AdamW(weights, lr=6e-5))
    for _ in range(2):
        log = method.train_step(semi_batch(classes=19), optimizer)
    # as released: AdamW counts virtual steps too
    assert int(optimizer.optimizer.state[weights[0]]["step"]) == 1 + 4
    assert all(torch.isfinite(value) for value in log.values())
    assert int(method.t) == 1 + 4
    head = method.learner.student.decode_head
    assert [tuple(c.dilation) for c in head.classifiers] == [(6, 6), (12, 12)]
    assert not head.align_corners
