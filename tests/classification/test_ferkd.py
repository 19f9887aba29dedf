"""FerKD: worked numbers, limits, stored crops."""

import pytest
import torch

from pld_mmdet.classification import ferkd
from pld_mmdet.classification.ferkd import FerKD, calibrated, marginal_smoothing
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import replayed

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4,), num_classes=8)


def build(**changes) -> FerKD:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.FerKD",
        student=NET,
        teachers=[NET],
        num_samples=6,
        num_classes=8,
        crops=5,
        visits=3,
    )
    return MODELS.build(config | changes)


def batch() -> dict:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return dict(inputs=x, targets=torch.arange(6), index=torch.arange(6))


def test_marginal_smoothing_by_hand():
    """0.03 over 995 classes; and the addendum's ten classes."""
    top = torch.tensor([[0.5, 0.3, 0.1, 0.05, 0.02]], dtype=torch.float64)
    found = marginal_smoothing(top, torch.tensor([[7, 3, 999, 0, 12]]), 1000)
    assert found[0, 1].item() == pytest.approx(3.01508e-5, abs=1e-10)
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
    assert found[0, [7, 3, 999, 0, 12]].tolist() == top[0].tolist()
    top = torch.tensor([[0.5, 0.2, 0.1, 0.05, 0.03]])
    soft = marginal_smoothing(top, torch.tensor([[2, 9, 0, 4, 5]]), 10)
    assert soft[0, 1].item() == pytest.approx(0.024, abs=1e-7)
    z = torch.zeros(1, 10)
    z[0, 2] = 1
    assert soft_cross_entropy(z, soft).item() == pytest.approx(1.961150, abs=1e-5)
    hard, _ = calibrated(soft, torch.tensor([2]), 0.0, 0.6)
    assert soft_cross_entropy(z, hard).item() == pytest.approx(1.561150, abs=1e-5)
    none = marginal_smoothing(torch.zeros(0, 5), torch.zeros(0, 5).long(), 10)
    assert none.shape == (0, 10)
    with pytest.raises(UserError, match="leave no class"):
        marginal_smoothing(top, torch.tensor([[2, 1, 0, 4, 3]]), 5)


def test_bands_of_a_teachers_certainty():
    soft = torch.tensor([[0.3, 0.36, 0.34], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    labels, kept = calibrated(soft, torch.tensor([0, 1, 2]), 0.4, 0.6, eps=0.2)
    assert kept.tolist() == [False, True, True]
    assert labels[1].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert torch.equal(labels[2], soft[2])
    same, kept = calibrated(soft, torch.tensor([0, 1, 2]), 0.0, 0.0)
    assert torch.equal(same, soft)
    assert kept.all()
    assert not calibrated(soft, torch.tensor([0, 1, 2]), 0.0, 0.0, 0.6)[1][2]


def test_the_ends_of_the_bands():
    """Numbers that lie on T_L, T_M and T_T: kept, soft, kept."""
    soft = torch.tensor([[0.5, 0.25, 0.25], [0.625, 0.25, 0.125], [0.125, 0.75, 0.125]])
    labels, kept = calibrated(soft, torch.tensor([2, 0, 1]), 0.5, 0.625, 0.75, 0.2)
    assert kept.all()
    assert labels[0].tolist() == pytest.approx([0.1, 0.1, 0.8])
    assert torch.equal(labels[1:], soft[1:])
    none, kept = calibrated(soft[:0], torch.zeros(0).long(), 0.5, 0.6)
    assert none.shape == (0, 3)
    assert kept.shape == (0,)


def test_crops_are_replayed():
    x = batch()["inputs"]
    whole = torch.tensor([[0.0, 0, 1, 1]]).repeat(6, 1)
    no = torch.zeros(6, dtype=torch.bool)
    assert torch.allclose(replayed(x, whole, no), x, atol=1e-5)
    assert torch.allclose(replayed(x, whole, ~no), x.flip(3), atol=1e-5)
    # rows and columns shares: an image that is its own row number
    rows = torch.arange(8.0).view(1, 1, 8, 1).repeat(6, 3, 1, 8)
    lower = replayed(rows, torch.tensor([[0.5, 0, 0.5, 1]]).repeat(6, 1), no)
    assert lower[0, 0, :, 3].tolist()[1:7] == pytest.approx(
        [4.25, 4.75, 5.25, 5.75, 6.25, 6.75], abs=1e-5
    )
    assert replayed(x[:0], whole[:0], no[:0]).shape == (0, 3, 8, 8)


def test_stored_labels_are_the_teachers_and_a_loss_asks_no_teacher():
    model, data = build(low=0.0, middle=0.0), batch()
    model.start_stage("distill", [data], None)
    crop = replayed(data["inputs"], model.boxes[:, 2], model.flips[:, 2])
    p = model.teachers[0](crop).softmax(1).topk(5)
    assert torch.allclose(model.top[:, 2], p.values, atol=1e-6)
    assert torch.equal(model.classes[:, 2].long(), p.indices)
    model.teachers[0].forward = None  # would fail if it were asked
    found = model.loss(**data)
    assert found["kept"] == 1
    found["loss"].backward()
    assert all(p.grad is not None for p in model.student.parameters())


def test_every_process_stores_what_all_of_them_labelled(monkeypatch):
    """Each sees half of the images: the other half once had labels of zeros."""
    halves = [{k: v[i : i + 3] for k, v in batch().items()} for i in (0, 3)]
    sent = []
    monkeypatch.setattr(ferkd, "gathered", lambda rows: sent.append(rows) or rows)
    other = build()
    other.start_stage("distill", [halves[1]], None)
    assert other.top[:3].sum() == 0
    theirs = iter(sent)
    monkeypatch.setattr(ferkd, "gathered", lambda rows: torch.cat([rows, next(theirs)]))
    model = build()
    model.start_stage("distill", [halves[0]], None)
    for name in ("boxes", "flips", "top", "classes"):
        assert torch.equal(getattr(model, name)[3:], getattr(other, name)[3:]), name
    assert (model.top[:, :, 0] > 1 / 8).all()
    assert model.thresholds[0] >= model.top[..., 0].min() > 0
    assert set(model._ddp_params_and_buffers_to_ignore) == set(
        dict(model.named_buffers(recurse=False))
    )


def test_a_batch_is_the_mean_over_its_kept_crops():
    """All five crops of each image, written out one by one."""
    changes = dict(low=0.2, middle=0.6, eps=0.3, visits=5)
    model, data = build(**changes).eval(), batch()
    model.start_stage("distill", [data], None)
    low, middle = model.thresholds.tolist()
    costs, bands = [], set()
    for i in range(6):
        for crop in range(5):
            top, classes = model.top[i, crop], model.classes[i, crop]
            sure = top.max().item()
            if sure < low:
                bands.add("dropped")
                continue
            bands.add("hard" if sure < middle else "soft")
            label = torch.full((8,), (1 - top.sum().item()) / 3)
            label[classes.long()] = top
            if sure < middle:
                label = torch.full((8,), 0.3 / 7)
                label[data["targets"][i]] = 0.7
            box, flip = model.boxes[i, crop][None], model.flips[i, crop][None]
            z = model.student(replayed(data["inputs"][i : i + 1], box, flip))
            costs.append(-(label * z.log_softmax(1)[0]).sum().item())
    assert bands == {"dropped", "hard", "soft"}
    found = model.loss(**data)
    assert found["loss"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    assert found["kept"].item() == pytest.approx(len(costs) / 30)


def test_visits_are_drawn_and_crops_have_the_asked_area():
    model, data = build(visits=1, area=(0.5, 0.6)), batch()
    model.start_stage("distill", [data], None)
    areas = model.boxes[..., 2] * model.boxes[..., 3]
    assert 0.5 - 1e-6 <= areas.min() <= areas.max() <= 0.6 + 1e-6
    seen = []
    model.student.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    for _ in range(40):
        model.loss(**data)
    assert len(torch.stack(seen).unique(dim=0)) == 5


def test_the_teacher_learns_from_crops():
    model, data, seen = build(), batch(), []
    model.enter_stage("teacher")
    model.teachers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    found = model.eval().loss(**data)["loss_teacher_0"]
    assert seen[0].shape == data["inputs"].shape
    assert not torch.allclose(seen[0], data["inputs"], atol=1e-3)
    z = model.teachers[0](seen[0])
    expected = torch.nn.functional.cross_entropy(z, data["targets"])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_quantiles_say_what_is_kept():
    shares = []
    for low in (0.0, 0.2, 0.6):
        model = build(low=low, middle=max(low, 0.7), visits=5)
        model.start_stage("distill", [batch()], None)
        shares.append(model.loss(**batch())["kept"].item())
    assert shares[0] == 1
    assert shares[1] == pytest.approx(0.8, abs=0.05)
    assert shares[2] == pytest.approx(0.4, abs=0.05)


def test_all_hard_is_label_smoothing():
    model, data = build(low=0.0, middle=1.0, crops=1, visits=1), batch()
    model.start_stage("distill", [data], None)
    model.thresholds[1] = 1.01
    crop = replayed(data["inputs"], model.boxes[:, 0], model.flips[:, 0])
    z = model.student(crop)
    # eps is spread over the other classes only: 0.1 * 8 / 7 of torch's smoothing
    expected = torch.nn.functional.cross_entropy(
        z, data["targets"], label_smoothing=0.1 * 8 / 7
    )
    found = model.loss(**data)["loss"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="low=0"):
        build(low=0.3, middle=0.1)
    with pytest.raises(UserError, match="one teacher"):
        build(teachers=[NET, NET])
    with pytest.raises(UserError, match="no work_dataloader"):
        build().start_stage("distill", None, None)


def halves() -> list[dict]:
    return [{k: v[i : i + 3] for k, v in batch().items()} for i in (0, 3)]


def stored(model) -> list[torch.Tensor]:
    return [model.boxes, model.flips, model.top, model.classes, model.thresholds]


def test_stored_labels_are_a_compact_file_that_is_gone_on_with(tmp_path):
    """Killed after the first half, the teacher is asked about the second one only."""
    asked = []

    def build_counted(file):
        model = build(labels=str(file))
        forward = model.teachers[0].forward
        model.teachers[0].forward = lambda x: asked.append(len(x)) or forward(x)
        return model

    whole = build_counted(tmp_path / "whole.bin")
    whole.start_stage("distill", halves(), None)
    assert (tmp_path / "whole.bin").stat().st_size == 6 * (5 * 29 + 1)
    assert sum(asked) == 6 * 5

    def killed():
        yield halves()[0]
        raise KeyboardInterrupt

    file = tmp_path / "deep" / "again.bin"
    with pytest.raises(KeyboardInterrupt):
        build_counted(file).start_stage("distill", killed(), None)
    assert "sha256" not in file.with_name("again.bin.json").read_text()
    asked.clear()
    again = build_counted(file)
    again.start_stage("distill", halves(), None)
    assert sum(asked) == 3 * 5
    assert file.read_bytes() == (tmp_path / "whole.bin").read_bytes()
    pairs = zip(stored(again), stored(whole), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)

    asked.clear()
    third = build_counted(file)
    third.start_stage("distill", [], None)  # complete: nobody is asked, no image read
    assert not asked
    assert all(
        torch.equal(a, b) for a, b in zip(stored(third), stored(whole), strict=True)
    )
    # the kept label is the teacher's of the kept box, to half precision
    crop = replayed(batch()["inputs"], whole.boxes[:, 4], whole.flips[:, 4])
    p = build().teachers[0](crop).softmax(1).topk(5)
    assert torch.allclose(whole.top[:, 4], p.values, atol=5e-4)
    assert not torch.equal(whole.top[:, 4], p.values)


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "labels.bin"
    build(labels=str(file)).start_stage("distill", halves(), None)
    other = build(labels=str(file))
    other.teachers[0].fc.weight.data.add_(1)
    with pytest.raises(UserError, match="another maker"):
        other.start_stage("distill", halves(), None)
    with pytest.raises(UserError, match="another crops"):
        build(labels=str(file), crops=4).start_stage("distill", halves(), None)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="checksum differs"):
        build(labels=str(file)).start_stage("distill", halves(), None)
    (tmp_path / "labels.bin.json").unlink()
    with pytest.raises(UserError, match="beside it"):
        build(labels=str(file)).start_stage("distill", halves(), None)
    with pytest.raises(UserError, match="3 of 6 images have no labels"):
        build(labels=str(tmp_path / "few.bin")).start_stage(
            "distill", halves()[:1], None
        )
