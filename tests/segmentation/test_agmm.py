"""AGMM: responses and losses by hand, two kinds of ignored pixels, sparse maps."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.agmm import (
    AGMM,
    centroids,
    class_mean,
    compactness,
    one_hot,
    responsibilities,
    separation,
    soft_bce,
)
from pld_mmdet.segmentation.data.pipelines import KeepPoints, PackMaps
from pld_mmdet.segmentation.data.views import PhotoView, photo_view
from pld_mmdet.segmentation.learners.losses import pixel_ce
from pld_mmdet.segmentation.networks.segmentors import head_logits, normalise
from tests.segmentation.helpers import tiny_segmentor


def near(value, abs=2e-6):
    return pytest.approx(value, abs=abs)


def test_responsibilities_by_hand():
    """The addendum's pixel: d = .5 and 2; the page's three: 0, 2, 2 and 2, 3, 0."""
    f, mu = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert responsibilities(f, mu)[0].tolist() == near([0.778801, 0.018316])
    f = torch.tensor([[0.0, 0.0], [1.0, 3.0], [4.0, 0.0]])
    found = responsibilities(f, f[[0, 2]])
    assert found.T.flatten().tolist() == near(
        [1, 0.0183156, 0.0183156, 0.0183156, 0.00012341, 1]
    )
    assert separation(f[[0, 2]][None], torch.ones(1, 2).bool()).item() == near(
        0.0183156
    )


def test_responsibilities_of_nothing_and_of_what_does_not_fit():
    assert responsibilities(torch.zeros(0, 3), torch.ones(2, 3)).shape == (0, 2)
    assert responsibilities(torch.zeros(4, 3), torch.ones(0, 3)).shape == (4, 0)
    half = responsibilities(torch.ones(1, 2).half(), torch.zeros(1, 2).half())
    assert half.item() == near(np.exp(-1.0))
    for wrong in (torch.ones(2, 4), torch.ones(3)):
        with pytest.raises(UserError, match="do not fit"):
            responsibilities(torch.ones(2, 3), wrong)


def test_losses_of_the_mixture_by_hand():
    """p = (.6, .4) with those responses; then the page's p and g."""
    here = torch.ones(1, 2, dtype=torch.bool)

    def at(*values):
        return torch.tensor(values).view(1, 2, 1, 1)

    g = at(0.778801, 0.018316)
    assert class_mean(soft_bce(at(0.6, 0.4), g), here).item() == near(0.279692)
    assert compactness(g, torch.zeros(1, 1, 1).long(), here).item() == near(0.067121)
    mu = torch.tensor([[[0.0, 2.0], [3.0, 0.0]]])
    assert separation(mu, here).item() == near(0.00193)
    found = class_mean(soft_bce(at(0.7, 0.3), at(0.9, 0.1)), here).item()
    assert found == near(0.2207, abs=5e-5)
    only = torch.tensor([[True, False]])  # the mean is over the first class alone
    found = class_mean(soft_bce(at(0.7, 0.3), at(0.9, 0.8)), only).item()
    assert found == near(0.2207, abs=5e-5)
    # a pixel of each of two images, which have one class and two: -ln .8 and -ln .6
    g = torch.cat([at(0.8, 0.3), at(0.4, 0.6)])
    here = torch.tensor([[True, False], [True, True]])
    found = compactness(g, torch.tensor([[[0]], [[1]]]), here).item()
    assert found == near(-(np.log(0.8) + np.log(0.6)) / 4)


def test_centroids_are_means_of_resized_features():
    f, labels = torch.randn(2, 5, 4, 6), torch.randint(4, (2, 9, 13))
    labels[0][labels[0] == 2] = 254
    hot = one_hot(labels, 4)
    for corners in (False, True):
        up = F.interpolate(f, (9, 13), mode="bilinear", align_corners=corners)
        found = centroids(f, hot, corners)
        for b, c in ((0, 0), (0, 1), (1, 2), (1, 3)):
            wanted = up[b][:, labels[b] == c].mean(1)
            torch.testing.assert_close(found[b, c], wanted)
    assert (found[0, 2] == 0).all()


def test_class_vectors_are_summed_over_images_as_released():
    mu = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.5, 0.5]]])
    here = torch.tensor([[True, False], [True, True]])
    d = (2.5 + 0.5) / 2  # (3, 0) and (.5, .5)
    assert separation(mu, here).item() == near(np.exp(-(d**2)))
    assert separation(mu, here & torch.tensor([True, False])) == 0


def agmm(**kwargs):
    torch.manual_seed(0)
    method = AGMM(tiny_segmentor(), **kwargs)
    method.init_weights()
    return method.train()


def batch(points=True):
    draw = torch.Generator().manual_seed(5)
    targets = torch.full((2, 32, 64), 254)
    for b in range(2):
        for c in range(3 if points else 0):
            targets[b, 3 + 9 * c, 11 + 14 * c + b] = (c + b) % 4
    targets[:, :, 60:] = 255
    present = torch.tensor([[True, True, True, False], [False, True, True, True]])
    images = torch.randint(256, (2, 3, 32, 64), generator=draw, dtype=torch.uint8)
    return dict(inputs=images, targets=targets, present=present)


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


def test_loss_of_absent_classes_by_hand(monkeypatch):
    """p = (.2, .5, .3); only class 0 is absent: -log(.8 + 1e-6), and 0 if none is."""
    z = torch.tensor([0.2, 0.5, 0.3]).log().view(1, 3, 1, 1).expand(1, 3, 2, 2)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.agmm.head_logits",
        lambda *a, **k: (z, torch.zeros(1, 2, 2, 2)),
    )
    method = agmm(gmm=0, compact=0, separate=0)
    given = dict(inputs=torch.zeros(1, 3, 32, 32), targets=torch.full((1, 2, 2), 254))
    found = method.loss(**given, present=torch.tensor([[False, True, True]]))
    assert found["loss_negative"].item() == near(0.223142)
    found = method.loss(**given, present=torch.ones(1, 3).bool())
    assert found["loss_negative"] == 0
    assert found["loss_ce"] == 0  # nothing is annotated


def test_padding_carries_no_loss_and_unannotated_pixels_do(monkeypatch):
    z = torch.randn(2, 4, 32, 64, requires_grad=True)
    f = torch.randn(2, 8, 8, 16, requires_grad=True)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.agmm.head_logits", lambda *a, **k: (z, f)
    )
    given = batch()
    losses = agmm().loss(**given)
    pixels, known = given["targets"] != 255, given["targets"] < 254
    for name, region in (
        ("loss_ce", known), ("loss_negative", pixels), ("loss_gmm", pixels)
    ):  # fmt: skip
        (grad,) = torch.autograd.grad(losses[name], z, retain_graph=True)
        touched = grad.abs().sum(1) > 0
        assert touched[region].all(), name
        assert not touched[~region].any(), name
    for name in ("loss_compact", "loss_separate"):  # the features alone
        in_z, in_f = torch.autograd.grad(
            losses[name], (z, f), retain_graph=True, allow_unused=True
        )
        assert in_z is None
        assert in_f.abs().sum() > 0
    kept = pixel_ce(z, given["targets"].where(known, 255))
    assert losses["loss_ce"].item() == near(
        F.cross_entropy(z.movedim(1, -1)[known], given["targets"][known]).item()
    )
    assert losses["loss_ce"] == kept
    # the mixture's answer is the label, the network's the guess
    method, labels = agmm(), one_hot(given["targets"], 4)
    p, here = z.softmax(1), labels.flatten(2).any(2)
    g = method._response(f, centroids(f, labels), here, p, pixels)
    values = -(g * (p + 1e-6).log() + (1 - g) * (1 - p + 1e-6).log()) / 2
    mean = torch.stack([v[h].mean(0) for v, h in zip(values, here, strict=True)])
    assert losses["loss_gmm"].item() == near(mean[pixels].mean().item(), abs=1e-5)


def test_terms_have_their_own_weights():
    plain, given = agmm().loss(**batch()), batch()
    weights = dict(negative=2.0, gmm=3.0, compact=5.0, separate=7.0)
    found = agmm(**weights).loss(**given)
    for name, weight in weights.items():
        value = found[f"loss_{name}"].item()
        assert value == pytest.approx(weight * plain[f"loss_{name}"].item(), rel=1e-4)
    without = agmm(gmm=0.0).loss(**given)
    assert plain.keys() - without.keys() == {"loss_gmm"}


def test_response_is_one_at_a_lone_point_and_zero_for_absent_classes():
    method, f = agmm(), torch.randn(1, 8, 4, 6)
    targets = torch.full((1, 4, 6), 254)
    targets[0, 1, 2], targets[0, 3, 5] = 2, 0
    hot = one_hot(targets, 4)
    g = method._response(
        f,
        centroids(f, hot),
        hot.flatten(2).any(2),
        torch.rand(1, 4, 4, 6),
        targets != 255,
    )
    assert g[0, 2, 1, 2].item() == near(1)
    assert g[0, 0, 3, 5].item() == near(1)
    assert (g[0, [1, 3]] == 0).all()
    assert (g[0, 2] < 1).sum() == 23
    padded = targets.clone()
    padded[0, 0] = 255  # d is 0 there, as released: 1 for the classes that are present
    here, p = hot.flatten(2).any(2), torch.rand(1, 4, 4, 6)
    g = method._response(f, centroids(f, hot), here, p, padded != 255)
    assert (g[0, [0, 2], 0] == 1).all()
    assert (g[0, [1, 3], 0] == 0).all()


def test_estimated_width_is_the_weighted_variance():
    """One class, d = 0 and 2 with p = .25 and .75: variance 3, g = 1, exp(-4 / 6)."""
    method = agmm(sigma="estimated")
    f = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    p = torch.tensor([0.25, 0.75]).view(1, 1, 1, 2)
    one = torch.ones(1, 1, dtype=torch.bool)
    mu, pixels = torch.zeros(1, 1, 1), torch.ones(1, 1, 2).bool()
    g = method._response(f, mu, one, p, pixels)
    assert g.flatten().tolist() == near([1, np.exp(-4 / 6)], abs=1e-5)
    # padding has no say in the width, and the width no gradient
    f = torch.tensor([0.0, 2.0, 9.0]).view(1, 1, 1, 3).requires_grad_()
    p = torch.tensor([0.25, 0.75, 0.5]).view(1, 1, 1, 3).requires_grad_()
    g = method._response(f, mu, one, p, torch.tensor([[[True, True, False]]]))
    assert g.flatten().tolist() == near([1, np.exp(-4 / 6), 1], abs=1e-5)
    (grad,) = torch.autograd.grad(g.sum(), p, allow_unused=True)
    assert grad is None


def test_a_crop_that_lost_all_its_points_costs_no_mixture():
    losses = agmm().loss(**batch(points=False))
    assert losses["loss_ce"] == losses["loss_compact"] == losses["loss_gmm"] == 0
    assert losses["loss_negative"] > 0
    assert losses["loss_separate"] == 0
    total(losses).backward()


def test_order_of_the_batch_does_not_matter():
    given = batch()
    method = agmm().eval()
    one = method.loss(**given)
    two = method.loss(**{name: value.flip(0) for name, value in given.items()})
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_what_it_needs_is_said():
    given = batch()
    given.pop("present")
    with pytest.raises(UserError, match="classes of each whole image"):
        agmm().loss(**given)
    with pytest.raises(UserError, match="sigma"):
        agmm(sigma="learned")


@pytest.mark.parametrize("dropout", [0.0, 0.9])
def test_head_features_are_before_dropout_and_the_logits_the_same(dropout):
    torch.manual_seed(1)
    config = tiny_segmentor()
    config["decode_head"]["dropout_ratio"] = dropout
    net = MODELS.build({"_scope_": "mmseg", **config}).train()
    maps = net.extract_feat(normalise(net, batch()["inputs"]))
    logits, f = head_logits(net, maps, (32, 64), with_features=True)
    assert "cls_seg" not in vars(net.decode_head)
    assert f.shape == (2, 8, 8, 16)
    wanted = F.interpolate(net.decode_head.conv_seg(f), (32, 64), mode="bilinear")
    if dropout:
        assert (logits - wanted).abs().max() > 0
    else:
        torch.testing.assert_close(logits, wanted)
    net.decode_head = torch.nn.Identity()
    with pytest.raises(UserError, match="Identity shows no features"):
        head_logits(net, maps, (32, 64), with_features=True)


def scene(name="a/one.png"):
    labels = np.full((6, 8), 255, np.uint8)
    labels[:3], labels[3:5, :4] = 2, 0
    image = np.zeros((6, 8, 3), np.uint8)
    return dict(img=image, img_path=name, gt_seg_map=labels, seg_fields=[])


def test_points_are_one_pixel_a_class_and_the_same_every_time():
    results = KeepPoints(4)(scene())
    labels = results["gt_seg_map"]
    assert sorted(labels[labels != 254]) == [0, 2]
    full = scene()["gt_seg_map"]
    assert (labels == full)[labels != 254].all()
    assert (labels == KeepPoints(4)(scene())["gt_seg_map"]).all()
    assert (labels != KeepPoints(4)(scene("a/two.png"))["gt_seg_map"]).any()
    assert (labels != KeepPoints(4, seed=1)(scene())["gt_seg_map"]).any()
    assert results["present"].tolist() == [True, False, True, False]
    packed = PackMaps()(results)
    assert packed["present"].tolist() == [True, False, True, False]
    assert "present" not in PackMaps()(scene())


def test_kept_maps_only_mark_what_nobody_annotated():
    labels = KeepPoints(2, count=None)(scene())["gt_seg_map"]
    assert (labels[:3] == 254).all()  # class 2 of two
    assert (labels[3:5, :4] == 0).all()
    assert (labels[5] == 254).all()
    many = KeepPoints(4, count=7)(scene())["gt_seg_map"]
    assert [(many == c).sum() for c in (0, 2)] == [7, 7]


def test_photo_view_changes_colours_by_its_probabilities():
    np.random.seed(0)
    image = np.random.randint(0, 256, (12, 16, 3), np.uint8)
    assert (photo_view(image, 0, 0, 0, 0) == image).all()
    grey = PhotoView(jitter=0, grey=1, blurred=0)(dict(img=image))["img"]
    assert (grey == grey[..., :1]).all()
    shifted = photo_view(image, 0, 0, 0, 1).astype(int) - image
    assert len(np.unique(shifted[(image > 15) & (image < 240)])) == 1
    changed = photo_view(image, 1, 0, 0, 0)
    assert changed.shape == image.shape
    assert (changed != image).mean() > 0.5
