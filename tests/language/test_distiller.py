"""Distiller: the bound by hand, its limits, gradients, mappings, the runs."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.language.distiller import Distiller, flow, mi_alpha
from pld_mmdet.language.networks.matching import last_layers
from tests.language.tiny import (
    GENERAL,
    TASK,
    bert_folder,
    body,
    encoder,
    jsonl,
    shortened,
    with_gradient,
)
from tests.toy_run import enter, toy_config, train

SCORES = torch.tensor(
    [[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.5, 3.0]], dtype=torch.float64
)
ONE = torch.ones(3, dtype=torch.float64)


def model(**options) -> Distiller:
    torch.manual_seed(0)
    options = {"student": encoder(layers=2, width=4), **options}
    return Distiller(encoder(), pretrained=encoder("MaskedLM"), **options)


@pytest.mark.parametrize(
    ("mix", "value"),
    [(0, 1.669860), (0.5, 1.194133), (0.622459, 1.080595), (1, 0.543301)],
)
def test_numbers_by_hand(mix, value):
    assert mi_alpha(SCORES, ONE, mix).item() == pytest.approx(value, abs=2e-6)


def test_the_ends_are_nwj_and_the_batchs_mean_alone():
    off = ~torch.eye(3, dtype=torch.bool)
    log_q = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64)
    nwj = 1 + (SCORES.diagonal() - log_q).mean()
    nwj = nwj - (SCORES - log_q[:, None])[off].exp().mean()
    torch.testing.assert_close(mi_alpha(SCORES, log_q, 0), nwj)
    torch.testing.assert_close(mi_alpha(SCORES, log_q, 1), mi_alpha(SCORES, ONE, 1))
    # row 0, column 1: the mean leaves out that column
    mean = (math.exp(2) + math.exp(-1)) / 2
    joint, marginal = 0.0, 0.0
    for i in range(3):
        for j in range(3):
            if i == j:
                continue
            b_ij, b_ii = (
                sum(SCORES[i, k].exp() for k in range(3) if k != c) / 2 for c in (j, i)
            )
            if (i, j) == (0, 1):
                assert b_ij.item() == pytest.approx(mean)
            joint += (SCORES[i, i] - b_ij.log()) / 6
            marginal += SCORES[i, j].exp() / b_ii / 6
    torch.testing.assert_close(mi_alpha(SCORES, ONE, 1), 1 + joint - marginal)


@pytest.mark.parametrize("mix", [0, 0.3, 1])
def test_a_shift_of_scores_and_baseline_and_the_order_change_nothing(mix):
    log_q = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64)
    before = mi_alpha(SCORES, log_q, mix)
    torch.testing.assert_close(mi_alpha(SCORES + 5, log_q + 5, mix), before)
    turn = [2, 0, 1]
    turned = mi_alpha(SCORES[turn][:, turn], log_q[turn], mix)
    torch.testing.assert_close(turned, before)


def test_the_bound_of_independent_samples_is_not_above_nothing():
    torch.manual_seed(0)
    found = [mi_alpha(torch.randn(16, 16), torch.zeros(16), 0.6) for _ in range(200)]
    assert torch.stack(found).mean() < 0.02


def test_nothing_one_and_wrong_shapes():
    none = torch.zeros(0, 0, requires_grad=True)
    mi_alpha(none, torch.zeros(0), 0.5).backward()
    assert none.grad.shape == (0, 0)
    large = torch.tensor([[800.0, 0.0], [0.0, 800.0]], requires_grad=True)
    mi_alpha(large, torch.zeros(2), 0.5).backward()
    assert large.grad.isfinite().all()
    with pytest.raises(UserError, match="one sample has no other"):
        mi_alpha(torch.zeros(1, 1), torch.zeros(1), 0.5)
    with pytest.raises(UserError, match=r"mix=1.2 is no share"):
        mi_alpha(SCORES, ONE, 1.2)
    with pytest.raises(UserError, match=r"\(3, 2\) and log_baseline \(3,\)"):
        mi_alpha(SCORES[:, :2], ONE, 0.5)


def test_losses_by_hand():
    net = model(inter="mse", hard_weight=0.3, pred_weight=0.5, inter_weight=2.0)
    enter(net, "distill")
    found = net.loss(**TASK)
    mask = GENERAL["attention_mask"].bool()
    with torch.no_grad():
        h_t, _, z_t = net.finetuned.inside(**GENERAL)
        h_s, _, z_s = net.student.inside(**GENERAL)
        hard = 0.3 * F.cross_entropy(z_s, TASK["targets"])
        pred = 0.5 * ((z_s - z_t) ** 2).mean()
        pairs = [(0, 0), (1, 2), (2, 4)]
        inter = 2 * sum(
            ((net.helpers[i](h_s[i]) - h_t[j]) ** 2)[mask].mean() for i, j in pairs
        )
    for name, wanted in (("hard", hard), ("pred", pred), ("inter", inter)):
        torch.testing.assert_close(found[f"loss_{name}"].detach(), wanted)


def test_other_words():
    net = model(inter="pkd", pred="ce", mapping="last")
    assert net.pairs == [(0, 2), (1, 3), (2, 4)]
    enter(net, "distill")
    found = net.loss(**GENERAL)
    with torch.no_grad():
        h_t, _, z_t = net.finetuned.inside(**GENERAL)
        h_s, _, z_s = net.student.inside(**GENERAL)
        pred = -(z_t.softmax(1) * z_s.log_softmax(1)).sum(1).mean()
        cosines = [
            F.cosine_similarity(net.helpers[i](h_s[i])[:, 0], h_t[j][:, 0])
            for i, j in net.pairs
        ]
    torch.testing.assert_close(found["loss_pred"].detach(), pred)
    # |a - b|^2 of unit vectors is 2 - 2 cos
    inter = sum((2 - 2 * cosine).mean() for cosine in cosines)
    torch.testing.assert_close(found["loss_inter"].detach(), inter)
    same = model(inter="cos", student=encoder())
    same.student.load_state_dict(same.finetuned.state_dict())
    enter(same, "distill")
    assert not len(same.helpers)
    assert sum(same.loss(**GENERAL).values()).item() < 1e-5


def test_the_bound_is_of_first_tokens_with_one_critic_for_all_layers():
    net = model(mix=0.3)
    enter(net, "distill")
    found = net.loss(**GENERAL)
    h_t, h_s = (n.inside(**GENERAL)[0] for n in (net.finetuned, net.student))
    (helper,) = net.helpers
    bounds = []
    for i, j in ((0, 0), (1, 2), (2, 4)):
        ours, theirs = h_s[i][:, 0], h_t[j][:, 0]
        scores = helper.f(ours) @ helper.g(theirs).T
        bounds.append(mi_alpha(scores, helper.b(theirs)[:, 0], 0.3))
    torch.testing.assert_close(found["loss_inter"], -sum(bounds))
    torch.testing.assert_close(found["bound"], sum(bounds).detach() / 3)
    (unit,) = model(unit=True).helpers
    ours, theirs = torch.randn(3, 4), torch.randn(3, 8)
    cosines = F.cosine_similarity(unit.f(ours)[:, None], unit.g(theirs), dim=2)
    wanted = mi_alpha(10 * cosines, unit.b(theirs)[:, 0], 0.622)
    torch.testing.assert_close(unit(ours, theirs), wanted)


def test_cross_entropy_asks_the_teacher_what_is_likely():
    """Two far answers: either order of the two differs."""
    net = model(
        inter=None,
        pred="ce",
        pred_weight=0.7,
        student=encoder(layers=2, width=4, initializer_range=2.0),
    )
    torch.nn.init.normal_(net.finetuned.model.classifier.weight, std=2.0)
    enter(net, "distill")
    found = net.loss(**GENERAL)
    assert set(found) == {"loss_pred"}
    with torch.no_grad():
        z_t, z_s = net.finetuned(**GENERAL), net.student(**GENERAL)
        wanted, swapped = (
            -0.7 * (a.softmax(1) * b.log_softmax(1)).sum(1).mean()
            for a, b in ((z_t, z_s), (z_s, z_t))
        )
    torch.testing.assert_close(found["loss_pred"].detach(), wanted)
    assert abs(wanted - swapped) > 0.1


def test_every_layer_is_carried_to_every_one_and_the_embeddings_apart():
    """Embeddings 0.7; two layers to four: (1 + 5 + 2 + 1) / 4."""
    net = model(inter="mse", mapping="emd")
    assert net.pairs[:2] == [(0, 0), (1, 1)]
    assert net.pairs[4:] == [(1, 4), (2, 1), (2, 2), (2, 3), (2, 4)]
    costs = torch.tensor([0.7, 1, 5, 9, 9, 9, 9, 2, 1], requires_grad=True)
    net._distance = lambda place, ours, theirs, mask: costs[place]
    found = net.apart([torch.zeros(1)] * 3, [torch.zeros(1)] * 5, None)
    assert found.item() == pytest.approx(0.7 + 9 / 4)
    found.backward()
    wanted = torch.tensor([1, 1, 1, 0, 0, 0, 0, 1, 1]) / 4
    wanted[0] = 1
    torch.testing.assert_close(costs.grad, wanted)


def test_the_flow_is_the_cheapest_one():
    costs = torch.tensor([[1.0, 5.0, 9.0, 9.0], [9.0, 9.0, 2.0, 1.0]])
    found = flow(costs)
    torch.testing.assert_close(found.sum(1), torch.full((2,), 1 / 2))
    torch.testing.assert_close(found.sum(0), torch.full((4,), 1 / 4))
    assert (found * costs).sum().item() == pytest.approx((1 + 5 + 2 + 1) / 4)
    net = model(inter="mi", mapping="emd")
    assert len(net.helpers) == 1 + 2 * 4
    enter(net, "distill")
    net.loss(**GENERAL)["loss_inter"].backward()
    assert with_gradient(net) == {"student", "helpers"}


@pytest.mark.parametrize(
    ("stage", "learners"),
    [
        ("mlm", {"pretrained"}),
        ("teacher", {"finetuned"}),
        ("distill", {"student", "helpers"}),
    ],
)
def test_each_stage_trains_its_part(stage, learners):
    net = model()
    enter(net, stage)
    net.train()
    torch.manual_seed(1)
    losses = net.loss(**{k: v.repeat_interleave(5, 0) for k, v in TASK.items()})
    sum(v for k, v in losses.items() if "loss" in k).backward()
    assert with_gradient(net) == learners
    assert net.finetuned.training == (stage == "teacher")


def test_a_teacher_that_has_begun_is_not_begun_again():
    net = model()
    net.start_stage("teacher", None, None)
    first = copy.deepcopy(net.finetuned.body.state_dict())
    embeddings = "embeddings.word_embeddings.weight"
    assert torch.equal(first[embeddings], net.pretrained.body.state_dict()[embeddings])
    enter(net, "teacher")
    net.forward("loss", **TASK)
    with torch.no_grad():
        net.finetuned.body.get_input_embeddings().weight.add_(1)
    other = model()
    other.load_state_dict(net.state_dict())
    other.start_stage("teacher", None, None)
    kept = other.finetuned.body.state_dict()[embeddings]
    torch.testing.assert_close(kept, first[embeddings] + 1)


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="inter='emd' is not known"):
        model(inter="emd")
    with pytest.raises(UserError, match="vocabularies differ: student 29, teacher 30"):
        model(student=encoder(layers=2, vocab_size=29))
    with pytest.raises(UserError, match="3 layers does not divide"):
        model(student=encoder(layers=3))
    with pytest.raises(UserError, match="5 layers cannot imitate the last ones of 4"):
        last_layers(5, 4)
    net = model(hard_weight=1.0)
    enter(net, "teacher")
    with pytest.raises(UserError, match="teacher was given data without labels"):
        net.loss(**GENERAL)
    enter(net, "distill")
    with pytest.raises(UserError, match="labels that the data lack"):
        net.loss(**GENERAL)
    with pytest.raises(UserError, match="no stage 'TSD'"):
        net.check_stage("TSD")


def test_paper_config_trains_from_a_folder_and_a_jsonl_file(tmp_path):
    folder = bert_folder(tmp_path)
    lines = [dict(text="good film", label=1), dict(text="bad", pair="film", label=0)]
    for name in ("train", "dev_matched"):
        jsonl(tmp_path / f"{name}.jsonl", lines)
    cfg = toy_config("configs/distiller/paper.py", tmp_path / "run")
    shortened(cfg, tmp_path, folder)
    cfg.model.finetuned.pretrained = folder
    cfg.model.student.update(pretrained=None, config=body(2, 4, vocab_size=9))
    net = train(cfg).model
    assert net.progress.stage == "distill"
    assert net.pairs == [(0, 0), (1, 2), (2, 4)]
