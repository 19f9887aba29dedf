"""WAD: worked numbers, what a round does, and who learns from what."""

import pytest
import torch

from pld_mmdet.classification.data.mismatched import Mismatched, unknown_count
from pld_mmdet.classification.wad import Graded, class_scores, knowledge, share_moved
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", widths=(4,))
DIGITS = dict(type="pld_mmdet.Digits", part="val")


def mixed(**changes) -> dict:
    config = dict(dataset=DIGITS, classes=[2, 7], labelled=3, pool=9, mismatch=0.25)
    return dict(type="pld_mmdet.Mismatched", **config | changes)


def build(**changes):
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.WAD",
        student=dict(NET, num_classes=2),
        teacher=NET,
        num_classes=2,
        num_samples=18,
        width=5,
        rounds=3,
        alpha=0.9,
    )
    return MODELS.build(config | changes)


def everything() -> list[dict]:
    data = Mismatched(**{k: v for k, v in mixed().items() if k != "type"})
    batch = [data[i] for i in range(len(data))]
    return [torch.utils.data.default_collate(part) for part in (batch[:7], batch[7:])]


def test_weights_by_hand():
    """The page's and the addendum's scores; equal ones; a best one below 0."""
    scores = torch.tensor(
        [[0.9, 0.6, -0.2], [0.1, 0.8, 0.72], [0.4, 0.4, 0.1], [-0.3, -0.1, -0.2]]
    )
    label, weight = knowledge(scores)
    assert label.tolist()[:2] == [0, 1]
    assert label[3] == 1
    assert weight.tolist() == pytest.approx([0.3, 0.08, 0, 0], abs=1e-6)
    assert [part.shape for part in knowledge(scores[:0])] == [(0,), (0,)]
    with pytest.raises(UserError, match="no second best"):
        knowledge(scores[:, :1])


def test_class_scores_are_the_nearest_labelled_image():
    anchors = torch.tensor([[2.0, 0], [0, 3], [3, 4]])
    found = class_scores(torch.tensor([[1.0, 0], [0.6, 0.8]]), anchors,
                         torch.tensor([0, 2, 0]), 3)  # fmt: skip
    assert found.tolist() == [
        pytest.approx([1, -1, 0], abs=1e-6),
        pytest.approx([1, -1, 0.8], abs=1e-6),
    ]
    none = class_scores(anchors, anchors[:0], torch.zeros(0).long(), 2)
    assert none.tolist() == [[-1, -1]] * 3
    with pytest.raises(UserError, match="labels from 0 to 2 for 2 classes"):
        class_scores(anchors, anchors, torch.tensor([0, 2, 0]), 2)
    with pytest.raises(UserError, match="do not fit together"):
        class_scores(anchors, anchors[:, :1], torch.tensor([0, 1, 0]), 2)


def test_how_many_join_by_hand():
    """R = 5, alpha = 0.1 of 1000 images; m = 0.6 of 200."""
    moved = [round(share_moved(r, 5, 0.1) * 1000) for r in range(1, 7)]
    assert moved == [64, 36, 16, 4, 0, 0]
    assert unknown_count(200, 0.6) == 300
    assert unknown_count(0, 0.6) == 0
    with pytest.raises(UserError, match="no share"):
        unknown_count(3, 1.0)


def test_the_mixed_set_hides_what_it_should():
    data = Mismatched(DIGITS, [2, 7], labelled=3, pool=9, mismatch=0.25, seed=4)
    assert data.targets.tolist() == [0] * 3 + [1] * 3 + [-1] * 12
    assert data.foreign.tolist() == [-1] * 6 + [0] * 9 + [1] * 3
    truth = data.dataset.targets[data.places]
    assert truth[:6].tolist() == [2] * 3 + [7] * 3
    assert set(truth[6:15].tolist()) == {2, 7}
    assert not set(truth[15:].tolist()) & {2, 7}
    assert len(data.places.unique()) == 18
    assert torch.equal(data[16]["inputs"], data.dataset[int(data.places[16])]["inputs"])
    test = Mismatched(DIGITS, [7, 2])
    assert test.metainfo["classes"] == ("7", "2")
    assert [int(test[i]["targets"]) for i in range(len(test))] == [
        {7: 0, 2: 1}[t] for t in test.dataset.targets.tolist() if t in (2, 7)
    ]
    with pytest.raises(UserError, match="there are"):
        Mismatched(DIGITS, [2, 7], labelled=300)
    with pytest.raises(UserError, match="no target classes"):
        Mismatched(DIGITS, [2, 70])


def test_a_round_weighs_grows_and_is_read_back(tmp_path):
    model, data = build(width=64), everything()
    model.embedded = lambda x: x.flatten(1)  # a teacher that sees the pixels
    model.start_stage("round_1", data, tmp_path)
    file = torch.load(tmp_path / "knowledge.pth", weights_only=True)
    assert (file["labels"] >= 0).sum() == 6
    # a labelled image is its own nearest one
    assert torch.equal(file["pseudo"][:6], file["labels"][:6])
    scores = model.scores(model.features)
    best = scores.sort(1, descending=True).values
    assert torch.allclose(file["weight"], best[:, 0] - best[:, 1], atol=1e-6)
    assert file["weight"].std() > 0

    model.start_stage("round_2", data, tmp_path)
    z = model.eval().student(torch.cat([b["inputs"] for b in data]))
    rows = torch.nn.functional.cross_entropy(z, file["pseudo"], reduction="none")
    new = set((rows[6:].argsort()[:5] + 6).tolist())  # 0.9 (1 - 1/3)^2 of 12
    joined = model.joined.nonzero().flatten().tolist()
    assert set(joined) == new
    assert torch.equal(model.labels[joined], file["pseudo"][joined])
    before = model.labels.clone()
    model.start_stage("round_2", data, tmp_path)  # a killed start is done again
    assert torch.equal(model.labels, before)

    own = build(width=64, use="own")  # its labelled images stay the given ones
    own.embedded, folder = model.embedded, tmp_path / "own"
    folder.mkdir()
    for name in ("round_1", "round_2"):
        own.start_stage(name, data, folder)
    assert not own.joined.any()

    graded = Graded(mixed(), str(tmp_path / "knowledge.pth"))
    assert [len(part) for part in graded.datasets] == [11, 7]
    first, last = graded[10], graded[11]
    assert first["labelled"]
    assert not last["labelled"]
    assert last["targets"] in (0, 1)
    assert last["index"] == graded.datasets[1][0]


def test_weighted_loss_and_its_rivals(tmp_path):
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])  # one of two is wrong
    batch = dict(inputs=x, targets=y, labelled=torch.tensor([True, True, False, False]))
    ce = torch.nn.functional.cross_entropy
    model = build(noise=0.0, shift=0).eval()
    z = model.student(x)
    # mirrored or not: ask a symmetric image
    x.copy_((x + x.flip(3)) / 2)
    z = model.student(x)
    found = model.loss_round(**batch, weight=torch.tensor([9, 9, 0.3, 0.08]))
    rows = ce(z, y, reduction="none")
    expected = (0.3 * rows[2] + 0.08 * rows[3]) / 2
    assert found["loss_unlabelled"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["loss_labelled"].item() == pytest.approx(
        rows[:2].mean().item(), rel=1e-5
    )
    same = model.loss_round(**batch, weight=torch.full((4,), 0.2))
    plain = 0.2 * rows[2:].mean()
    assert same["loss_unlabelled"].item() == pytest.approx(plain.item(), rel=1e-5)
    own = (
        build(noise=0.0, shift=0, use="own").eval().loss_round(**batch, weight=y + 1.0)
    )
    sure = ce(z, z.argmax(1), reduction="none")
    own_mean = ((y + 1) * sure)[2:].mean().item()
    assert own["loss_labelled"].item() == pytest.approx(
        rows[:2].mean().item(), rel=1e-5
    )
    assert own["loss_unlabelled"].item() == pytest.approx(own_mean, rel=1e-5)
    nothing = build(use="nothing").loss_round(**batch, weight=y + 1.0)
    assert list(nothing) == ["loss_labelled"]
    none = torch.zeros(4, dtype=torch.bool)
    alone = model.loss_round(**batch | {"labelled": ~none}, weight=y + 1.0)
    assert alone["loss_unlabelled"] == 0
    flat = build(width=64, use="flat")
    flat.embedded = lambda x: x.flatten(1)
    flat.start_stage("round_1", everything(), tmp_path)
    weight = torch.load(tmp_path / "knowledge.pth", weights_only=True)["weight"]
    _, own_weight = knowledge(flat.scores(flat.features))
    assert weight.tolist() == pytest.approx([own_weight[6:].mean().item()] * 18)


def test_each_half_has_its_own_batch_statistics():
    """As released: labelled and unlabelled images pass the student one after another.

    A batch norm as student makes [-1, 1] of both pairs, [1, 3] and [10, 30]; in one
    pass the first two would lie close together.
    """

    class Norm(torch.nn.Module):
        def forward(self, x):
            z = x[:, 0, 0, :1]
            z = (z - z.mean(0)) / z.std(0, correction=0)
            return torch.cat([z, torch.zeros_like(z)], 1)

    model = build(noise=0.0, shift=0)
    model.student = Norm()
    x = torch.tensor([10.0, 1, 30, 3])[:, None, None, None].expand(-1, 1, 8, 8)
    found = model.loss_round(
        x,
        torch.tensor([0, 1, 1, 0]),
        weight=torch.tensor([0.3, 9, 0.08, 9]),
        labelled=torch.tensor([False, True, False, True]),
    )
    # log(1 + e) = 1.313262 where class 0 has -1, log(1 + 1/e) = 0.313262 where it has 1
    assert found["loss_labelled"].item() == pytest.approx(0.313262, rel=1e-5)
    own = (0.3 * 1.313262 + 0.08 * 1.313262) / 2
    assert found["loss_unlabelled"].item() == pytest.approx(own, rel=1e-5)


def test_labels_only_sees_labelled_images_only():
    model, seen = build(use="nothing", noise=0.0, shift=0).eval(), []
    model.student.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x = torch.rand(4, 1, 8, 8)
    x = (x + x.flip(3)) / 2
    y, known = torch.tensor([1, 0, 1, 0]), torch.tensor([True, False, False, True])
    found = model.loss_round(x, y, weight=torch.ones(4), labelled=known)
    assert seen == [2]
    loss = torch.nn.functional.cross_entropy(model.student(x)[known], y[known])
    assert found["loss_labelled"].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("tau", "both"), [(0.5, 1.719348), (0.1, 1.900299)])
def test_the_teachers_contrast_is_the_mean_over_all_views(tau, both):
    """The addendum's pairs, whose sum of both directions is given: half of it."""
    model = build(temperature=tau)
    model.enter_stage("teacher")
    model.embedded = lambda x: torch.tensor([[1.0, 0], [1, 1], [1, 0.5], [0, 1]])
    loss = model.loss(inputs=torch.rand(2, 1, 8, 8))["loss"]
    assert loss.item() == pytest.approx(both / 2, abs=1e-5)


def test_only_the_stages_part_learns():
    model = build()
    model.enter_stage("teacher")
    loss = model.loss(inputs=torch.rand(6, 1, 8, 8))["loss"]
    loss.backward()
    assert all(p.grad is None for p in model.student.parameters())
    assert any(p.grad is not None for p in model.projector.parameters())
    model.enter_stage("round_2")
    assert not any(p.requires_grad for p in model.projector.parameters())
    assert not model.teachers.training
    answer = build(predict_on="teacher")
    answer.features.normal_()
    answer.labels[:4] = torch.tensor([0, 1, 1, 0])
    x = torch.rand(2, 1, 8, 8)
    scores = class_scores(answer.embedded(x), answer.features[:4], answer.labels[:4], 2)
    assert torch.allclose(answer.outputs(x), scores / 0.5)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(UserError, match="rounds=0"):
        build(rounds=0)
    with pytest.raises(UserError, match="use"):
        build(use="all")
    with pytest.raises(UserError, match="no work_dataloader"):
        build().start_stage("round_1", None, tmp_path)
    with pytest.raises(UserError, match="num_samples=20"):
        build(num_samples=20).start_stage("round_1", everything(), tmp_path)
