"""HIAST: thresholds and losses by hand, pasting, and rounds that resume to the bit."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import entropy
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.data.pseudo_labels import (
    LabelFolder,
)
from pld_mmdet.segmentation.data.views import blur, color_jitter, strong_view
from pld_mmdet.segmentation.hiast import HIAST, update_threshold
from pld_mmdet.segmentation.learners.losses import uniform_ce
from tests.segmentation.helpers import (
    ROOT,
    copy_tree,
    images_of,
    make_streets,
    run,
    same,
    semi_batch,
    tiny_segmentor,
    toy_config,
)


def hiast(**kwargs):
    kwargs.setdefault("adversarial", 0.0)
    method = HIAST(tiny_segmentor(), **kwargs)
    method.init_weights()
    ema_update(method.teacher, method.student, 0.0, "copy")
    method.train()
    return method


def test_region_losses_of_uniform_predictions():
    """C = 19: entropy and cross-entropy with uniform are ln(19) / 19 = 0.154970."""
    log_p = torch.zeros(1, 19, 2, 2).log_softmax(1)
    assert entropy(log_p, dim=1).mean().item() / 19 == pytest.approx(0.154970, abs=1e-6)
    assert uniform_ce(log_p).mean().item() / 19 == pytest.approx(0.154970, abs=1e-6)


def test_a_threshold_by_hand():
    """Level 1 - .4 .5^2 = .9 of (.2, .5, .6, 1): .88; .7 .5 + .3 .88 = .614."""
    found = update_threshold([0.2, 0.6, 1.0], 0.5, alpha=0.4, beta=0.7, gamma=2.0)
    assert found == pytest.approx(0.614)
    one = update_threshold([1.0], 0.5, alpha=0.4, beta=0.7, gamma=2.0)
    assert one == pytest.approx(0.635)  # .9 of the way from .5 to 1
    assert update_threshold([], 0.5) == 0.5
    # it stays below 1, or nothing would be selected again
    assert update_threshold([1.0] * 9, 0.9, beta=0.0) == 0.999


def round_batch(share=0.5):
    batch = semi_batch()
    targets = torch.randint(4, batch["targets"].shape)
    targets[torch.rand(targets.shape) > share] = 255
    images = batch["inputs"]
    return dict(weak=images, strong=images.flip(0), targets=targets)


def test_each_loss_stays_in_its_region(monkeypatch):
    """Gradients of the logits: labels and smoothing on M, the other two on U."""
    method, batch = hiast(), round_batch()
    sure = batch["targets"] != 255
    logits = torch.randn(4, 4, 32, 64, requires_grad=True)

    def fixed(segmentor, images):
        return logits if segmentor is method.student else logits.detach() * 2

    monkeypatch.setattr("pld_mmdet.segmentation.hiast.full_logits", fixed)
    losses = method.loss(**batch)
    for name, region in (
        ("loss_ce", sure),
        ("loss_smooth", sure),
        ("loss_sharpen", ~sure),
        ("loss_consistency", ~sure),
    ):
        (found,) = torch.autograd.grad(losses[name], logits, retain_graph=True)
        touched = found.abs().sum(1) > 0
        assert touched[region].all(), name
        assert not touched[~region].any(), name
    per_pixel = hiast(per="pixel")
    monkeypatch.setattr(
        "pld_mmdet.segmentation.hiast.full_logits",
        lambda segmentor, images: logits.detach() * (2 - segmentor.training),
    )
    for name, factor in (("loss_ce", 1), ("loss_smooth", 4), ("loss_sharpen", 4)):
        found = per_pixel.loss(**batch)[name]
        assert found.item() == pytest.approx(factor * losses[name].item(), rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_empty_regions_cost_nothing(share):
    method = hiast()
    losses = method.loss(**round_batch(share))
    assert all(torch.isfinite(value) for value in losses.values())
    empty = "loss_ce" if share == 0 else "loss_consistency"
    assert losses[empty] == 0
    sum(v for k, v in losses.items() if "loss" in k).backward()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_average_keeps_0999_and_copies_statistics():
    method = hiast()
    old = [p.clone() for p in method.teacher.parameters()]
    method.loss(**round_batch())  # moves S's statistics
    with torch.no_grad():
        for p in method.student.parameters():
            p += 1
    ema_update(method.teacher, method.student, 0.999, "copy")
    for was, now, p in zip(
        old, method.teacher.parameters(), method.student.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.999 * was + 0.001 * p)
    theirs = dict(method.student.named_buffers())
    assert all(torch.equal(b, theirs[n]) for n, b in method.teacher.named_buffers())


def test_warm_up_teaches_the_discriminator_by_its_own_loss_alone():
    method = hiast(adversarial=0.05, discriminator_width=4)
    method.progress.stage = "warm_up"
    losses = method.loss(**semi_batch())
    judges = list(method.discriminator.parameters())
    weights = [p for p in method.student.parameters() if p.requires_grad]
    fooled = torch.autograd.grad(
        losses["loss_adversarial"], [*weights, *judges], allow_unused=True,
        retain_graph=True,
    )  # fmt: skip
    assert all(g is None for g in fooled[len(weights) :])
    assert any(g.abs().sum() > 0 for g in fooled[: len(weights)])
    own = torch.autograd.grad(
        losses["loss_discriminator"], [*weights, *judges], allow_unused=True
    )
    assert all(g is None for g in own[: len(weights)])
    assert all(g.abs().sum() > 0 for g in own[len(weights) :])


def test_rounds_freeze_affine_weights_and_stages_have_names():
    method = hiast()
    norm = method.student.backbone.layer1[0].bn1
    method.enter_stage("warm_up")
    assert norm.weight.requires_grad
    method.enter_stage("round_1")
    assert not norm.weight.requires_grad
    with pytest.raises(UserError, match="no stage 'second'"):
        method.check_stage("second")
    with pytest.raises(UserError, match="the stage round_1 has no work_dataloader"):
        method.start_stage("round_1", None, None)


def constant_answers(monkeypatch, method, table):
    """Every network answers constants by the first pixel of its images."""
    asked = []

    def answer(segmentor, images):
        name = "teacher" if segmentor is method.teacher else "student"
        asked.append((name, int(images[0, 0, 0, 0])))
        row = torch.tensor(table[name])
        return row[None, :, None, None].expand(len(images), -1, *images.shape[-2:])

    monkeypatch.setattr("pld_mmdet.segmentation.hiast.full_logits", answer)
    return asked


def test_a_round_by_hand(monkeypatch):
    """S on the strong view, E on the weak one; 3 of 8 pixels have a label.

    C = 4; the labelled pixels are of classes 0, 0 and 3; every pixel's answer is one.
    """
    method = hiast(kld=0.1, ent=2.0, cst=0.5)
    table = dict(student=[1.0, 0.0, 0.0, -1.0], teacher=[0.0, 3.0, 0.0, 0.0])
    asked = constant_answers(monkeypatch, method, table)
    targets = torch.full((1, 2, 4), 255)
    targets[0, 0, :3] = torch.tensor([0, 0, 3])
    images = torch.zeros(1, 3, 2, 4)
    losses = method.loss(weak=images + 7, strong=images + 9, targets=targets)
    assert asked == [("student", 9), ("teacher", 7)]
    total = np.e + 2 + 1 / np.e
    log_p = np.array([1.0, 0, 0, -1]) - np.log(total)
    p = np.exp(log_p)
    e = np.array([1, np.e**3, 1, 1]) / (np.e**3 + 3)
    expected = dict(
        loss_ce=-(2 * log_p[0] + log_p[3]) / 3,
        labelled=3 / 8,
        loss_smooth=0.1 * -log_p.mean() / 4,
        loss_sharpen=2.0 * -(p * log_p).sum() / 4,
        loss_consistency=0.5 * -(e * log_p).sum() / 4,
    )
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name


def test_warm_up_by_hand(monkeypatch):
    """Entropies are parts of a uniform one's; D takes source for 1, target for 0.

    The discriminator answers 0.3 for what looks like the source's map, else 0.8.
    """
    method = hiast(adversarial=0.05, warm_entropy=3.0, discriminator_width=4)
    method.progress.stage = "warm_up"

    def answer(segmentor, images):
        assert segmentor is method.student
        logits = torch.zeros(len(images), 4, *images.shape[-2:])
        logits[:, 0] = images[:, 0]  # source 2, target ln 1.5
        return logits.requires_grad_()

    monkeypatch.setattr("pld_mmdet.segmentation.hiast.full_logits", answer)
    monkeypatch.setattr(
        method.discriminator,
        "forward",
        lambda p: torch.where(p.amax() > 0.5, 0.3, 0.8) + 0 * p.mean(),
    )
    images = torch.tensor([2.0, np.log(1.5)])[:, None, None, None].expand(2, 3, 2, 4)
    entropy_ = np.log(4.5) - np.log(1.5) / 3  # p = 1/3 and three times 2/9
    batch = dict(
        inputs=images,
        targets=torch.zeros(2, 2, 4, dtype=torch.long),
        labelled=torch.tensor([True, False]),
    )
    losses = method.loss(**batch)
    expected = dict(
        loss_ce=np.log(np.e**2 + 3) - 2,
        loss_entropy=3.0 * entropy_ / np.log(4),
        loss_adversarial=0.05 * (0.8 - 1) ** 2,
        loss_discriminator=0.5 * ((0.3 - 1) ** 2 + 0.8**2),
    )
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    method.progress.stage = "source"  # the labelled images alone
    losses = method.loss(**batch)
    assert losses.keys() == {"loss_ce"}
    assert losses["loss_ce"].item() == pytest.approx(expected["loss_ce"], rel=1e-5)


def test_what_each_stage_freezes():
    method = hiast(freeze_warm_up=True)
    norm = method.student.backbone.layer1[0].bn1
    method.enter_stage("source")
    assert norm.weight.requires_grad
    method.enter_stage("warm_up")
    assert not norm.weight.requires_grad
    assert norm.training
    resumed = hiast(freeze_warm_up=True, freeze_affine=False)  # in a round
    resumed.enter_stage("round_2")
    assert not resumed.student.backbone.layer1[0].bn1.weight.requires_grad


def fill(network, value):
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(value)


def test_who_labels_and_who_is_copied(tmp_path, monkeypatch):
    """S labels before the first round, E before the others; E begins each as S."""
    method, labelled_by = hiast(), []
    monkeypatch.setattr(
        method,
        "_label",
        lambda loader, folder: labelled_by.append(
            next(method.teacher.parameters()).mean().item()
        ),
    )
    loader = work_loader(images_of(tmp_path))
    for name, s, e in (("round_1", 2.0, 5.0), ("round_2", 3.0, 7.0)):
        fill(method.student, s), fill(method.teacher, e)
        method.enter_stage(name)
        method.start_stage(name, loader, tmp_path)
        assert all((p == s).all() for p in method.teacher.parameters())
        assert all((p == s).all() for p in method.student.parameters())
    assert labelled_by == [2.0, 7.0]
    assert method.rounds == 2


def test_labelling_by_hand(tmp_path, monkeypatch):
    """Thresholds move with a batch before they select from it; E labels.

    Logits (a, 0, 0, 0), so confidence e^a / (e^a + 3) of class 0. Two batches: the mean
    confidence of the class is .99 of the first and .01 of the second.
    """
    method = hiast(theta=0.9, alpha=0.2, beta=0.7, gamma=2.0)
    paths = images_of(tmp_path, 3)
    values = iter([torch.tensor([4.0, 5.0]), torch.tensor([6.0])])

    def answer(segmentor, images):
        assert segmentor is method.teacher
        row = next(values)[:, None, None].expand(len(images), 32, 64)
        logits = torch.zeros(len(images), 4, 32, 64)
        logits[:, 0] = row
        return logits

    monkeypatch.setattr("pld_mmdet.segmentation.hiast.full_logits", answer)
    folder = LabelFolder(tmp_path / "labels")
    folder.folder.mkdir()
    method._label(work_loader(paths), folder)
    index = folder.index()
    sure = [float(np.exp(a) / (np.exp(a) + 3)) for a in (4.0, 5.0, 6.0)]
    first = update_threshold([*[sure[0]] * 2048, *[sure[1]] * 2048], 0.9, 0.2, 0.7, 2.0)
    assert min(sure[0], first) > 0.9
    last = update_threshold([sure[2]] * 2048, first, 0.2, 0.7, 2.0)
    assert index["thresholds"] == pytest.approx([last, 0.9, 0.9, 0.9], abs=1e-6)
    kept = [s for s in sure[:2] if s >= first]
    expected = 0.99 * np.mean(kept) + 0.01 * sure[2]
    assert index["confidence"][0] == pytest.approx(expected, abs=1e-6)
    assert index["confidence"][1:] == [None] * 3
    assert [path for _, path in index["images"][0]] == paths[2 - len(kept) :]
    assert (folder.read(paths[2]) == 0).all()


def test_each_class_has_its_own_threshold(tmp_path, monkeypatch):
    """Class 0 on the left, class 2 on the right; both move from batch to batch."""
    method = hiast(theta=0.9, alpha=0.2, beta=0.7, gamma=2.0)
    values = iter([(4.0, 1.0), (2.0, 6.0)])

    def answer(segmentor, images):
        logits = torch.zeros(len(images), 4, 32, 64)
        logits[:, 0, :, :32], logits[:, 2, :, 32:] = next(values)
        return logits

    monkeypatch.setattr("pld_mmdet.segmentation.hiast.full_logits", answer)
    folder = LabelFolder(tmp_path / "labels")
    folder.folder.mkdir()
    method._label(work_loader(images_of(tmp_path, 3)), folder)
    expected = [0.9] * 4
    for c, numbers in ((0, (4.0, 2.0)), (2, (1.0, 6.0))):
        for a, count in zip(numbers, (2048, 1024), strict=True):
            sure = float(np.exp(a) / (np.exp(a) + 3))
            expected[c] = update_threshold([sure] * count, expected[c], 0.2, 0.7, 2.0)
    assert folder.index()["thresholds"] == pytest.approx(expected, abs=1e-6)
    assert expected[2] < expected[0] < 0.9  # the second batch moves it down


def test_the_released_strong_view_multiplies_contrast_about_black(monkeypatch):
    """Grey 60: contrast 2.5 makes 150 (mild: the mean, itself); brightness +.4: 162."""
    from pld_mmdet.segmentation.data import views

    image = np.full((4, 4, 3), 60, np.uint8)
    monkeypatch.setattr(np.random, "uniform", lambda low, high: (low + high) / 2)
    assert (views._contrast(image) == 150).all()
    assert (views._contrast(image, mild=True) == 60).all()
    monkeypatch.setattr(np.random, "uniform", lambda low, high: 0.9 * high + 0.1 * low)
    assert (views._brightness(image) == 162).all()
    assert (views._brightness(image, mild=True) == 100).all()


def work_loader(paths):
    samples = [
        {"inputs": torch.from_numpy(cv2.imread(p)).permute(2, 0, 1), "path": p}
        for p in paths
    ]
    return DataLoader(samples, batch_size=2)


def test_the_labelling_network_is_in_evaluation_mode_from_the_start():
    """A resumed run labels before anybody has called train()."""
    assert not HIAST(tiny_segmentor(), adversarial=0.0).teacher.backbone.training


def test_what_the_published_setting_leaves_to_the_defaults():
    method = HIAST(tiny_segmentor())
    assert method.theta == 0.9
    assert len(next(method.discriminator.parameters())) == 64


def test_labelling_writes_whole_maps_once(tmp_path):
    method, paths = hiast(theta=0.3), images_of(tmp_path)
    method.enter_stage("round_1")
    folder = LabelFolder(tmp_path / "labels")
    folder.folder.mkdir()
    method.start_stage("round_1", work_loader(paths), folder.folder)
    index = folder.index()
    labels = np.stack([folder.read(path) for path in paths])
    assert set(np.unique(labels)) <= {0, 1, 2, 3, 255}
    for c, listed in enumerate(index["images"]):
        assert sum(pixels for pixels, _ in listed) == (labels == c).sum()
    assert all(theta < 1 for theta in index["thresholds"])
    assert method.rounds == 1
    # a second call with the same weights finds them; other weights make them anew
    first = folder.path(paths[0])
    first.unlink()
    method._label(work_loader(paths), folder)
    assert not first.exists()
    with torch.no_grad():
        next(iter(method.teacher.parameters())).add_(1)
    method._label(work_loader(paths), folder)
    assert first.exists()
    first.unlink()  # and so do other settings
    method.gamma = 3.0
    method._label(work_loader(paths), folder)
    assert first.exists()
    assert not list(folder.folder.glob(".*"))


def test_a_share_of_the_images_is_not_labelled_for_all(tmp_path):
    method, loader = hiast(), work_loader(images_of(tmp_path))
    method.enter_stage("round_1")
    half = DataLoader(loader.dataset, sampler=[0])
    with pytest.raises(UserError, match=r"all 3 images, but .* 1 of them"):
        method.start_stage("round_1", half, tmp_path)


def test_strong_views_keep_shape_and_geometry():
    np.random.seed(0)
    image = np.random.default_rng(0).integers(256, size=(24, 48, 3)).astype(np.uint8)
    assert (strong_view(image, 3, 0.0, (3, 5)) == image).all()
    views = [strong_view(image, 8, 1.0, (3, 5)) for _ in range(5)]
    assert all(v.shape == image.shape and v.dtype == np.uint8 for v in views)
    assert any((v != image).any() for v in views)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    assert torch.allclose(color_jitter(batch, 0.0), batch, atol=0.01)
    flat = torch.full((1, 3, 16, 16), 7.0)
    assert torch.allclose(blur(flat, 1.5), flat)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return make_streets(tmp_path_factory.mktemp("hiast") / "data")


def hiast_config(streets, work_dir):
    cfg = toy_config("hiast/toy.py", streets, work_dir)
    cfg.train_dataloader.batch_size = 2
    for stage in cfg.train_cfg.stages:
        stage.max_iters = 2
        if "dataloader" in stage:
            stage.dataloader.batch_size = 2
    cfg.model.theta = 0.1
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    return cfg


def test_toy_recipe_resumes_to_the_bit(streets, tmp_path):
    whole = run(hiast_config(streets, tmp_path / "whole"))
    assert whole.iter == 6
    assert whole.model.rounds == 2
    assert 0 < whole.val_loop.run()["mIoU"] < 1
    index = json.loads((tmp_path / "whole/stages/02_round_2/index.json").read_text())
    assert any(index["images"])
    expected = whole.model.state_dict()
    for start in (3, 4):  # in the middle of round 1, and before round 2's labelling
        part = hiast_config(streets, tmp_path / f"part{start}")
        labels = "stages/01_round_1"
        copy_tree(tmp_path / "whole" / labels, tmp_path / f"part{start}" / labels)
        part.load_from, part.resume = str(tmp_path / f"whole/iter_{start}.pth"), True
        resumed = run(part)
        assert same(expected, resumed.model.state_dict())


def test_paper_config_steps():
    cfg = Config.fromfile(ROOT / "configs/hiast/paper.py")
    cfg.model.segmentor.backbone.update(
        depth=18, base_channels=4, stem_channels=4, init_cfg=None
    )
    cfg.model.segmentor.decode_head.in_channels = 32
    cfg.model.discriminator_width = 4
    method = MODELS.build(cfg.model)
    method.train()
    for name, batch in (
        ("warm_up", semi_batch(classes=19)),
        ("round_1", round_batch()),
    ):
        method.progress.stage = name
        method.enter_stage(name)
        losses = method.loss(**batch)
        assert all(torch.isfinite(value) for value in losses.values()), name
        sum(v for k, v in losses.items() if "loss" in k).backward()
    answer = method.predict(
        inputs=batch["weak"], targets=torch.zeros(4, 64, 128, dtype=torch.long)
    )
    assert answer[0]["predictions"].shape == (4, 64, 128)
    lengths = [stage["max_iters"] for stage in cfg.train_cfg.stages]
    assert lengths == [10000] * 2 + [8000] * 3
