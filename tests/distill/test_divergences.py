"""Divergences: worked numbers, torch's own kl_div, limits, gradients, memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pld_mmdet.distill import divergences
from pld_mmdet.distill.divergences import js, kl, reverse_kl
from pld_mmdet.errors import UserError


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_worked_numbers():
    teacher, student = logits_of(0.5, 0.5), logits_of(0.25, 0.75)
    # 0.5 ln 2 + 0.5 ln (2/3)
    assert kl(teacher, student).item() == pytest.approx(0.143841, abs=1e-6)
    # 0.25 ln 0.5 + 0.75 ln 1.5
    assert reverse_kl(teacher, student).item() == pytest.approx(0.130812, abs=1e-6)
    # m = (3/8, 5/8): half of 0.5 ln(4/3) + 0.5 ln(4/5) + 0.25 ln(2/3) + 0.75 ln 1.2
    assert js(teacher, student).item() == pytest.approx(0.033822, abs=1e-6)
    # m = 0.3 teacher + 0.7 student = (0.325, 0.675): 0.3 x 0.065339 + 0.7 x 0.013429
    assert js(teacher, student, 0.3).item() == pytest.approx(0.029002, abs=1e-6)
    # a single distribution is a sample as well
    one = kl(teacher[0], student[0], reduction="none")
    assert one.shape == ()
    assert one.item() == pytest.approx(0.143841, abs=1e-6)


def test_temperature_squared_belongs_to_batchmean_only():
    teacher, student = torch.randn(2, 5, 7, dtype=torch.float64)
    rows = kl(teacher, student, temperature=4.0, reduction="none")
    assert rows.shape == (5,)
    mean = kl(teacher, student, temperature=4.0)
    assert mean.item() == pytest.approx(16 * rows.mean().item())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_equals_torch_in_value_and_gradient(temperature):
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 11, dtype=torch.float64)
    ours, theirs = (student.clone().requires_grad_() for _ in range(2))
    kl(teacher, ours, temperature).backward()
    plain = F.kl_div(
        (theirs / temperature).log_softmax(-1),
        (teacher / temperature).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    (plain * temperature**2).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(
        kl(teacher, student, temperature), plain.detach() * temperature**2
    )


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js"])
@pytest.mark.parametrize("block", [1, 4, 1 << 22])
def test_both_gradients_are_numerically_right(name, block, monkeypatch):
    monkeypatch.setattr(divergences, "BLOCK", block)
    torch.manual_seed(1)
    pair = [x.clone().requires_grad_() for x in torch.randn(2, 3, 4).double()]
    function = getattr(divergences, name)
    option = 0.3 if name == "js" else 2.0
    assert torch.autograd.gradcheck(lambda p, q: function(p, q, option, "none"), pair)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-8, 8), min_size=6, max_size=6))
def test_never_negative_and_zero_only_for_equal_distributions(values):
    teacher, student = torch.tensor(values, dtype=torch.float64).view(2, 1, 3)
    for function in (kl, reverse_kl, js):
        assert function(teacher, student).item() >= -1e-12
        # a shift of logits is no other distribution
        assert function(teacher, teacher + 5).item() == pytest.approx(0, abs=1e-9)


def test_symmetries_and_limits():
    torch.manual_seed(2)
    teacher, student = torch.randn(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(reverse_kl(teacher, student), kl(student, teacher))
    torch.testing.assert_close(js(teacher, student), js(student, teacher))
    assert js(teacher, student) <= math.log(2)
    tiny = 1e-6
    torch.testing.assert_close(
        js(teacher, student, beta=tiny) / tiny, kl(teacher, student), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        js(teacher, student, beta=1 - tiny) / tiny,
        reverse_kl(teacher, student),
        rtol=1e-4,
        atol=0,
    )


def test_masked_classes_of_the_teacher_cost_nothing():
    teacher = torch.tensor([[0.0, 0.0, -torch.inf]])
    student = torch.zeros(1, 3, requires_grad=True)
    value = kl(teacher, student)
    value.backward()
    assert value.item() == pytest.approx(math.log(1.5), abs=1e-6)
    torch.testing.assert_close(student.grad, torch.tensor([[-1 / 6, -1 / 6, 1 / 3]]))


def test_mass_where_the_student_has_none_costs_infinitely_much():
    teacher, student = torch.zeros(2, 1, 3)
    student[0, 0] = -torch.inf
    assert kl(teacher, student).item() == math.inf
    assert kl(student, teacher).item() == pytest.approx(math.log(1.5), abs=1e-6)
    # what is improbable, but possible, has a price
    student[0, 0] = -5e3
    assert kl(teacher, student).item() == pytest.approx(5e3 / 3, rel=1e-3)


def test_nan_stays_nan():
    student = torch.tensor([[torch.nan, 0.0], [0.0, 0.0]])
    found = kl(torch.zeros(2, 2), student, reduction="none")
    assert found.isnan().tolist() == [True, False]


def test_no_sample_is_zero():
    student = torch.zeros(0, 3, requires_grad=True)
    value = kl(torch.zeros(0, 3), student)
    value.backward()
    assert value.item() == 0.0


def test_sequences_and_half_precision():
    torch.manual_seed(3)
    teacher, student = torch.randn(2, 2, 3, 50)
    wide = kl(teacher, student, reduction="none")
    assert wide.shape == (2, 3)
    half = student.bfloat16().requires_grad_()
    kl(teacher.bfloat16(), half).backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(
        kl(teacher.bfloat16(), half, reduction="none"), wide, rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize("function", [kl, reverse_kl, js])
def test_who_needs_no_gradient_gets_none_and_the_other_its_own(function):
    torch.manual_seed(4)
    values = torch.randn(2, 4, 3, dtype=torch.float64)
    both = [x.clone().requires_grad_() for x in values]
    function(*both).backward()
    for learner in (0, 1):
        pair = [x.clone().requires_grad_(i == learner) for i, x in enumerate(values)]
        function(*pair).backward()
        torch.testing.assert_close(pair[learner].grad, both[learner].grad)
        assert pair[1 - learner].grad is None


def test_a_second_derivative_is_refused():
    """The gradient is written down, not taped: its own derivative would be wrong."""
    student = torch.randn(2, 3, requires_grad=True)
    value = kl(torch.randn(2, 3), student).square()
    (slope,) = torch.autograd.grad(value, student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: kl(torch.zeros(2, 3), torch.zeros(2, 4)), "do not belong together"),
        (lambda: kl(torch.tensor(1.0), torch.tensor(1.0)), "do not belong together"),
        (lambda: kl(torch.zeros(2, 0), torch.zeros(2, 0)), "do not belong together"),
        *(
            (lambda t=t: reverse_kl(torch.zeros(2, 3), torch.zeros(2, 3), t), "not pos")
            for t in (0, -1.0, math.nan)
        ),
        (lambda: kl(torch.zeros(1, 3), torch.zeros(1, 3), 1, "sum"), "no reduction"),
        *(
            (lambda b=b: js(torch.zeros(1, 3), torch.zeros(1, 3), b), "not between 0")
            for b in (-0.5, 0.0, 1.0, 1.5)
        ),
    ],
)
def test_errors_say_what_is_wrong(call, match):
    with pytest.raises(UserError, match=match):
        call()


def test_large_vocabulary_needs_less_than_two_temporaries(monkeypatch):
    """Forward and backward: the gradient, and one block beside it."""
    monkeypatch.setattr(divergences, "BLOCK", 50_000)
    teacher, student = torch.randn(2, 64, 50_000)
    student.requires_grad_()
    peak = _peak_bytes(lambda: kl(teacher, student).backward())
    size = student.numel() * student.element_size()
    assert peak < 2.4 * size  # the saved gradient, and its product with upstream's


def _peak_bytes(function) -> int:
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak
