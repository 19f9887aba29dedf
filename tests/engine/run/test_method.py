"""The frame: stages by name, one step, default answers, a method of one distance."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.teachers import Averaged, Frozen
from pld_mmdet.engine.loops.staged import StagedLoop
from pld_mmdet.engine.run.method import DistilledClassifier, Method, TeacherStudent
from pld_mmdet.errors import UserError

if "MethodNet" not in MODELS:

    @MODELS.register_module()
    class MethodNet(nn.Linear):
        """Two inputs, three classes."""

        def __init__(self):
            super().__init__(2, 3)

    @MODELS.register_module()
    class MethodBegins(BaseModule):
        """Weights of 1 to 4, if its init_cfg is executed."""

        def __init__(self, value=None, init_cfg=None):
            given = dict(type="Constant", layer="Linear", val=value) if value else None
            super().__init__(init_cfg or given)
            self.inner = nn.Linear(2, 3)


NET = dict(type="MethodNet")


class Staged(Method):
    """One number; a loss a stage, and a stage that steps twice."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def loss_distill(self, x):
        return {"loss": (self.w * x).sum()}

    def loss_round(self, x):
        return {"loss": 10 * (self.w * x).sum()}

    def step_twice(self, batch, optim_wrapper):
        for _ in range(2):
            logs = self.step(optim_wrapper, lambda: self.loss_distill(**batch))
        return logs

    def outputs(self, x, **_):
        return self.w * x


def optimizer(model, lr=0.25):
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr))


X = torch.tensor([1.0, 3.0])


def test_the_stage_chooses_the_loss():
    model = Staged()
    assert model.loss(x=X)["loss"].item() == 8.0  # without stages: `distill`
    for stage in ("round", "round2", "round_17"):
        model.progress.stage = stage
        assert model.loss(x=X)["loss"].item() == 80.0


def test_a_stage_may_step_by_itself():
    """d loss / d w = 4: twice 0.25 * 4 off; the log is of the second step."""
    model = Staged()
    model.progress.stage = "twice"
    logs = model.train_step({"x": X}, optimizer(model))
    assert model.w.item() == 0.0
    assert logs["loss"].item() == 4.0


def test_an_older_checkpoint_with_a_retired_counter_loads_strictly():
    class Newer(Staged):
        retired_state = ("iteration",)

    old = {"w": torch.tensor(5.0), "iteration": torch.tensor(7)}
    model = Newer()
    model.load_state_dict(old, strict=True)
    assert model.w.item() == 5.0
    with pytest.raises(RuntimeError, match="iteration"):
        Staged().load_state_dict(old, strict=True)


def test_an_unknown_stage_is_refused_when_the_loop_is_made():
    model = Staged()
    with pytest.raises(UserError, match="Staged has no stage 'rounds'") as error:
        model.check_stage("rounds")
    assert "distill, round, twice" in error.value.fix
    stages = [dict(name="labels", max_iters=0), dict(name="rounds", max_iters=1)]
    runner = SimpleNamespace(model=model, cfg={})
    with pytest.raises(UserError, match="no stage 'rounds'"):
        StagedLoop(runner, None, stages)
    model.progress.stage = "rounds"
    with pytest.raises(UserError, match="no stage 'rounds'"):
        model.loss(x=X)


def test_a_stage_without_what_it_works_on_is_refused():
    class Working(Staged):
        work = {"label": "all bags", "round": "the pool"}

        def wants_work(self, stage):
            return None if stage == "round_1" else super().wants_work(stage)

    model = Working()
    with pytest.raises(UserError, match="Working: the stage label has no work") as one:
        model.check_work("label", None)
    assert one.value.fix == "Give it one of all bags."
    for stage in ("round_2", "round13"):
        with pytest.raises(UserError, match=stage) as other:
            model.check_work(stage, None)
        assert "the pool" in other.value.fix
    model.check_work("label", [])
    for stage in ("round_1", "around", "label_maps"):
        model.check_work(stage, None)


def test_a_method_without_any_loss_says_what_to_write():
    with pytest.raises(UserError, match="no stage 'distill'") as error:
        Method().loss()
    assert error.value.fix == "Write Method.loss."


def test_step_takes_the_part_that_is_named():
    model = Staged()
    both = {"w": optimizer(model), "other": None}
    logs = model.step(both, lambda: {"loss_a": model.w * 2, "seen": model.w}, "w")
    assert model.w.item() == 1.5  # 2 - 0.25 * 2
    assert list(logs) == ["loss", "loss_a", "seen"]


def test_step_without_a_loss_moves_nothing():
    model = Staged()
    kept = torch.tensor(0.3)
    assert model.step(optimizer(model), lambda: {"kept": kept}) == {"kept": kept}
    assert model.w.item() == 2.0


def test_losses_are_made_inside_the_context():
    seen = []

    class Wrapper(OptimWrapper):
        def optim_context(self, model):
            seen.append(model)
            return super().optim_context(model)

    model, network = Staged(), nn.Identity()
    wrapper = Wrapper(torch.optim.SGD(model.parameters(), lr=0.25))

    def losses():
        seen.append("losses")
        return {"loss": model.w * 1}

    model.step(wrapper, losses)
    model.step(wrapper, losses, network=network)
    assert seen == [model, "losses", network, "losses"]


def test_default_answers():
    model, targets = Staged(), torch.tensor([0, 1])
    (answer,) = model(mode="predict", x=X, targets=targets)
    assert answer["logits"].tolist() == [2.0, 6.0]
    assert answer["targets"] is targets
    with pytest.raises(NotImplementedError, match="Method has no plain"):
        Method()(x=X)


def test_predict_on_is_checked_once():
    with pytest.raises(UserError, match="predict_on='both' is not known") as error:
        TeacherStudent(NET, NET, predict_on="both")
    assert "'student', 'teacher'" in error.value.fix
    x = torch.tensor([[1.0, 2.0]])
    for name in ("student", "teacher"):
        model = TeacherStudent(NET, NET, name)
        assert torch.equal(model(inputs=x), getattr(model, name)(x))


class Distance(DistilledClassifier):
    def distance(self, z_t, z_s):
        return kl(z_t, z_s)


def test_a_method_is_its_distance():
    """KL of (1/2, 1/4, 1/4) from the uniform student: log 3 - 1.5 log 2 = 0.058892."""
    model = Distance(NET, NET, weight=3.0)
    for network, bias in (
        (model.student, [0.0, 0.0, 0.0]),
        (model.teacher.network, [0.5, 0.25, 0.25]),
    ):
        nn.init.zeros_(network.weight)
        bias = torch.tensor(bias)
        network.bias.data = bias.log() if bias.any() else bias
    inputs, targets = torch.rand(4, 2), torch.tensor([0, 1, 2, 2])
    losses = model.loss(inputs, targets, index=targets)
    assert losses["loss_ce"].item() == pytest.approx(1.098612, abs=1e-6)
    assert losses["loss_kd"].item() == pytest.approx(3 * 0.058892, abs=1e-5)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    expected = F.one_hot(targets, 3).float().mean(0)
    p_t = torch.tensor([0.5, 0.25, 0.25])
    grad = (1 / 3 - expected) + 3 * (1 / 3 - p_t)
    assert torch.allclose(model.student.bias.grad, grad, atol=1e-6)


def test_no_distance_no_method():
    with pytest.raises(TypeError, match="distance"):
        DistilledClassifier(NET, NET)


class Holds(Method):
    """Networks in everything that can hold one, and copies of the last."""

    def __init__(self, file=None, init_cfg=None):
        super().__init__(init_cfg=init_cfg)

        def make(value=None, **more):
            return MODELS.build(dict(type="MethodBegins", value=value, **more))

        self.own = make(1)
        self.teacher = Frozen(make(2))
        self.several = nn.ModuleList([make(3), nn.Sequential(make(4))])
        random = dict(type="Normal", layer="Linear", std=1.0)
        self.student = Frozen(make(init_cfg=file or random))
        self.ema = Averaged(self.student.network)
        self.other = make(init_cfg=random)


def test_networks_begin_wherever_they_are_held():
    model = Holds()
    # what the copy says of itself does not count: the first one is followed
    model.ema.network.init_cfg = dict(type="Constant", layer="Linear", val=5.0)
    model.init_weights()
    found = [model.own, model.teacher.network, model.several[0], model.several[1][0]]
    assert [n.inner.weight.unique().item() for n in found] == [1, 2, 3, 4]
    student, ema = model.student.network.inner, model.ema.network.inner
    assert student.weight.std() > 0
    assert torch.equal(student.weight, ema.weight)  # a copy stays one
    assert not torch.equal(student.weight, model.other.inner.weight)
    before = [p.clone() for p in model.parameters()]
    model.init_weights()  # nothing twice
    assert all(map(torch.equal, before, model.parameters()))


def test_a_file_of_the_whole_model_is_the_last_word(tmp_path):
    state = {k: torch.full_like(v, 7) for k, v in Holds().state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    file = dict(type="Pretrained", checkpoint=str(tmp_path / "w.pth"))
    model = Holds(init_cfg=file)
    model.init_weights()
    assert all((p == 7).all() for p in model.parameters())
    with pytest.raises(UserError, match=r"w.pth, which init_cfg names, .* 2 missing"):
        Holds(file).init_weights()
