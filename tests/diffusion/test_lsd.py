"""LSD: scores by hand, what Phi learns, what stays frozen, the exact language."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.diffusion.lsd import score_match
from pld_mmdet.diffusion.processes.discrete import (
    MaskedStarts,
    RingLanguage,
    RingViolations,
    euler_step,
    odds,
    rate,
    reveal,
)
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

RING = dict(type="pld_mmdet.RingLanguage", tokens=3, length=4)


def build(**changes):
    settings = dict(network=RING, steps=2, teacher_steps=8, zeta=0.0)
    return MODELS.build(dict(type="pld_mmdet.LSD", **settings | changes))


def test_the_loss_by_hand():
    student = torch.tensor([[0.5, 1.0, 2.0]])
    teacher = torch.tensor([[1.0, 1.5, 2.5]])
    phi = torch.tensor(1.0, requires_grad=True)
    loss = score_match(student, teacher, phi)
    assert loss.item() == pytest.approx(0.75)
    loss.backward()
    assert phi.grad.item() == pytest.approx(-3.5)
    assert score_match(student, teacher, 4 / 3).item() < 0.75
    # rows are averaged, classes summed; student and teacher are not exchangeable
    two = torch.tensor([[0.2, 0.4, 1.0], [0.0, 0.0, 0.0]])
    goal = torch.tensor([[0.5, 0.5, 0.8], [0.0, 3.0, 0.0]])
    assert score_match(two, goal, 1.0).item() == pytest.approx((0.14 + 9) / 2)
    a_row = torch.tensor([[0.916667], [5.0]])
    assert score_match(two, goal, a_row).item() == pytest.approx(
        (0.1316667 + 9) / 2, abs=1e-5
    )
    assert score_match(two, goal, 2.0) != score_match(goal, two, 2.0)


def test_no_rows_and_rows_of_another_shape():
    phi = torch.tensor(1.0, requires_grad=True)
    loss = score_match(torch.zeros(0, 3), torch.zeros(0, 3), phi)
    assert loss.item() == 0
    loss.backward()
    assert phi.grad.item() == 0
    with pytest.raises(UserError, match=r"\(2, 3\) and teacher \(2, 4\)"):
        score_match(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)


def test_log_linear_noise():
    assert rate(0.5) == pytest.approx(1.996004, abs=1e-6)
    # an exact step of size D unmasks with D / t
    assert 0.3 * rate(0.8) / odds(0.8) == pytest.approx(0.375, abs=1e-9)
    assert 0.1 * rate(0.5, 0.2) / odds(0.5, 0.2) == pytest.approx(0.2)


def test_the_ring_is_exact():
    ring = RingLanguage(3, 4)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    jump = every.diff(dim=1) % 3
    whole = every[(jump <= 1).all(1)]  # 3 x 2^3, all equally likely
    assert len(whole) == 24
    for x in ([3, 3, 3, 3], [3, 1, 3, 3], [0, 3, 3, 2], [2, 3, 0, 3]):
        x = torch.tensor(x)
        fit = whole[((whole == x) | (x == 3)).all(1)]
        expected = F.one_hot(fit, 3).float().mean(0)
        found = ring.probabilities(x[None])[0]
        torch.testing.assert_close(found, expected)
    broken = ring.probabilities(torch.tensor([[0, 2, 3, 3]]))
    assert torch.isfinite(broken).all()


def test_a_step_moves_masked_tokens_only():
    x = torch.tensor([[3, 1, 3, 3]])
    sure = torch.zeros(1, 4, 3)
    sure[..., 2] = 5.0  # more than 1 is scaled to 1
    assert euler_step(x, sure, None).tolist() == [[2, 1, 2, 2]]
    assert euler_step(x, 0 * sure, None).tolist() == x.tolist()
    many = torch.full((20_000, 1), 3)
    move = torch.tensor([0.1, 0.2, 0.3]).expand(20_000, 1, 3)
    dice = torch.Generator().manual_seed(0)
    shares = euler_step(many, move, dice).flatten().bincount() / 20_000
    torch.testing.assert_close(
        shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.012, rtol=0
    )
    late = reveal(many, move, dice).flatten().bincount(minlength=4) / 20_000
    expected = torch.tensor([1 / 6, 1 / 3, 1 / 2, 0.0])
    torch.testing.assert_close(late, expected, atol=0.012, rtol=0)


def test_phi_one_is_the_plain_sampler():
    model, start = build(), torch.full((32, 4), 3)
    grid = torch.linspace(1.0, 1e-3, 3)
    torch.testing.assert_close(model.times(), grid)
    dice = torch.Generator().manual_seed(5)
    ours, _ = model.walk(start, model.times(), model.phi, dice)
    dice, x = torch.Generator().manual_seed(5), start
    for now, following in itertools.pairwise(grid.tolist()):
        p = model.network.network.probabilities(x)
        x = euler_step(x, (now - following) / now * p, dice)
    assert torch.equal(ours, x)


def test_a_teacher_with_the_same_steps_teaches_nothing():
    model = build(steps=4, teacher_steps=4)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    start = torch.full((16, 4), 3)
    _, seen = model.walk(start, model.times(), model.phi)
    torch.set_rng_state(state)
    _, again = model.walk(start, model.times(), model.phi)
    for (x, s), (y, goal) in zip(seen, again, strict=True):
        assert torch.equal(x, y)
        both = x == 3
        if both.any():
            assert score_match(s[both], goal[both], model.phi[0]).item() == 0


def test_the_first_coefficient_stays_one_without_relaxation():
    torch.manual_seed(0)
    model = build()
    wrapper = FiniteOptimWrapper(torch.optim.SGD([model.phi], lr=1e-3))
    for _ in range(3):
        model.train_step(dict(inputs=torch.full((64, 4), 3)), wrapper)
    assert model.phi[0].item() == pytest.approx(1, abs=1e-5)
    assert model.phi[1].item() != pytest.approx(1, abs=1e-5)
    assert not model.kappa.requires_grad


def test_learned_times_descend_to_the_end():
    torch.manual_seed(0)
    model = build(learn_times=True, steps=4)
    parameters = [model.phi, model.kappa]
    wrapper = FiniteOptimWrapper(torch.optim.Adam(parameters, lr=0.2))
    before = model.kappa.detach().clone()
    for _ in range(4):
        model.train_step(dict(inputs=torch.full((64, 4), 3)), wrapper)
    times = model.times()
    assert (times.diff() < 0).all()
    assert times[-1].item() == pytest.approx(1e-3, abs=1e-6)
    assert not torch.allclose(model.kappa, before)


def test_relaxation_reveals_few_tokens_of_the_student_only():
    model = build(zeta=0.5)
    start = torch.full((50, 4), 3)
    torch.manual_seed(0)
    moved = (model.relaxed(start) != 3).sum(1)
    assert moved.tolist() == [2] * 50
    assert model.relaxed(start).max() <= 3
    assert torch.equal(build(zeta=0.2).relaxed(start), start)  # less than one token


def test_sampling_reveals_all_and_repeats_itself():
    model, index = build(), torch.arange(64)
    start = torch.full((64, 4), 3)
    found = model.predict(start, index)[0]
    assert found["samples"].max() < 3
    assert 0 < found["final_share"] < 1
    assert torch.equal(found["samples"], model.predict(start, index)[0]["samples"])
    with pytest.raises(UserError, match="no multiple of steps=3"):
        build(steps=3)


def test_violations_are_counted():
    metric = RingViolations()
    x = torch.tensor([[0, 1, 1, 2], [2, 0, 2, 1]])  # jumps 1 0 1 | 1 2 2 (mod 3)
    metric.process({}, [dict(samples=x, tokens=3, final_share=torch.tensor(0.25))])
    metric.process({}, [dict(samples=x[:1], tokens=3, final_share=torch.tensor(1.0))])
    found = metric.compute_metrics(metric.results)
    assert found["violations"] == pytest.approx(2 / 9)
    assert found["final_share"] == pytest.approx((0.25 * 2 + 1) / 3)
    assert MaskedStarts(3, 4, 5)[2]["inputs"].tolist() == [3] * 4
    with pytest.raises(UserError, match="size=0"):
        MaskedStarts(size=0)


def test_a_masked_language_model_is_a_score_network():
    torch.manual_seed(0)
    network = dict(
        type="pld_mmdet.MaskedLMScore",
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=6,
    )
    model = build(network=network)
    start = torch.full((3, 6), 7)  # the last word is the mask
    with pytest.raises(UserError, match=r"model\.network are random.*\n.*DDiTScore"):
        model.loss(start)
    model.load_state_dict(dict(phi=model.phi), strict=False)  # nothing of the network
    assert model.network.network.untrained
    model.load_state_dict(model.state_dict())  # as a checkpoint of load_from
    score = model.network(start, 0.3)
    assert score.shape == (3, 6, 7)
    total = score.sum(-1) * odds(0.3)
    torch.testing.assert_close(total, torch.ones(3, 6))
    losses = model.loss(start)
    assert torch.isfinite(losses["loss_score"])
    assert model.predict(start, torch.arange(3))[0]["samples"].max() < 7
    with pytest.raises(UserError, match="masked by token 5, the network by 7"):
        model.loss(torch.full((3, 6), 5))


def test_the_teacher_is_read_at_the_students_times():
    model, start = build(), torch.full((64, 4), 3)
    torch.manual_seed(1)
    found = model.loss(start)["loss_score"].item()
    torch.manual_seed(1)
    _, teacher = model.walk(start, torch.linspace(1.0, 1e-3, 9), torch.ones(8))
    _, student = model.walk(start, model.times(), model.phi)
    expected = 0.0
    for (x, score), (y, goal) in zip(student, teacher[::4], strict=True):
        both = (x == 3) & (y == 3)
        expected += score_match(score[both], goal[both], 1.0).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_coefficients_scale_the_steps_of_the_walk_and_of_an_answer():
    """An answer starts from masks alone, whatever relaxation is trained with."""
    model, start = build(phi=0.6, zeta=0.5), torch.full((32, 4), 3)
    assert model.phi.tolist() == pytest.approx([0.6, 0.6])
    with torch.no_grad():
        model.phi[1] = 0.3
    found = model.predict(start, torch.arange(7, 39))[0]
    dice, x = torch.Generator().manual_seed(7), start
    for k, (now, following) in enumerate(itertools.pairwise([1.0, 0.5005, 1e-3])):
        p = model.network.network.probabilities(x)
        x = euler_step(x, [0.6, 0.3][k] * (now - following) / now * p, dice)
    assert found["final_share"] == (x == 3).float().mean()
    assert torch.equal(found["samples"][x < 3], x[x < 3])


def test_only_the_student_starts_relaxed(monkeypatch):
    model, starts = build(zeta=0.5), []
    walk = model.walk
    monkeypatch.setattr(
        model,
        "walk",
        lambda x, *rest, **more: starts.append(x) or walk(x, *rest, **more),
    )
    model.loss(torch.full((9, 4), 3))
    assert [int((x != 3).sum()) for x in starts] == [0, 2 * 9]
    model.relaxes = "both"  # as released: the same one
    model.loss(torch.full((9, 4), 3))
    assert [int((x != 3).sum()) for x in starts[2:]] == [2 * 9, 2 * 9]
    assert torch.equal(starts[2], starts[3])
    with pytest.raises(UserError, match="relaxes='teacher'"):
        build(relaxes="teacher")


def test_a_walk_keeps_the_scores_that_are_read(monkeypatch):
    """256 scores of 8 x 1024 x 50257 numbers are 392 GiB; the loss reads M."""
    model, start = build(), torch.full((5, 4), 3)
    kept, walk = [], model.walk

    def counted(*told, **more):
        end, seen = walk(*told, **more)
        kept.append(len(seen))
        return end, seen

    monkeypatch.setattr(model, "walk", counted)
    model.loss(start)
    model.predict(start, torch.arange(5))
    assert kept == [2, 2, 0]  # of 8, 2 and 2
    grid, ones = torch.linspace(1.0, 1e-3, 9), torch.ones(8)
    torch.manual_seed(1)
    whole, seen = walk(start, grid, ones)
    torch.manual_seed(1)
    same, few = walk(start, grid, ones, every=3)
    assert torch.equal(whole, same)
    assert len(few) == 3
    for number, (x, score) in enumerate(few):
        assert torch.equal(x, seen[3 * number][0])
        assert torch.equal(score, seen[3 * number][1])


def test_learned_lengths_by_hand(monkeypatch):
    """Two tokens, 2 is the mask; the second step has one place that both hide."""
    model = build(learn_times=True, teacher_steps=4)
    with torch.no_grad():
        model.phi[:] = torch.tensor([0.5, 2.0])
        model.kappa[:] = torch.tensor([0.3, 0.6])

    def at(x, *score):
        return torch.tensor([x]), torch.tensor([score])

    teacher = [at([2, 2], [2.0, 1.0], [1.0, 1.0])]
    teacher += [at([2, 1], [2.0, 2.0], [7.0, 7.0])]
    student = [at([2, 2], [1.0, 2.0], [3.0, 0.0]), at([2, 0], [1.0, 3.0], [5.0, 5.0])]
    answers = iter([teacher, student])
    monkeypatch.setattr(model, "walk", lambda *_, **more: (None, next(answers)))
    monkeypatch.setattr(model, "_check", lambda inputs: None)  # its mask is 3
    found = model.loss(torch.full((1, 2), 2))
    a, b = 0.3 * 2 / 0.999, 0.6 * 2 / 0.999  # lengths, beside even ones
    first = [(f - 2) ** 2 + (2 * f - 1) ** 2 + (3 * f - 1) ** 2 + 1 for f in (0.5, a)]
    second = [(f - 2) ** 2 + (3 * f - 2) ** 2 for f in (2.0, b)]
    wanted = sum(first) / 2 + sum(second)
    assert found["loss_score"].item() == pytest.approx(wanted, rel=1e-5)
    assert found["both_masked"].item() == pytest.approx(3 / 4)
