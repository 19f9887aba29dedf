"""Probes: what is frozen, whose weights are taken, what random weights mean."""

import pytest
import torch
from torch import nn

from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.encoder_rows import FineTune, LinearProbe

ENCODER = dict(type="pld_mmdet.SmallConvNet", widths=(4, 6), num_classes=10)


class Learnt(nn.Module):
    """A method with a student, a teacher and a head of its own."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = MODELS.build(ENCODER), MODELS.build(ENCODER)
        self.projector = nn.Linear(6, 3)


def batch(n=12):
    torch.manual_seed(1)
    return {"inputs": torch.rand(n, 1, 8, 8), "targets": torch.arange(n) % 3}


@pytest.mark.parametrize(("cls", "moves"), [(LinearProbe, False), (FineTune, True)])
def test_only_fine_tuning_moves_the_encoder(cls, moves):
    torch.manual_seed(0)
    model = cls(ENCODER, num_classes=3).train()
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    parts = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parts, lr=0.5)
    losses = []
    for _ in range(20):
        loss = model.loss(**batch())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = model.encoder.state_dict()
    # running statistics of batch norm count as moved too
    assert moves is not all(torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_a_methods_checkpoint_gives_the_encoder(part):
    torch.manual_seed(2)
    learnt = Learnt()
    probe = LinearProbe(ENCODER, num_classes=3, part=part)
    head = probe.classifier.weight.clone()
    assert report_mismatch(probe, learnt.state_dict(), "a.pth") is None
    theirs = getattr(learnt, part).state_dict()
    ours = probe.encoder.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert torch.equal(probe.classifier.weight, head)
    again = LinearProbe(ENCODER, num_classes=3)
    assert report_mismatch(again, probe.state_dict(), "b.pth") is None
    assert torch.equal(again.classifier.weight, head)


def test_a_checkpoint_without_the_part_is_refused():
    probe = LinearProbe(ENCODER, num_classes=3, part="network")
    with pytest.raises(UserError, match="another architecture"):
        report_mismatch(probe, Learnt().state_dict(), "a.pth")
    with pytest.raises(UserError, match="does not say how long"):
        LinearProbe(dict(type="pld_mmdet.MLP", sizes=(64, 10)), num_classes=3)
