"""DisBack: losses by hand, the path and its order, what each stage moves."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from pld_mmdet.diffusion.disback import node
from pld_mmdet.diffusion.dmd2 import distribution_matching_loss
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

MLP = dict(type="pld_mmdet.TimeMLP", dim=2, width=16, depth=2)


def build(kind="DisBack", **changes):
    torch.manual_seed(0)
    settings = dict(process=dict(type="pld_mmdet.EDMProcess"), denoiser=MLP)
    settings |= dict(snapshots=(1, 3)) if kind == "DisBack" else {}
    return MODELS.build(dict(type=f"pld_mmdet.{kind}", **settings | changes))


def optimizers(model):
    def member(module):
        learning = [p for p in module.parameters() if p.requires_grad]
        return OptimWrapper(torch.optim.SGD(learning, lr=0.01))

    return OptimWrapperDict(
        generator=member(model.generator), critic=member(model.critic)
    )


def flat(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def run(model, stage, steps, wrappers, batch=8):
    if stage != "again":
        model.start_stage(stage, None, None)
    for step in range(steps):
        model.progress = Progress(step=step, steps=steps, stage=stage)
        torch.manual_seed(100 + step)
        logs = model.train_step(dict(inputs=torch.zeros(batch, 2)), wrappers)
    return logs


@pytest.mark.parametrize(
    ("x", "real", "fake", "loss", "gradient"),
    [
        (
            (1.0, 2, 3, 4),
            (0.0, 2, 2, 4),
            (0.5, 2.5, 2, 3),
            0.75,
            (0.25, 0.25, 0, -0.5),
        ),
        (
            (0.0, 2, -1, 1),
            (1.0, 2, -1, 0),
            (0.0, 1, -1, 2),
            3.0,
            (-0.5, -0.5, 0, 1),
        ),
    ],
)
def test_the_generators_loss_by_hand(x, real, fake, loss, gradient):
    x = torch.tensor([x], requires_grad=True)
    found = distribution_matching_loss(x, torch.tensor([real]), torch.tensor([fake]))
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert x.grad[0].tolist() == pytest.approx(list(gradient))


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1), (999, 1), (1000, 2), (3000, 4), (50_000, 4)]
)
def test_which_node_a_step_has(step, expected):
    assert node(step, 1000, 4) == expected
    assert node(step, 1000, 0) == 0  # no snapshots: the teacher at once


def test_degradation_moves_the_critic_alone_and_keeps_snapshots():
    model = build()
    teacher = flat(model.generator)
    wrappers = optimizers(model)
    run(model, "degrade", 4, wrappers)
    assert torch.equal(flat(model.generator), teacher)
    assert torch.equal(flat(model.real), teacher)
    assert not torch.equal(flat(model.critic.network), teacher)
    first, last = (flat(kept) for kept in model.path)
    distance = [(weights - teacher).norm() for weights in (first, last)]
    assert 0 < distance[0] < distance[1]
    # after step 3 it moved on: a snapshot is a copy
    assert not torch.equal(last, flat(model.critic.network))
    targets = model.targets()
    assert torch.equal(flat(targets[0]), last)
    assert torch.equal(flat(targets[1]), first)
    assert targets[-1] is model.real


def test_the_target_walks_back_to_the_teacher():
    model = build(node_steps=2)
    run(model, "degrade", 3, optimizers(model))
    seen = []
    for step in range(6):
        model.progress = Progress(step=step, steps=6)
        seen.append(model.targets().index(model.target()))
    assert seen == [1, 1, 2, 2, 2, 2]
    control = build(backtrack=False)
    control.progress = Progress(step=0, steps=6)
    assert control.target() is control.real


def test_the_critics_own_beginning_moves_nothing():
    """Why the first target is number 1: the gradient to number 0 is exactly 0."""
    model = build()
    run(model, "degrade", 3, optimizers(model))
    model.start_stage("distill", None, None)
    x = torch.randn(8, 2, requires_grad=True)
    model.target = lambda: model.targets()[0]
    loss = model.generator_losses(x, None)["loss_dm"]
    loss.backward()
    assert x.grad.abs().max() == 0
    del model.target
    model.progress = Progress(step=0, steps=6)
    model.generator_losses(x, None)["loss_dm"].backward()
    assert x.grad.abs().max() > 0


def test_a_path_of_the_teacher_alone_is_plain_score_distillation():
    head = dict(type="pld_mmdet.MLPHead", sizes=(16,))
    plain = build("DMD2", head=head, bottleneck="", gan_weight=0, generator_interval=1)
    ours = build(snapshots=())
    ours.generator.load_state_dict(plain.generator.state_dict())
    ours.start_stage("degrade", None, None)
    logs = [
        run(model, "distill", 3, optimizers(model))["generator_loss_dm"]
        for model in (plain, ours)
    ]
    assert torch.equal(logs[0], logs[1])
    assert torch.equal(flat(plain.generator), flat(ours.generator))
    assert torch.equal(flat(plain.critic.network), flat(ours.critic.network))


def test_the_critic_begins_as_the_last_snapshot():
    model = build()
    run(model, "degrade", 5, optimizers(model))  # two steps behind it
    assert not torch.equal(flat(model.critic.network), flat(model.path[-1]))
    model.start_stage("distill", None, None)
    assert torch.equal(flat(model.critic.network), flat(model.path[-1]))


def test_a_critic_from_the_teacher():
    model = build(critic_from="teacher")
    run(model, "degrade", 3, optimizers(model))
    model.start_stage("distill", None, None)
    assert torch.equal(flat(model.critic.network), flat(model.real))
    assert model.critic.head[-1].weight.requires_grad is False


def test_a_run_goes_on_at_the_boundary_and_without_a_teacher_does_not():
    model = build()
    run(model, "degrade", 3, optimizers(model))
    again = build()
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    run(again, "distill", 1, optimizers(again))
    lost = build()
    lost.real.network.load_state_dict(lost.generator.state_dict())
    with torch.no_grad():
        lost.generator.last.bias += 1
    with pytest.raises(UserError, match="no teacher"):
        run(lost, "distill", 1, optimizers(lost))


def test_bad_settings_get_a_sentence():
    with pytest.raises(UserError, match="no ascending list"):
        build(snapshots=(3, 1))
    for wrong in ((3, 3), (0, 2)):
        with pytest.raises(UserError, match="no ascending list"):
            build(snapshots=wrong)
    for given in ({}, dict(head=dict(type="pld_mmdet.MLPHead", sizes=(16,)))):
        with pytest.raises(UserError, match="needs a head"):
            build(gan_weight=0.1, **given)
