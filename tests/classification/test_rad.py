"""RAD: the game's worked numbers, the draws, what is bought and learnt from."""

import pytest
import torch
from mmengine.config import Config

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification.rad import (
    RAD,
    Bought,
    Part,
    dep_round,
    game,
    rad_marginals,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.MLP", sizes=(64, 6, 10))
POOL = dict(type="pld_mmdet.Digits", part="val")


def build(**changes) -> RAD:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.RAD",
        student=NET,
        teachers=[NET],
        num_samples=360,
        num_classes=10,
        batch=7,
        validation=dict(type="pld_mmdet.Digits", part="test"),
    )
    return MODELS.build(config | changes)


def loader(n: int = 360, batch: int = 100):
    data = Part(POOL, 0, n)
    return torch.utils.data.DataLoader(data, batch)


@pytest.mark.parametrize(
    ("gains", "budget", "expected", "value"),
    [
        ((1, 0.8, 0.5, 0.1), 1, (0.2352941, 0.2941176, 0.4705882, 0), 0.4705882),
        (
            (0.9, 0.8, 0.6, 0.5, 0.2),
            1,
            (0.184332, 0.207373, 0.276498, 0.331797, 0),
            0.497696,
        ),
        (
            (0.2, 0.8, 0.5, 0.6, 0.9),
            2,
            (0, 0.207373, 0.331797, 0.276498, 0.184332),
            0.331797,
        ),
        (
            (0.9, 0.8, 0.6, 0.5, 0.2),
            3,
            (0.100756, 0.11335, 0.151134, 0.18136, 0.453401),
            0.18136,
        ),
        ((0.3, 0.7, 0.2), 0, (0, 1, 0), 0.7),
    ],
)
def test_the_game_by_hand(gains, budget, expected, value):
    p, found = game(torch.tensor(gains), budget=budget)
    assert p.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.item() == pytest.approx(value, abs=1e-6)


def test_losses_as_large_as_gains_halve_the_value():
    gains = torch.tensor([1, 0.8, 0.5, 0.1])
    p, value = game(gains, gains)
    assert p.tolist() == pytest.approx((0.2352941, 0.2941176, 0.4705882, 0), abs=1e-6)
    assert value.item() == pytest.approx(0.2352941, abs=1e-6)


@pytest.mark.parametrize("budget", [0.5, 1, 2.5])
def test_the_game_is_the_linear_program(budget):
    """max t + p g - ..., solved by scipy on unequal gains and losses."""
    from scipy.optimize import linprog

    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        g = torch.rand(6, generator=generator, dtype=torch.double)
        loss = 0.4 * torch.rand(6, generator=generator, dtype=torch.double)
        stakes = torch.diag(g + loss).tolist()
        rows = [[*stake, -1] for stake in stakes]  # p_i (g_i + l_i) <= t
        answer = linprog([*(-g).tolist(), budget], rows, [0] * 6, [[1] * 6 + [0]], [1])
        p, value = game(g, loss, budget)
        top = (p * (g + loss)).max()
        assert value.item() == pytest.approx(-answer.fun, abs=1e-9)
        assert ((p * g).sum() - budget * top).item() == pytest.approx(-answer.fun)


def test_the_game_at_its_edges():
    p, value = game(torch.zeros(0))
    assert p.shape == (0,)
    assert value.item() == 0
    p, _ = game(torch.full((5,), 0.3), budget=2)
    assert p.tolist() == pytest.approx([0.2] * 5)
    p, _ = game(torch.tensor([0.0, 0.5, 0.0]), budget=2)  # 1 / 0 would be infinite
    assert p.sum().item() == pytest.approx(1)
    with pytest.raises(UserError, match="budget of 4"):
        game(torch.rand(3), budget=4)
    with pytest.raises(UserError, match="finite numbers"):
        game(torch.tensor([0.3, -0.1]))
    with pytest.raises(UserError, match="shapes"):
        game(torch.rand(3), torch.rand(2))


def test_marginals_of_a_batch():
    p, g = torch.tensor([0.1, 0.6, 0.3, 0.0]), torch.tensor([0.9, 0.2, 0.4, 0.1])
    assert rad_marginals(p, g, 1).tolist() == pytest.approx([0.1, 0.6, 0.3, 0])
    # 2 p has 1.2: it is 1, and the other two share 1 as 1 : 3
    assert rad_marginals(p, g, 2).tolist() == pytest.approx([0.25, 1, 0.75, 0])
    few = torch.tensor([0.0, 0.4, 0.6, 0.0])
    assert rad_marginals(few, g, 3).tolist() == [1, 1, 1, 0]  # next gain: the first
    g = torch.tensor([0.4, 0.9, 0.2, 0.1])  # what is in already is no next one
    assert rad_marginals(few, g, 3).tolist() == [1, 1, 1, 0]
    assert rad_marginals(p, g, 0).tolist() == [0] * 4
    with pytest.raises(UserError, match="5 of 4"):
        rad_marginals(p, g, 5)


def test_dep_round_keeps_size_and_frequencies():
    torch.manual_seed(5)
    pi = torch.tensor([0.25, 1.0, 0.75, 0.4, 0.6, 0.0])
    counts = torch.zeros(6)
    for _ in range(1500):
        drawn = dep_round(pi)
        assert len(set(drawn.tolist())) == 3
        counts[drawn] += 1
    sigma = (pi * (1 - pi) / 1500).sqrt()
    assert ((counts / 1500 - pi).abs() <= 3.5 * sigma + 1e-9).all()
    assert dep_round(torch.zeros(0)).shape == (0,)
    with pytest.raises(UserError, match=r"sum 0\.7"):
        dep_round(torch.tensor([0.3, 0.4]))


def test_a_round_buys_once_and_begins_with_a_fresh_student(tmp_path):
    model = build()
    before = [p.clone() for p in model.student.parameters()]
    model.start_stage("round_2", loader(), tmp_path)
    assert (model.order == 2).sum() == 7
    known = model.soft[model.order == 2]
    assert known.sum(1).tolist() == pytest.approx([1] * 7, abs=1e-5)
    assert (model.soft[model.order < 0] == 0).all()
    first = (model.order == 2).clone()
    after = list(model.student.parameters())
    assert not all(map(torch.equal, before, after))
    model.start_stage("round_2", loader(), tmp_path)  # killed, and done again
    assert torch.equal(model.order == 2, first)
    model.start_stage("round_3", loader(), tmp_path)
    assert (model.order == 3).sum() == 7
    assert torch.equal(model.order == 2, first)
    data = Bought(dict(type="pld_mmdet.Digits", part="train", labelled=1), POOL,
                  str(tmp_path / "bought.pth"))  # fmt: skip
    assert len(data) == 10 + 14
    assert all(data[i]["soft"].argmax() == data[i]["targets"] for i in range(10))
    assert all(data[i]["soft"].sum() == 1 for i in range(10))
    sample, number = data[12], int(data.index[2])
    assert sample["index"] == number
    assert torch.equal(sample["soft"], model.soft[number])
    with pytest.raises(UserError, match="350 points"):
        model.start_stage("round_4", loader(350), tmp_path)
    with pytest.raises(UserError, match="no work_dataloader"):
        model.start_stage("round_4", None, tmp_path)


def margin(z: torch.Tensor) -> torch.Tensor:
    best = z.softmax(1).topk(2).values
    return best[:, 0] - best[:, 1]


def test_what_is_bought_is_the_students_choice_with_the_teachers_answers(tmp_path):
    """Of what is left, the smallest margins; the mean of both teachers' answers."""
    net = dict(type="pld_mmdet.SmallConvNet", widths=(4,))  # a batch norm has modes
    model = build(select="margin", student=net, teachers=[NET, NET])
    x = torch.stack([s["inputs"] for s in map(Part(POOL, 0, 360).__getitem__,
                                              range(360))])  # fmt: skip
    rows = list(loader())[::-1]  # the pool in another order
    students = []
    for number in (2, 3):
        wanted = margin(model.eval().student(x)).masked_fill(model.order >= 0, 2)
        model.train()
        model.start_stage(f"round_{number}", rows, tmp_path)
        bought = (model.order == number).nonzero().flatten()
        assert set(bought.tolist()) == set(wanted.argsort()[:7].tolist())
        both = [network(x[bought]).softmax(1) for network in model.teachers]
        assert torch.allclose(model.soft[bought], sum(both) / 2, atol=1e-6)
        students.append(model.student.fc.weight.clone())
    assert not torch.equal(*students)
    other = build(seed=9, student=net)
    other.start_stage("round_2", rows, tmp_path)
    assert torch.equal(other.student.fc.weight, students[0])


def test_a_part_of_the_samples():
    part, whole = Part(POOL, 5, 9), Part(POOL, 0, 360)
    assert len(part) == 4
    sample = part[2]
    assert sample["index"] == 2
    assert torch.equal(sample["inputs"], whole[7]["inputs"])
    for outside in (4, -1):
        with pytest.raises(IndexError):
            part[outside]


def test_the_budget_is_what_the_teacher_gets_wrong(monkeypatch):
    """n = 20 and m = .75: c = 5; a budget of more than there are points is cut."""
    asked = []

    def seen(gains, budget):
        asked.append((gains, budget))
        return game(gains, budget=budget)

    monkeypatch.setattr("pld_mmdet.classification.rad.game", seen)
    model, logits = build(), torch.randn(20, 10)
    model.accuracy = lambda: 0.75
    one, other = model.choose(logits), build(budget=25, seed=3).choose(logits)
    assert [budget for _, budget in asked] == [5, 20]
    assert torch.allclose(asked[0][0], 1 - margin(logits), atol=1e-6)
    assert len(one) == len(other) == 7
    again = [build(budget=15, seed=seed).choose(logits).tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_the_teachers_accuracy_by_hand():
    """It says 3 always, and never 5."""
    model = build()
    answer = torch.zeros(10).scatter_(0, torch.tensor([3, 5]), torch.tensor([2.0, -2]))
    model.teachers[0].forward = lambda x: answer.expand(len(x), -1)
    truth = Part(dict(POOL, part="test"), 0, 360)
    share = sum(int(truth[i]["targets"]) == 3 for i in range(360)) / 360
    assert model.accuracy() == pytest.approx(share)


def test_rivals_and_the_default_budget():
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(2))
    found = build(select="margin").choose(logits)
    assert set(found.tolist()) == set(margin(logits).argsort()[:7].tolist())
    drawn = build(select="random")
    assert len(set(drawn.choose(logits).tolist())) == 7
    assert torch.equal(drawn.choose(logits, 2), drawn.choose(logits, 2))
    assert not torch.equal(drawn.choose(logits, 2), drawn.choose(logits, 3))
    # the larger the budget, the wider the support: more than the smallest margins
    wide = {i for n in range(30) for i in build(budget=15).choose(logits, n).tolist()}
    assert len(wide) > 12
    model = build()
    assert 0 <= model.accuracy() < 0.4  # nobody trained this teacher


def test_losses_and_gradient_stops():
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([3, 1, 0, 9])
    model = build()
    hard = model.loss(x, y)["loss_ce"]
    one_hot = torch.nn.functional.one_hot(y, 10).float()
    soft = model.loss(x, y, soft=one_hot)["loss_soft"]
    assert soft.item() == pytest.approx(hard.item(), rel=1e-6)
    soft.backward()
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="how often"):
        build(validation=None)
    with pytest.raises(UserError, match="nothing to choose"):
        build(batch=0)
    with pytest.raises(UserError, match="3 points are left"):
        build(budget=1).choose(torch.randn(3, 10))
    with pytest.raises(UserError, match="no samples 5 to 400"):
        Part(POOL, 5, 400)


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/rad/paper.py")
    model = MODELS.build(cfg.model)
    found = model.loss(torch.rand(2, 3, 32, 32), torch.tensor([3, 8]))
    assert all(torch.isfinite(loss) for loss in found.values())
