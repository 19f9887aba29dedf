"""A label that no class has, a token that no vocabulary has: said with the numbers."""

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.metrics import ClassificationMetric
from pld_mmdet.engine.run.ranges import ranges_said
from pld_mmdet.errors import UserError

BATCH = dict(inputs=torch.zeros(2, 3), targets=torch.tensor([1, 7]), index=3)


@pytest.mark.parametrize(
    "fail",
    [
        lambda: F.cross_entropy(torch.zeros(2, 5), BATCH["targets"]),
        lambda: F.one_hot(BATCH["targets"], 5),
        lambda: F.embedding(BATCH["targets"], torch.zeros(5, 2)),
        lambda: torch.zeros(2, 5).gather(1, BATCH["targets"][:, None]),
        lambda: torch.zeros(5)[BATCH["targets"]],
    ],
)
def test_what_lies_outside_is_said(fail):
    words = r"outside its range \(targets 1 to 7\)"
    with pytest.raises(UserError, match=words), ranges_said(BATCH):
        fail()


def test_other_errors_stay():
    for error in (ValueError("out of bounds"), IndexError("else"), RuntimeError("no")):
        with pytest.raises(type(error)), ranges_said(BATCH):
            raise error
    own = UserError("out of bounds", "as said")
    with pytest.raises(UserError) as caught, ranges_said(BATCH):
        raise own
    assert caught.value is own
    with pytest.raises(IndexError), ranges_said({"inputs": torch.zeros(2)}):
        torch.zeros(3)[torch.tensor([9])]
    with ranges_said({}):
        pass


def test_a_methods_step_says_it():
    class Some(Method):
        def loss(self, inputs, targets, **_):
            return {"loss": F.cross_entropy(inputs, targets)}

    class Wrapper:
        def optim_context(self, model):
            return torch.enable_grad()

    with pytest.raises(UserError, match="targets 1 to 7"):
        Some().train_step(BATCH | {"index": torch.arange(2)}, Wrapper())


@pytest.mark.parametrize("targets", [[0, 3], [-1, 2]])
def test_the_metric_refuses_labels_of_no_class(targets):
    sample = dict(logits=torch.zeros(2, 3), targets=torch.tensor(targets))
    with pytest.raises(UserError, match=f"labels {targets[0]} to {targets[1]}, and"):
        ClassificationMetric().process({}, [sample])
