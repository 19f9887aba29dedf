"""PS-TTL's step in its parts: who labels, what is remembered when, what weighs what."""

import copy

import pytest
import torch
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.structures import InstanceData

from pld_mmdet.detection import ps_ttl
from pld_mmdet.detection.detectors.two_stage import rpn_loss, run_box_head
from pld_mmdet.detection.ps_ttl import PSTTL, soft_label_loss
from pld_mmdet.detection.pseudo_labels.ignore_band import SparingAssigner
from pld_mmdet.errors import UserError
from tests.detection.helpers import fresh, unlike_the_teacher
from tests.detection.test_ps_ttl import C, build, started, step_batch, support_of
from tests.helpers import tiny_faster_rcnn


@pytest.fixture
def seen(monkeypatch):
    """What a step hands on: RoI outputs, labels, soft labels, terms, RPN samples."""
    seen = {}

    def head(network, features, rois):
        seen.update(network=network, out=run_box_head(network, features, rois))
        return seen["out"]

    def loss(logits, labels, soft, classes):
        seen.update(labels=labels, soft=soft)
        seen.update(terms=soft_label_loss(logits, labels, soft, classes))
        return seen["terms"]

    def rpn(network, features, samples):
        seen.update(samples=samples, rpn=rpn_loss(network, features, samples))
        return seen["rpn"]

    for name, spy in (("run_box_head", head), ("soft_label_loss", loss)):
        monkeypatch.setattr(ps_ttl, name, spy)
    monkeypatch.setattr(ps_ttl, "rpn_loss", rpn)
    return seen


def test_features_enter_the_rings_before_prototypes_label(seen):
    model = started(
        unsup_weight=0.7,
        kld_weight=0.3,
        cosine_scale=4.0,
        prototype_momentum=0.2,
        queue_length=16,
        teacher_train_mode=False,
    )
    unlike_the_teacher(model)
    memory = copy.deepcopy(model.memory)
    assert (memory.length, memory.momentum) == (16, 0.2)
    torch.manual_seed(0)
    losses = fresh(model, step_batch())
    assert seen["network"] is model.student
    labels, features = seen["labels"], seen["out"].features
    assert (labels < C).any()
    assert (labels == C).any()
    assert (labels == C + 1).any()
    memory.push(features, labels)
    memory.update_prototypes()
    assert torch.equal(model.memory.prototypes, memory.prototypes)
    soft = memory.soft_labels(features[labels == C + 1], 4.0)
    assert torch.equal(seen["soft"], soft)
    ce, kld = seen["terms"]
    assert torch.allclose(losses["loss_cls"], 0.7 * ce)
    assert torch.allclose(losses["loss_kld"], 0.21 * kld)
    rpn = sum(seen["rpn"][0]["loss_rpn_cls"])
    assert torch.allclose(sum(losses["loss_rpn_cls"]), 0.7 * rpn)
    assert sum(losses["loss_rpn_bbox"]) == losses["loss_bbox"] == 0
    objects = seen["samples"][0].gt_instances  # both kinds teach the RPN
    kinds = model.pseudo_boxes
    assert len(objects) == len(kinds["known"][0]) + len(kinds["unknown"][0])


def test_ignored_unknown_objects_are_neither_objects_nor_background(seen):
    model = started(ignore_unknown=True, teacher_train_mode=False)
    assert isinstance(model.student.rpn_head.assigner, SparingAssigner)
    assert not isinstance(model.teacher.rpn_head.assigner, SparingAssigner)
    losses = fresh(model, step_batch())
    (sample,) = seen["samples"]
    known, unknown = (model.pseudo_boxes[kind][0] for kind in ("known", "unknown"))
    assert len(unknown) > 0
    assert torch.equal(sample.gt_instances.bboxes, known.bboxes)
    assert torch.equal(sample.ignored_instances.bboxes, unknown.bboxes)
    assert seen["terms"][1] > 0 == losses["loss_kld"]
    losses["loss_kld"].backward()
    assert not model.student.roi_head.bbox_head.fc_cls.weight.grad.any()


def test_sampled_rois_keep_the_label_of_their_object():
    model = build()
    objects = [
        ([[0.0, 0, 20, 20], [30.0, 30, 60, 60]], [1, C + 1]),
        ([[10.0, 10, 40, 50]], [2]),
    ]
    truth = [
        InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
        for boxes, labels in objects
    ]
    near = torch.tensor([[40.0, 2, 60, 20], [1.0, 1, 20, 20], [31.0, 31, 60, 60]])
    proposals = [
        InstanceData(bboxes=near, scores=torch.ones(3)),
        InstanceData(bboxes=near.flip(0), scores=torch.ones(3)),
    ]
    rois, labels = model._sample(proposals, truth)
    assert rois[:, 0].unique(return_counts=True)[1].tolist() == [5, 4]  # with objects
    for n, found in enumerate(truth):
        of_image = rois[:, 0] == n
        overlap, nearest = bbox_overlaps(rois[of_image, 1:], found.bboxes).max(1)
        expected = found.labels[nearest].masked_fill(overlap < 0.5, C)
        assert labels[of_image].tolist() == expected.tolist()
    assert labels.unique().tolist() == [1, 2, C, C + 1]


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_labels_with_proposals_of_its_mode(training):
    model = started(teacher_train_mode=training)
    teacher, counts = model.teacher, []
    for cfg, name, number in (
        (teacher.train_cfg, "rpn_proposal", 5),
        (teacher.test_cfg, "rpn", 9),
    ):
        cfg[name] = type(cfg)({**cfg[name], "max_per_img": number})
    teacher.roi_head.bbox_roi_extractor.register_forward_hook(
        lambda _, inputs, __: counts.append(len(inputs[1]))
    )
    with torch.no_grad():
        for parameter in model.student.parameters():  # it has no say
            parameter.fill_(torch.nan)
    data = model.data_preprocessor(step_batch(), training=True)
    views = data["inputs"]["weak"], data["data_samples"]["weak"]
    (found,) = model.pseudo_labels(*views).high
    assert counts == [5 if training else 9]
    assert found.scores.isfinite().all()
    model.hpl_threshold = model.unknown_threshold = 0.0  # everything is known
    (more,) = model.pseudo_labels(*views).high
    assert len(more) > 0
    assert (more.labels < C).all()


def test_prototypes_come_from_the_strong_view_or_the_only_one():
    support = support_of()
    support["inputs"]["support_strong"][0] //= 3
    found = []
    for views in (("support_weak", "support_strong"), ("support_weak",)):
        model = build()
        batch = {k: {v: copy.deepcopy(support[k][v]) for v in views} for k in support}
        data = model.data_preprocessor(copy.deepcopy(batch), training=True)
        model.start_stream([batch])
        images = data["inputs"][views[-1]]
        rois = bbox2roi([data["data_samples"][views[-1]][0].gt_instances.bboxes])
        out = run_box_head(model.student, model.student.extract_feat(images), rois)
        assert torch.allclose(model.memory.prototypes, out.features, atol=1e-5)
        found.append(out.features)
    assert not torch.allclose(*found, atol=1e-3)


def test_support_images_of_both_views_weigh_what_is_said():
    model, seen = started(sup_weight=2.5), {}

    def loss(inputs, samples):
        light = inputs.mean((1, 2, 3)).argsort().tolist()
        seen.update(light=light, paths=[s.img_path for s in samples])
        one = inputs.new_ones(())
        return dict(loss_cls=one, loss_rpn=[one, 3 * one], acc=one)

    model.student.loss = loss
    batch = step_batch(support=True)
    batch["inputs"]["support_weak"][0] //= 4  # the darker one comes first
    for view in ("weak", "strong"):
        batch["data_samples"][f"support_{view}"][0].set_metainfo(dict(img_path=view))
    losses = fresh(model, batch)
    assert seen == dict(light=[0, 1], paths=["weak", "strong"])
    found = {k: [x.item() for x in v] for k, v in losses.items() if "sup_" in k}
    assert found == dict(sup_loss_cls=[2.5], sup_loss_rpn=[2.5, 7.5])


def test_both_kinds_are_counted_per_image():
    model = build()
    pseudo = [
        InstanceData(labels=torch.tensor(labels))
        for labels in ([0, C + 1, 2, C + 1], [C + 1, 2], [])
    ]
    pseudo[2].labels = pseudo[2].labels.long()
    model._count_pseudo(pseudo)
    assert model.pseudo_counts["known"].tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert model.pseudo_counts["unknown"].tolist() == [1.0]
    assert [len(i) for i in model.pseudo_boxes["known"]] == [2, 1, 0]
    assert [len(i) for i in model.pseudo_boxes["unknown"]] == [2, 1, 0]


@pytest.mark.parametrize("pair", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_thresholds_grow_within_the_scores(pair):
    unknown, known = pair
    with pytest.raises(UserError, match="do not grow"):
        PSTTL(tiny_faster_rcnn(), unknown_threshold=unknown, known_threshold=known)


def test_thresholds_may_be_the_same_or_the_ends():
    model = PSTTL(tiny_faster_rcnn(), unknown_threshold=0.0, known_threshold=1.0)
    assert (model.unknown_threshold, model.hpl_threshold) == (0.0, 1.0)
    PSTTL(tiny_faster_rcnn(), unknown_threshold=0.7, known_threshold=0.7)
