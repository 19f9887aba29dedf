"""SemiOVS and UniMatch: terms and divisors by hand, what is pasted where, the maps."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.data.oracle import NoisyOracle
from pld_mmdet.segmentation.data.pseudo_labels import LabelFolder, LoadPseudoLabels
from pld_mmdet.segmentation.learners.unimatch import (
    BlankMap,
    Labels,
    PackConsistency,
    UniMatch,
    split,
    stream,
)
from pld_mmdet.segmentation.semiovs import SemiOVS, concept_labels, foreign_labels
from pld_mmdet.shared.mixing import maybe_boxes
from tests.segmentation.helpers import tiny_segmentor


def semiovs(kind=SemiOVS, **kwargs):
    torch.manual_seed(0)
    method = kind(tiny_segmentor(), **kwargs)
    method.init_weights()
    return method.train()


def batch(count=1, size=(32, 64)):
    """``count`` labelled, twice as many unlabelled and as many foreign images."""
    draw = torch.Generator().manual_seed(3)
    source = torch.tensor([0, 1, 1, 2]).repeat_interleave(count)
    targets = torch.randint(4, (len(source), *size), generator=draw)
    targets[source == 1] = 0
    targets[:, :, 60:] = 255
    shape = (len(source), 3, *size)
    views = [
        torch.randint(256, shape, generator=draw, dtype=torch.uint8) for _ in range(3)
    ]
    names = ("inputs", "strong_1", "strong_2")
    return dict(zip(names, views, strict=True), targets=targets, source=source)


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


@pytest.mark.parametrize(
    ("losses", "confidence", "ignored", "wanted"),
    [
        ((2.0, 1.0, 4.0, 3.0), (0.97, 0.94, 1.0, 0.96), 3, (2 + 4) / 3),
        ((1.0, 2.0, 3.0, 4.0), (0.99, 0.9, 0.96, 1.0), 2, 5 / 3),
    ],
)
def test_a_term_divides_by_valid_pixels_by_hand(losses, confidence, ignored, wanted):
    """Two classes with logits (a, 0): CE is the wished loss for class 1."""
    method = semiovs(UniMatch)
    wished = torch.tensor(losses, dtype=torch.float64)
    z = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    z[0, 0] = (wished.exp() - 1).log().view(2, 2)
    valid = torch.ones(4, dtype=torch.bool)
    valid[ignored] = False
    labels = Labels(
        torch.ones(1, 2, 2).long(),
        torch.tensor(confidence).view(1, 2, 2),
        valid.view(1, 2, 2),
    )
    assert method.term(z, labels).item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("weight", "ce", "ours", "theirs", "wanted"),
    [
        (0.5, 0.9, (0.4, 0.6, 0.5), (1.0, 0.8, 0.7), 0.72),
        (1.0, 1.2, (0.8, 0.4, 0.6), (1.0, 0.6, 0.5), 0.816667),
    ],
)
def test_the_whole_loss_by_hand(monkeypatch, weight, ce, ours, theirs, wanted):
    method = semiovs(ood_weight=weight)
    u, o = (stream(*map(torch.tensor, terms)) for terms in (ours, theirs))
    answers = iter([u, o])
    monkeypatch.setattr(method, "consistency", lambda *_: next(answers))
    monkeypatch.setattr(
        "pld_mmdet.segmentation.semiovs.pixel_ce", lambda *_: torch.tensor(ce)
    )
    assert total(method.loss(**batch())).item() == pytest.approx(wanted, abs=1e-6)


def test_without_foreign_weight_it_is_unimatch_up_to_the_shared_pass():
    """Batch norms apart: in evaluation mode and without dropout both are equal."""
    given = batch(2)
    losses = []
    for kind, more in ((SemiOVS, dict(ood_weight=0.0)), (UniMatch, {})):
        method = semiovs(kind, threshold=0.2, drop=0.0, **more).eval()
        np.random.seed(5)
        losses.append(method.loss(**given))
    assert losses[0]["loss_ood"] == 0
    assert losses[0]["loss_u"] > 0
    for name in ("loss_ce", "loss_u", "confident"):
        torch.testing.assert_close(losses[0][name], losses[1][name])


def boxes_of(value):
    return lambda count, size, *_: torch.full((count, *size), bool(value))


@pytest.mark.parametrize("inside", [False, True])
def test_what_is_pasted_into_foreign_images(monkeypatch, inside):
    """No box: their own maps, sure. A box everywhere: all three are u's own."""
    monkeypatch.setattr(
        "pld_mmdet.segmentation.learners.unimatch.maybe_boxes", boxes_of(inside)
    )
    method, given, seen = semiovs(), batch(), []
    monkeypatch.setattr(
        method,
        "consistency",
        lambda z, pasted, fp, labels: seen.append((pasted, labels)) or fp.sum() * 0,
    )
    asked = []
    full = method.student.extract_feat
    monkeypatch.setattr(
        method.student, "extract_feat", lambda x: asked.append(x) or full(x)
    )
    method.loss(**given)
    (mixed_u, ours), (mixed_o, theirs) = seen
    truth = given["targets"][3:]
    assert torch.equal(theirs.classes, truth.where(truth != 255, 0))
    assert (theirs.confidence == 1).all()
    assert torch.equal(theirs.valid, truth != 255)
    for found in mixed_o:
        for one, two in zip(found, ours if inside else theirs, strict=True):
            assert torch.equal(one, two)
    # the passes: u' alone, weak views, mixed u, mixed o; and not u with u' in it
    _, _, strong_u, strong_o = asked
    assert [len(x) for x in asked] == [1, 3, 2, 2]
    raw = given["strong_1"][1:2] if inside else given["strong_1"][3:]
    mean = method.student.data_preprocessor.mean
    std = method.student.data_preprocessor.std
    torch.testing.assert_close(strong_o[:1], (raw.flip(1).float() - mean) / std)
    raw = given["strong_2"][2:3] if inside else given["strong_2"][1:2]
    torch.testing.assert_close(strong_u[1:], (raw.flip(1).float() - mean) / std)
    if not inside:
        for one, two in zip(mixed_u[0], ours, strict=True):
            assert torch.equal(one, two)


def test_each_stream_has_its_own_answers(monkeypatch):
    method, given = semiovs(), batch()
    answers, asked, mixed, terms, sure = [], [], [], [], []
    weak, ask = method.weak_pass, method.ask
    monkeypatch.setattr(
        method, "weak_pass", lambda *p: answers.append(weak(*p)) or answers[-1]
    )
    monkeypatch.setattr(method, "ask", lambda part: asked.append(part) or ask(part))
    monkeypatch.setattr(
        "pld_mmdet.segmentation.semiovs.full_logits",
        lambda net, x: mixed.append(x) or torch.full((2, 1), len(mixed)),
    )
    monkeypatch.setattr(
        method,
        "consistency",
        lambda z, pasted, fp, labels: terms.append((z, fp, labels)) or fp.sum(),
    )
    monkeypatch.setattr(
        method, "confident", lambda labels: sure.append(labels) or torch.tensor(0.0)
    )
    method.loss(**given)
    _, (z_u, fp_u), (_, fp_o) = answers[0]
    (z, fp, ours), (z_o, other_fp, foreign) = terms
    assert fp is fp_u
    assert other_fp is fp_o
    assert [int(z[0]), int(z_o[0])] == [1, 2]  # mixed u, then mixed o
    assert torch.equal(ours.classes, z_u.argmax(1))
    assert (foreign.confidence == 1).all()
    assert torch.equal(asked[0].weak, given["inputs"][2:3])  # the second draw
    assert sure[0] is ours


def test_the_rival_by_hand(monkeypatch):
    """CE 3 on x, 1 on o: (3 + 0.5) / 1.5."""
    method, given = semiovs(consistent=False, ood_weight=0.5), batch()
    monkeypatch.setattr(
        "pld_mmdet.segmentation.semiovs.pixel_ce", lambda z, y: y.float().mean()
    )
    given["targets"][given["source"] == 0] = 3
    given["targets"][given["source"] == 2] = 1
    losses = method.loss(**given)
    assert losses["loss_ce"].item() == pytest.approx(3 / 1.5)
    assert losses["loss_ood"].item() == pytest.approx(0.5 / 1.5)


def test_labels_are_constants_and_the_threshold_is_asked_of_them():
    method, given = semiovs(threshold=1.1), batch()
    losses = method.loss(**given)
    assert losses["loss_u"] == losses["loss_ood"] == losses["confident"] == 0
    z = torch.randn(1, 4, 32, 64, requires_grad=True)
    labels = method.labels(z, split(*_args(given))[1])
    assert not labels.confidence.requires_grad
    assert (method.student.training, method.training) == (True, True)


def _args(given):
    strong = given["strong_1"], given["strong_2"]
    return given["inputs"], strong, given["targets"], given["source"]


def test_the_second_draw_is_labelled_in_evaluation_mode():
    method, given = semiovs(), batch()
    before = copy.deepcopy(dict(method.student.named_buffers()))
    found = method.ask(split(*_args(given))[2])
    after = dict(method.student.named_buffers())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert method.student.training
    assert found.classes.shape == (1, 32, 64)


def test_only_the_lowest_and_the_highest_map_are_perturbed(monkeypatch):
    method, given, seen = semiovs(), batch(2), []
    head = method.student.decode_head
    monkeypatch.setattr(
        head, "forward", lambda maps: seen.append(maps) or maps[0][:, :4]
    )
    x, u, _, _ = split(*_args(given))
    method.weak_pass(x, u)
    changed = [bool((m[:4] != m[4:]).any()) for m in seen[0]]
    assert changed == [True, False, True]
    low, perturbed = seen[0][0].chunk(2)
    lost = (perturbed == 0).flatten(2).all(2)
    assert 0 < lost.float().mean() < 1
    torch.testing.assert_close(perturbed[~lost], 2 * low[~lost])


def test_the_rival_is_supervised_on_both():
    method, given = semiovs(consistent=False, ood_weight=0.5), batch()
    losses = method.loss(**given)
    assert set(losses) == {"loss_ce", "loss_ood"}
    given["targets"][given["source"] == 2] = 255
    assert method.loss(**given)["loss_ood"] == 0


def test_batches_that_do_not_fit_and_empty_ones():
    given = batch(2)
    keep = torch.tensor([0, 1, 2, 3, 4, 6])  # one foreign image missing, odd u
    with pytest.raises(UserError, match="pairs unlabelled"):
        semiovs(UniMatch).loss(**{k: v[keep] for k, v in given.items()})
    with pytest.raises(UserError, match="pastes each of 2"):
        semiovs().loss(**{k: v[:7] for k, v in given.items()})
    given["targets"][:] = 255  # nothing but padding
    losses = semiovs().loss(**given)
    assert total(losses) == 0
    total(losses).backward()


def test_concepts_by_hand():
    """Scores 1 and 3 of class A's concepts, 2 of B's: A. And the page's other rule."""
    scores = torch.tensor([1.0, 3.0, 2.0]).view(3, 1, 1)
    assert concept_labels(scores, [[0, 1], [2]]).item() == 0
    assert concept_labels(scores, [[0], [2], [1]]).item() == 2
    many = torch.rand(2, 3, 4, 5)
    found = concept_labels(many, [[0, 2], [1]])
    assert torch.equal(found == 1, many[:, 1] > many[:, [0, 2]].amax(1))
    for wrong in ([[0, 3]], [[0], []], []):
        with pytest.raises(UserError, match="concept_labels"):
            concept_labels(scores, wrong)
    with pytest.raises(UserError, match="2 classes, expected 3"):
        concept_labels(scores, [[0], [1]], num_classes=3)


def test_boxes_have_their_sizes_and_some_images_have_none():
    np.random.seed(0)
    masks = maybe_boxes(300, (64, 128))
    shares = masks.float().mean((1, 2))
    assert 0.35 < (shares == 0).float().mean() < 0.65
    some = shares[shares > 0]
    assert 0.015 < some.min() < 0.05
    assert 0.3 < some.max() < 0.401
    for mask in masks[shares > 0][:20]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
        assert 0.2 < rows / columns < 4.2
    assert not maybe_boxes(20, (16, 16), probability=0.0).any()
    with pytest.raises(UserError, match="no box of area"):
        maybe_boxes(1, (16, 16), probability=1.0, area=(2.0, 3.0))


def truth():
    labels = np.zeros((2, 24, 40), np.int64)
    labels[:, :, 20:] = 2
    labels[:, 4:9, 4:9] = 1
    labels[:, 20:] = 255
    return labels


def test_the_oracle_makes_no_mistake_without_noise_and_the_same_ones_with_it():
    names = ["a/x.png", "a/y.png"]
    exact = NoisyOracle(4, flips=0.0, boundary=0)(truth(), names)
    assert (exact == truth()).all()
    frayed = NoisyOracle(4, flips=0.0)(truth(), names)
    wrong = frayed != truth()
    assert 0 < wrong.mean() < 0.1
    assert not wrong[:, :, 22:].any()  # a pixel from the border at most
    assert not wrong[:, :, 12:18].any()
    assert (frayed[0] != frayed[1]).any()
    assert (frayed[0] == NoisyOracle(4, flips=0.0)(truth(), ["b/x.png"] * 2)[0]).all()
    flipped = NoisyOracle(4, flips=1.0, boundary=0)(truth(), names)
    assert (flipped != truth())[:, :20].all()
    assert (flipped[:, 20:] == 255).all()
    assert flipped[flipped != 255].max() < 4
    assert NoisyOracle(4)(truth()[:0], []).shape == (0, 24, 40)
    with pytest.raises(UserError, match="NoisyOracle"):
        NoisyOracle(4, flips=1.5)


class Loader(list):
    """Batches, with what a data loader has."""

    def __init__(self, batches, **metainfo):
        super().__init__(batches)
        self.dataset = type("Set", (list,), {"metainfo": metainfo})([0, 1])
        self.sampler = [0, 1]


def test_maps_are_pngs_in_the_palette_and_are_read_as_classes(tmp_path):
    names = ["a/x.png", "a/y.png"]
    loader = Loader(
        [dict(targets=torch.from_numpy(truth()), path=names)],
        classes=("road", "car", "sky", "tree"),
        palette=[[128, 64, 128], [0, 0, 142], [70, 130, 180], [107, 142, 35]],
    )
    method = semiovs(oracle=dict(num_classes=4, flips=0.5))
    method.start_stage("semi", loader, tmp_path)
    maps = LabelFolder(tmp_path)
    wanted = NoisyOracle(4, flips=0.5)(truth(), names)
    assert (maps.read("a/x.png") == wanted[0]).all()
    with Image.open(maps.path("a/y.png")) as file:
        assert file.mode == "P"
        shown = np.array(file.convert("RGB"))
    assert (shown[wanted[1] == 2] == [70, 130, 180]).all()
    index = maps.index()
    assert (
        index["made_by"] == "NoisyOracle(num_classes=4, flips=0.5, boundary=1, seed=0)"
    )
    assert index["pixels"]["sky"] == int((wanted == 2).sum())
    results = dict(img_path="a/x.png", img=np.zeros((24, 40, 3)), seg_fields=[])
    found = LoadPseudoLabels(str(tmp_path))(results)["gt_seg_map"]
    assert (found == wanted[0]).all()
    LabelFolder(tmp_path / "grey").folder.mkdir()
    LabelFolder(tmp_path / "grey").write("a/x.png", wanted[0])
    assert (LabelFolder(tmp_path / "grey").read("a/x.png") == wanted[0]).all()
    (tmp_path / "z.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="no pseudo-label map"):
        maps.read("a/z.png")


def test_a_stage_without_an_oracle_says_so_and_without_images_does_nothing(tmp_path):
    method = semiovs()
    method.start_stage("semi", None, tmp_path)
    with pytest.raises(UserError, match="no oracle"):
        method.start_stage("semi", Loader([]), tmp_path)


def test_maps_that_were_begun_anew_have_no_index(tmp_path):
    """A run that stops while it labels must not look as if it were done."""
    folder = LabelFolder(tmp_path)
    folder.finish(dict(made_by="an earlier run"))
    assert folder.index()
    method = semiovs(oracle=dict(num_classes=4))
    broken = Loader([{}], classes=(), palette=None)
    with pytest.raises(KeyError):
        method.start_stage("semi", broken, tmp_path)
    assert not folder.index()


def test_samples_of_all_sources_share_a_batch():
    np.random.seed(0)
    image = np.random.randint(0, 256, (8, 12, 3), np.uint8)
    results = BlankMap()(dict(img=image))
    assert results["seg_fields"] == ["gt_seg_map"]
    packed = PackConsistency("unlabelled")(results)
    assert packed["source"] == 1
    assert (packed["targets"] == 0).all()
    assert (packed["inputs"] != packed["strong_1"]).any()
    assert (packed["strong_2"] != packed["strong_1"]).any()
    known = PackConsistency("labelled")(results)
    assert known.keys() == packed.keys()
    assert torch.equal(known["inputs"], known["strong_2"])
    with pytest.raises(UserError, match="source"):
        PackConsistency("target")
    padded = foreign_labels(torch.tensor([[[3, 255]]]))
    assert padded.classes.tolist() == [[[3, 0]]]
    assert padded.valid.tolist() == [[[True, False]]]
