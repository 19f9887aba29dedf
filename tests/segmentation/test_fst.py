"""FST: hand-worked trajectories, what a virtual step leaves alone, the toy recipe."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.fst import FST, VirtualStepDDP
from pld_mmdet.segmentation.learners.self_training import CutMixSelfTraining
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
    log = method.train_step(batch_of(), optimizer)
    assert log["loss"].item() == pytest.approx(0.5)  # of the real step
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


def test_a_part_of_a_wide_batch_has_labelled_and_unlabelled_samples():
    """(5, 7) is the main part, slope 6; (1, 3) the other one, slope 2."""
    method, optimizer = one_weight(depth=0, width=1)
    batch = batch_of(5.0, 1.0)
    batch["slope"][2:] = torch.tensor([7.0, 3.0])
    method.train_step(batch, optimizer)
    phi = 0.9 * 2 + 0.1 * 0.8
    assert weights(method) == pytest.approx((0.4, 0.9 * phi + 0.1 * 0.4))


def test_parts_of_a_wide_batch():
    """Labelled samples 0 2 3 4 and the others, 1 5, in two parts; lists too."""
    method, _ = one_weight(depth=0, width=1)
    labelled = torch.tensor([True, False, True, True, True, False])
    batch = dict(
        labelled=labelled, inputs=torch.arange(12).view(6, 2), path=list("012345")
    )
    one, two = method._batches(batch)
    assert (one["path"], two["path"]) == (list("021"), list("345"))
    assert one["inputs"].tolist() == [[0, 1], [4, 5], [2, 3]]
    assert two["labelled"].tolist() == [True, True, False]


def test_the_wrapper_takes_this_process_device_and_is_the_network(monkeypatch):
    seen, cuda = [], torch.cuda

    def start(self, module, device_ids):
        nn.Module.__init__(self)
        self.module = module
        seen.append(device_ids)

    monkeypatch.setattr(MMDistributedDataParallel, "__init__", start)
    model = SimpleNamespace(train_step=lambda *args, network: (*args, network))
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    wrapper = VirtualStepDDP(model, device_ids=[1])
    assert wrapper.train_step("data", "optimizer") == ("data", "optimizer", wrapper)
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "current_device", lambda: 3)
    VirtualStepDDP(model), VirtualStepDDP(model, device_ids=[1])
    assert seen == [None, [3], [1]]


@pytest.mark.parametrize(
    ("ahead", "strict", "policy", "ours", "theirs"),
    [
        (dict(depth=3), True, "copy", 1, 3),  # the look ahead ends at 3
        (dict(depth=3), False, "copy", 4, 3),
        (dict(depth=3), True, "average", 1, 0.9 * (0.9 * 0.1 + 0.2) + 0.3),
        (dict(depth=0, width=2), True, "copy", 1, 1),
        (dict(depth=0, width=2), False, "copy", 3, 3),
    ],
)
def test_buffers_by_hand(ahead, strict, policy, ours, theirs):
    """A buffer counts the student's passes, as batch-norm statistics follow them."""
    method, optimizer = one_weight(**ahead, restore_buffers=strict, buffers=policy)
    for network in (method.student, method.teacher):
        network.register_buffer("passes", torch.zeros(()))
    loss = method.learner.loss

    def counted(**batch):
        method.student.passes += 1
        return loss(**batch)

    method.learner.loss = counted
    slopes = (5.0, 1.0, 2.0) if "width" in ahead else ()
    method.train_step(batch_of(*slopes), optimizer)
    assert method.student.passes.item() == ours
    assert method.teacher.passes.item() == pytest.approx(theirs)


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
    batch = batch_of(1.0, 2.0)
    batch["labelled"][2] = True
    with pytest.raises(UserError, match="part 3 labelled and 1 unlabelled samples"):
        method.train_step(batch, optimizer)
    optimizer._accumulative_counts = 2
    with pytest.raises(UserError, match="accumulate"):
        method.train_step(batch_of(1.0, 2.0, 3.0, 4.0), optimizer)


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
