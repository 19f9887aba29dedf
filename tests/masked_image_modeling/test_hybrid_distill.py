"""Hybrid Distill: relations by hand, who stays, where gradients stop, the sentences."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.distill.relations import relation_kl, relation_scores
from pld_mmdet.errors import UserError
from pld_mmdet.masked_image_modeling import hybrid_distill
from pld_mmdet.masked_image_modeling.hybrid_distill import (
    least_redundant,
    relation_loss,
    thinned,
)
from pld_mmdet.masked_image_modeling.scores.attention import (
    AttentionMetric,
    attention_distance,
    attention_nmi,
)
from tests.toy_run import ROOT, enter, toy_config, train


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/hybrid_distill/toy.py").model
    cfg.update(changes)
    return MODELS.build(cfg)


def images(n=4):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def scores(rows):
    return relation_scores(torch.tensor([rows]), 1)


def test_relations_by_hand():
    """Teacher tokens (2, 0), (1, 1), student (1, 0), (0, 1), scores over sqrt 2."""
    theirs, ours = scores([[2.0, 0.0], [1.0, 1.0]]), scores([[1.0, 0.0], [0.0, 1.0]])
    assert relation_kl(theirs, ours).item() == pytest.approx(0.053081, abs=2e-6)
    assert relation_kl(ours, theirs).item() == pytest.approx(0.054551, abs=2e-6)
    double = scores([[2.0, 0.0], [0.0, 2.0]])  # the page's number: 2 I against I
    assert relation_kl(double, ours).item() == pytest.approx(0.225024, abs=2e-6)
    assert relation_kl(ours, double).item() == pytest.approx(0.357133, abs=2e-6)
    # With Q = K = V both pairs are this one.
    tokens = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.eye(2)
    qkv = [rows.repeat(1, 3)[None] for rows in tokens]
    assert relation_loss(*qkv, 1).item() == pytest.approx(2 * 0.053081, abs=4e-6)
    assert relation_loss(qkv[0], qkv[0], 1).item() == pytest.approx(0, abs=1e-7)


def test_relations_of_queries_with_keys_and_of_values():
    """Five numbers that none of the others can stand for, one head."""
    q, k, v = torch.tensor([[[2.0, 0], [1, 1]], [[0, 1], [3, 0.5]], [[1, 0], [-1, 2]]])
    theirs = torch.cat([q, k, v], 1)[None]
    ours = torch.cat([k.flip(1), v, q + 0.3], 1)[None]

    def relation(a, b):
        return (a @ b.T / 2**0.5).softmax(1)

    def kl(p, r):
        return (p * (p / r).log()).sum(1).mean()

    wanted = kl(relation(q, k), relation(k.flip(1), v))
    wanted = wanted + kl(relation(v, v), relation(q + 0.3, q + 0.3))
    assert relation_loss(theirs, ours, 1).item() == pytest.approx(wanted.item(), 1e-5)


def test_the_loss_from_the_parts():
    """Nothing leaves; four heads, the mean of two layers; both norms have weights."""
    model, x = build(schedule=[], alpha=0.5), images()
    for network in (model.student, model.feature_teacher.network):
        torch.nn.init.uniform_(network.norm.weight, 0.2, 3.0)
        torch.nn.init.normal_(network.norm.bias)
    losses = model.loss(x)
    x = model.normalised(x)
    found = []
    for network in (model.student, model.relation_teacher.network):
        blocks = {f"at_{i}": network.blocks[i].attn.qkv for i in (1, 2)}
        with FeatureTap(**blocks) as tap:
            network(x)
        found.append([tap.output(name) for name in blocks])
    ours, theirs = found
    wanted = [relation_loss(*pair, 4) for pair in zip(theirs, ours, strict=True)]
    assert losses["loss_rel"].item() == pytest.approx(sum(wanted).item() / 2, rel=1e-4)
    off = F.layer_norm(model.student(x), (48,)) - F.layer_norm(
        model.feature_teacher(x), (48,)
    )
    wanted = torch.where(off.abs() < 1, off.square() / 2, off.abs() - 0.5).mean()
    assert losses["loss_feat"].item() == pytest.approx(0.5 * wanted.item(), rel=1e-3)


def test_what_the_teachers_learn_and_the_rival():
    groups = [2, 0, 1, 1, 0, 2, 2, 1, 0, 1]
    model, x = build(teacher_classes=groups), images()
    y = torch.tensor([0, 1, 4, 2])
    for stage, network, head, classes in (
        ("feature_teacher", "learner_features", "head_features", [2, 0, 0, 1]),
        ("relation_finetune", "learner_relations", "head_relations", [0, 1, 4, 2]),
    ):
        enter(model, stage)
        tokens = getattr(model, network)(model.normalised(x))
        logits = getattr(model, head)(tokens[:, 1:].mean(1))
        wanted = F.cross_entropy(logits, torch.tensor(classes))
        torch.testing.assert_close(model.loss(x, y)["loss_ce"], wanted)


def test_the_token_that_is_like_all_others_leaves():
    """Cosine sums: 0.6 + 1, 0.6 + 0.8 + 1, 0.8 + 1: the middle one is redundant."""
    tokens = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 0.2]]])
    assert least_redundant(tokens, 0.67).tolist() == [[0, 2]]
    assert least_redundant(tokens, 1.0).tolist() == [[0, 1, 2]]
    assert least_redundant(tokens, 0.01).shape == (1, 1)
    assert least_redundant(tokens[:0], 0.67).shape == (0, 2)


def test_kept_tokens_are_nested_and_the_class_token_stays():
    model = build()
    x = model.normalised(images())
    tokens, seen = thinned(model.student, x, {0: 0.9, 1: 0.9, 2: 0.5})
    assert [kept.shape[1] for kept in seen] == [14, 12, 6, 6]
    for before, after in pairwise(seen):
        for wide, narrow in zip(before.tolist(), after.tolist(), strict=True):
            assert set(narrow) <= set(wide)
    assert tokens.shape == (4, 7, 48)
    whole, seen = thinned(model.student, x, {0: 1.0})
    assert torch.equal(whole, model.student(x))
    assert seen[-1].tolist() == [list(range(16))] * 4


def test_a_student_that_is_its_teachers_costs_nothing():
    model = build(schedule=[])
    for teacher in (model.feature_teacher, model.relation_teacher):
        teacher.network.load_state_dict(model.student.state_dict())
    losses = model.loss(images())
    assert losses["loss_feat"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_rel"].item() == pytest.approx(0, abs=1e-6)
    # With tokens left out the student's attention differs; relations of the first
    # block do not: rows and columns are taken before the softmax.
    model = build(schedule=[(0, 0.5)], layers=[0])
    model.relation_teacher.network.load_state_dict(model.student.state_dict())
    losses = model.loss(images())
    assert losses["loss_rel"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_feat"].item() > 0.01


def test_weights_and_gradients():
    model = build(alpha=2.0, beta=3.0)
    losses = model.loss(images())
    single = build()
    single.load_state_dict(model.state_dict())
    ones = single.loss(images())
    assert losses["loss_feat"].item() == pytest.approx(2 * ones["loss_feat"].item())
    assert losses["loss_rel"].item() == pytest.approx(3 * ones["loss_rel"].item())
    losses["loss_rel"].backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"student"}
    # Blocks behind the last relation have no say in it.
    assert model.student.blocks[3].attn.qkv.weight.grad is None
    assert model.student.blocks[2].attn.qkv.weight.grad.abs().sum() > 0
    assert model.loss(images()).keys() == {"loss_feat", "loss_rel"}
    assert build(beta=0.0).loss(images()).keys() == {"loss_feat"}
    assert build(alpha=0.0).loss(images()).keys() == {"loss_rel"}


def test_the_features_teacher_is_taken_when_it_first_knows_enough():
    model = build(stop_at=0.5)
    enter(model, "feature_teacher")
    before = model.feature_teacher.network.norm.weight.clone()
    torch.nn.init.constant_(model.learner_features.norm.weight, 2.0)
    y = torch.tensor([1, 3, 5, 8])
    model.loss(images(), y)
    assert not model.ready[0]
    assert torch.equal(model.feature_teacher.network.norm.weight, before)
    model.feature_accuracy.fill_(0.8)
    model.loss(images(), y)
    assert model.ready.tolist() == [True, False]
    torch.nn.init.constant_(model.learner_features.norm.weight, 3.0)
    model.loss(images(), y)  # it goes on, and is not taken again
    model.start_stage("distill", None, Path())
    assert set(model.feature_teacher.network.norm.weight.tolist()) == {2.0}
    assert model.ready.tolist() == [True, True]
    ours, theirs = model.learner_relations, model.relation_teacher.network
    assert torch.equal(ours.pos_embed, theirs.pos_embed)
    assert torch.equal(ours.cls_token, theirs.cls_token)


def test_attention_by_hand():
    """Four patches; one head looks at itself, one at the first patch alone."""
    itself, first = torch.eye(4), torch.eye(4)[[0, 0, 0, 0]]
    attention = torch.stack([itself, first])[None]
    # Distances to patch 0 of a 2 x 2 grid: 0, 1, 1, sqrt 2.
    wanted = (0 + (2 + 2**0.5) / 4) / 2
    assert attention_distance(attention).item() == pytest.approx(wanted)
    assert attention_nmi(attention[:, :1]).item() == pytest.approx(1, abs=1e-6)
    assert attention_nmi(attention[:, 1:]).item() == pytest.approx(0, abs=1e-6)
    # Queries 0, 1 look at key 0, queries 2, 3 at keys 1 and 2 in halves: H(k) = 1.0397,
    # H(q) = 1.3863, H(q, k) = 1.7329.
    half = torch.tensor(
        [[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0]]
    )
    assert attention_nmi(half[None, None]).item() == pytest.approx(0.57735, abs=1e-4)
    metric = AttentionMetric()
    pair = dict(distance=torch.tensor([1.0, 3.0]), nmi=torch.tensor([0.2, 0.3]))
    metric.process({}, [pair])
    assert metric.compute_metrics(metric.results) == pytest.approx(
        {"distance": 2.0, "nmi": 0.25}
    )
    with pytest.raises(UserError, match="square grid"):
        attention_nmi(torch.zeros(1, 1, 5, 5))


def test_answers_of_student_and_relations_teacher():
    model = build()
    x, y = images(), torch.zeros(4, dtype=torch.long)
    (ours,) = model.predict(x, y)
    assert torch.allclose(ours["logits"], model.head(model.features(x)))
    # the last block's patches among themselves, without the class token
    block = model.student.blocks[-1].attn.qkv
    torch.nn.init.normal_(block.weight, std=0.5)  # or attention is nearly even
    with FeatureTap(last=block) as tap:
        model.student(model.normalised(x))
    q, k, _ = tap.output("last")[:, 1:].unflatten(2, (3, 4, 12)).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(2, 3) / 12**0.5).softmax(3)
    (ours,) = model.predict(x, y)
    torch.testing.assert_close(ours["nmi"], attention_nmi(attention))
    torch.testing.assert_close(ours["distance"], attention_distance(attention))
    model.predict_on = "relation_teacher"
    (theirs,) = model.predict(x, y)
    assert not torch.equal(theirs["logits"], ours["logits"])


def test_a_short_run_takes_both_teachers(tmp_path):
    options = [f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1, 2, 4)]
    runner = train(toy_config("configs/hybrid_distill/toy.py", tmp_path, *options))
    model = runner.model
    assert model.ready.all()
    for teacher, learner in (
        (model.feature_teacher, model.learner_features),
        (model.relation_teacher, model.learner_relations),
    ):
        state = teacher.network.state_dict()
        assert all(torch.equal(state[k], v) for k, v in learner.state_dict().items())
    assert len(list(tmp_path.glob("stages/*_export/encoder.pth"))) == 1


def test_refuses_what_cannot_work():
    vit = Config.fromfile(ROOT / "configs/hybrid_distill/toy.py").model.student
    with pytest.raises(UserError, match="has 4 heads, the relations' teacher 2"):
        build(relation_teacher=dict(vit, heads=2))
    with pytest.raises(UserError, match=r"layers=\[4\] of 4 blocks"):
        build(layers=[4])
    with pytest.raises(UserError, match="without teacher_classes"):
        build(teacher_classes=None)
    with pytest.raises(UserError, match="above 0"):
        build(schedule=[(0, 0.0)])
    model = build(teacher_decoder=None)
    with pytest.raises(UserError, match="`relation_teacher` needs teacher_decoder"):
        enter(model, "relation_teacher")


def test_page_and_docstring_say_that_it_is_a_reconstruction():
    """The authors published no code, and their equations could not be checked."""
    page = (ROOT / "docs/masked_image_modeling.md").read_text("utf-8")
    section = page.partition("## Hybrid Distill")[2].partition("\n## ")[0]
    assert "reconstruction" in section.splitlines()[0] + hybrid_distill.__doc__
    assert "**A reconstruction**" in section
    assert "**A reconstruction**" in hybrid_distill.__doc__
