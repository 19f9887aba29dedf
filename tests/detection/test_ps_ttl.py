"""PS-TTL: hand-worked numbers, gradient stops, whole steps."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.detection.ps_ttl import (
    PSTTL,
    decouple,
    soft_label_loss,
    split_known_unknown,
)
from pld_mmdet.distill.ema import ema_update
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence, tiny_c4
from tests.helpers import tiny_faster_rcnn

C = 3


def split(rows, **kwargs):
    table = torch.tensor(rows)
    labels = torch.arange(len(rows)) % C
    return split_known_unknown(table[:, :4], table[:, 4], labels, C, **kwargs)


class TestSplit:
    def test_hand_worked(self):
        boxes, labels, scores = split(
            [
                [0, 0, 10, 10, 0.95],
                [0, 0, 10, 9, 0.85],  # IoU 0.9 with the known box
                [50, 50, 60, 60, 0.8],
                [50, 50, 60, 58, 0.7],  # IoU 0.8 with the one before
                [90, 90, 99, 99, 0.6],
            ]
        )
        assert boxes[:, 0].tolist() == [0, 50, 90]
        assert labels.tolist() == [0, C + 1, C + 1]
        assert torch.allclose(scores, torch.tensor([0.95, 0.8, 0.6]))

    def test_bands_are_strict(self):
        values = [0.95, 0.9, 0.8, 0.51, 0.5, 0.49]
        rows = [[20 * i, 0, 20 * i + 10, 10, s] for i, s in enumerate(values)]
        _, labels, scores = split(rows)
        assert labels.tolist() == [0] + [C + 1] * 3
        assert torch.allclose(scores, torch.tensor(values[:4]))

    def test_overlap_of_exactly_the_limit_stays(self):
        _, labels, _ = split([[0, 0, 10, 10, 0.95], [0, 0, 10, 5, 0.8]])
        assert labels.tolist() == [0, C + 1]

    def test_known_boxes_are_never_touched(self):
        boxes, labels, _ = split([[0, 0, 10, 10, 0.95], [0, 0, 10, 10, 0.96]])
        assert len(boxes) == 2
        assert labels.tolist() == [0, 1]

    def test_no_known_box_leaves_only_the_nms(self):
        _, labels, scores = split(
            [[0, 0, 10, 8, 0.6], [0, 0, 10, 10, 0.8], [40, 0, 50, 10, 0.55]]
        )
        assert labels.tolist() == [C + 1] * 2
        assert torch.allclose(scores, torch.tensor([0.8, 0.55]))  # by falling score

    def test_nothing_detected(self):
        empty = split_known_unknown(
            torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), C
        )
        assert [len(x) for x in empty] == [0, 0, 0]
        assert empty[1].dtype == torch.long


class TestDecouple:
    @pytest.mark.parametrize("scale", [0.0, 0.001, 1.0])
    def test_identity_with_scaled_gradient(self, scale):
        x = torch.tensor([1.0, -2.0], requires_grad=True)
        y = decouple(x, scale)
        assert torch.equal(y, x)
        (y * torch.tensor([3.0, 5.0])).sum().backward()
        assert torch.equal(x.grad, torch.tensor([3.0, 5.0]) * scale)

    def test_scale_zero_is_zero_also_for_infinite_gradients(self):
        x = torch.zeros(1, requires_grad=True)
        decouple(x, 0.0).sqrt().sum().backward()
        assert x.grad.item() == 0.0


class TestSoftLabelLoss:
    LOGITS = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    SOFT = torch.tensor([[0.981690, 0.017980, 0.000329, 0.0]])

    def test_hand_worked_value_and_gradient(self):
        logits = self.LOGITS.clone().requires_grad_()
        ce, kld = soft_label_loss(logits, torch.tensor([C + 1]), self.SOFT, C)
        assert ce.item() == 0.0
        assert kld.item() == pytest.approx(1.419086, abs=2e-6)
        (ce + kld).backward()
        expected = torch.tensor([[-0.757175, 0.064614, 0.082265, 0.610296]])
        assert torch.allclose(logits.grad, expected, atol=2e-6)

    def test_unknown_rows_leave_the_cross_entropy_alone(self):
        torch.manual_seed(0)
        logits, labels = torch.randn(4, 4), torch.tensor([0, 4, 3, 2])
        ce, kld = soft_label_loss(logits, labels, self.SOFT, C)
        known = torch.tensor([0, 2, 3])
        expected = torch.nn.functional.cross_entropy(logits[known], labels[known])
        assert torch.allclose(ce, expected)
        whole = torch.rand(4, 4)  # one row for each RoI is taken as well
        whole[1] = self.SOFT[0]
        assert torch.equal(soft_label_loss(logits, labels, whole, C)[1], kld)

    @pytest.mark.parametrize("labels", [[0, 3], [4, 4], []])
    def test_terms_without_rows_are_zero_with_a_gradient(self, labels):
        labels = torch.tensor(labels, dtype=torch.long)
        logits = torch.randn(len(labels), 4, requires_grad=True)
        unknown = int((labels == 4).sum())
        ce, kld = soft_label_loss(logits, labels, self.SOFT.repeat(unknown, 1), C)
        (ce + kld).backward()
        assert torch.isfinite(logits.grad).all()
        assert (kld == 0) == (unknown == 0)
        assert (ce == 0) == (unknown == len(labels))

    def test_saturated_logits_stay_finite(self):
        logits = torch.tensor([[-300.0, 0.0, 0.0, 300.0]])
        _, kld = soft_label_loss(logits, torch.tensor([4]), self.SOFT, C)
        assert torch.isfinite(kld)

    def test_soft_labels_get_no_gradient_and_must_fit(self):
        soft = self.SOFT.clone().requires_grad_()
        logits = self.LOGITS.clone().requires_grad_()
        soft_label_loss(logits, torch.tensor([4]), soft, C)[1].backward()
        assert soft.grad is None
        for labels, rows in (([0], 2), ([4, 4], 1)):  # too many, too few
            logits = self.LOGITS.repeat(len(labels), 1)
            soft = self.SOFT.repeat(rows, 1)
            with pytest.raises(ValueError, match="fit neither"):
                soft_label_loss(logits, torch.tensor(labels), soft, C)


def tiny_defrcn() -> ConfigDict:
    """A C4 detector with both decoupling points and classifier dropout."""
    model = tiny_c4(C)
    model.rpn_head.update(type="pld_mmdet.DecoupledRPNHead", gradient_scale=0.0)
    model.roi_head.bbox_roi_extractor.update(
        type="pld_mmdet.DecoupledRoIExtractor", gradient_scale=0.001
    )
    model.roi_head.bbox_head.cls_predictor_cfg = dict(
        type="pld_mmdet.DropoutLinear", p=0.8
    )
    model.backbone.update(norm_eval=True)
    return model


def build(detector=None, **kwargs) -> PSTTL:
    torch.manual_seed(0)
    model = PSTTL(detector or tiny_defrcn(), **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def support_of(labels=(0, 1, 2), seed: int = 7) -> dict:
    """One support image with a box of each given class, in two views."""
    batch = batch_of(1, seed=seed)
    n = len(labels)
    boxes = torch.tensor([[4.0 + 9 * i, 6, 24 + 9 * i, 40] for i in range(n)])
    for samples in batch["data_samples"].values():
        samples[0].gt_instances = InstanceData(
            bboxes=boxes.clone(), labels=torch.tensor(labels, dtype=torch.long)
        )
        samples[0].ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
    return {k: {f"support_{v}": x for v, x in batch[k].items()} for k in batch}


def step_batch(seed: int = 0, support: bool = False) -> dict:
    batch = batch_of(1, seed=seed)
    batch = {k: {"weak": batch[k]["weak"]} for k in batch}
    if support:
        more = support_of()
        batch = {k: {**batch[k], **more[k]} for k in batch}
    return batch


def started(**kwargs) -> PSTTL:
    model = build(**{"known_threshold": 0.8, "unknown_threshold": 0.3, **kwargs})
    model.start_stream([support_of()])
    return model


class TestDeFRCN:
    def test_the_forward_pass_does_not_know_the_scale(self):
        x, rois = (torch.randn(1, 32, 4, 4),), torch.tensor([[0.0, 4, 4, 40, 40]])
        found = []
        for scale in (0.0, 0.7):
            student = build().student.eval()
            student.rpn_head.decouple.scale = scale
            student.roi_head.bbox_roi_extractor.decouple.scale = scale
            logits = student.roi_head._bbox_forward(x, rois)["cls_score"]
            found.append((student.rpn_head(x)[0][0], logits))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])

    def test_rpn_trains_its_affine_but_never_the_backbone(self):
        student = build().student
        x = torch.randn(1, 32, 4, 4, requires_grad=True)
        scores, deltas = student.rpn_head((x,))
        (scores[0].sum() + deltas[0].sum()).backward()
        assert torch.equal(x.grad, torch.zeros_like(x))
        assert student.rpn_head.decouple.weight.grad.abs().sum() > 0

    def test_roi_gradient_is_scaled_and_the_affine_is_not(self):
        grads = {}
        for scale in (1.0, 0.001):
            extractor = build().student.roi_head.bbox_roi_extractor
            extractor.decouple.scale = scale
            torch.manual_seed(1)
            x = torch.randn(1, 32, 4, 4, requires_grad=True)
            out = extractor((x,), torch.tensor([[0.0, 0, 0, 60, 60]]))
            (out**2).sum().backward()
            grads[scale] = x.grad, extractor.decouple.weight.grad
        assert torch.allclose(grads[0.001][0], grads[1.0][0] * 0.001)
        assert torch.equal(grads[0.001][1], grads[1.0][1])

    def test_dropout_on_the_class_branch_in_training_mode_only(self):
        head = build().student.roi_head.bbox_head
        x = torch.rand(4, 48, 3, 3)
        head.train()
        first, second = head(x), head(x)
        assert not torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])  # the box branch
        head.eval()
        assert torch.equal(head(x)[0], head(x)[0])
        assert set(head.fc_cls.state_dict()) == {"weight", "bias"}


class TestPSTTL:
    def test_support_set_fills_the_prototypes(self):
        model = started()
        assert model.memory.counts.tolist() == [1, 1, 1]
        assert torch.equal(model.memory.prototypes, model.memory.queue[:, 0])
        assert model.memory.prototypes.abs().sum(1).min() > 0

    def test_support_set_without_a_class_is_an_error(self):
        with pytest.raises(UserError, match="no box of class dog"):
            build().start_stream([support_of((0, 2))], ("cat", "dog", "cow"))

    def test_pseudo_labels_of_both_kinds(self):
        model = started(teacher_train_mode=False)
        data = model.data_preprocessor(step_batch(), training=True)
        pseudo = model.pseudo_labels(
            data["inputs"]["weak"], data["data_samples"]["weak"]
        )
        labels = pseudo.high[0].labels
        assert (labels < C).any()
        assert (labels == C + 1).any()
        assert not (labels == C).any()

    def test_teacher_labels_in_train_mode_and_scores_in_eval_mode(self):
        boxes = []
        for flag in (True, False):
            model = started(teacher_train_mode=flag)
            data = model.data_preprocessor(step_batch(), training=True)
            torch.manual_seed(3)
            pseudo = model.pseudo_labels(
                data["inputs"]["weak"], data["data_samples"]["weak"]
            )
            assert not any(m.training for m in model.teacher.modules())
            boxes.append(pseudo.high[0].scores)
        assert len(boxes[0]) != len(boxes[1]) or not torch.equal(*boxes)

    def test_step_without_support(self):
        model = started(teacher_train_mode=False)
        prototypes = model.memory.prototypes.clone()
        torch.manual_seed(0)
        losses = fresh(model, step_batch())
        assert set(losses) == {
            "loss_rpn_cls",
            "loss_rpn_bbox",
            "loss_cls",
            "loss_kld",
            "loss_bbox",
        }
        assert losses["loss_kld"] > 0
        assert model.pseudo_counts["known"].shape == (C,)
        assert model.pseudo_counts["unknown"].item() > 0
        assert not torch.equal(model.memory.prototypes, prototypes)
        total, _ = model.parse_losses(losses)
        total.backward()
        head = model.student.roi_head.bbox_head
        for layer in (head.fc_reg, model.student.rpn_head.rpn_reg):
            assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))
        assert head.fc_cls.weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in model.teacher.parameters())

    def test_total_is_half_of_the_terms(self):
        values = []
        for weight in (0.5, 1.0):
            model = started(unsup_weight=weight)
            torch.manual_seed(0)
            values.append(model.parse_losses(fresh(model, step_batch()))[0])
        assert torch.allclose(2 * values[0], values[1])

    def test_sup_weight_adds_losses_and_leaves_the_rest_bit_for_bit(self):
        results = []
        for weight in (0.0, 1.0):
            model = started(sup_weight=weight)
            torch.manual_seed(0)
            results.append(fresh(model, step_batch(support=True)))
        assert torch.equal(results[0]["loss_cls"], results[1]["loss_cls"])
        assert torch.equal(results[0]["loss_kld"], results[1]["loss_kld"])
        extra = set(results[1]) - set(results[0])
        assert {"sup_loss_cls", "sup_loss_bbox", "sup_loss_rpn_cls"} <= extra
        assert sum(results[1]["sup_loss_bbox"]) > 0
        with pytest.raises(UserError, match="no support"):
            fresh(started(sup_weight=1.0), step_batch())

    def test_known_only_has_no_soft_labels(self):
        model = started(unknown_threshold=0.8)
        losses = fresh(model, step_batch())
        assert losses["loss_kld"] == 0
        assert model.pseudo_counts["unknown"].item() == 0

    def test_no_detection_at_all(self):
        model = started()
        model.hpl_threshold = model.unknown_threshold = 1.0
        losses = fresh(model, step_batch())
        total, _ = model.parse_losses(losses)
        total.backward()
        assert losses["loss_kld"] == 0
        assert losses["loss_cls"] > 0
        assert torch.isfinite(total)

    def test_labels_in_the_stream_are_never_looked_at(self):
        totals = []
        for poison in (False, True):
            model = started()
            batch = batch_of(1, poison=poison)
            batch = {k: {"weak": batch[k]["weak"]} for k in batch}
            torch.manual_seed(0)
            totals.append(model.parse_losses(fresh(model, batch))[0])
        assert torch.equal(*totals)

    def test_few_shot_checkpoint_fills_both_and_keeps_the_memory(self):
        model = started()
        plain = {k: v + 1 for k, v in model.student.state_dict().items()}
        before = copy.deepcopy(model.memory.state_dict())
        model.load_state_dict(plain, strict=True)
        assert torch.equal(
            model.teacher.roi_head.bbox_head.fc_cls.weight,
            plain["roi_head.bbox_head.fc_cls.weight"],
        )
        for name, value in before.items():
            assert torch.equal(model.memory.state_dict()[name], value)

    def test_memory_is_saved_and_kept_out_of_the_ema(self):
        model = started()
        other = build()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        assert torch.equal(other.memory.queue, model.memory.queue)
        before = model.memory.queue.clone()
        ema_update(model.teacher, model.student, keep=0.9998)
        assert torch.equal(model.memory.queue, before)

    def test_other_heads(self):
        """The class feature of a shared-FC head is its last hidden layer."""
        model = PSTTL(tiny_faster_rcnn(C, norm="frozen"))
        assert model.memory.queue.shape == (C, 128, 32)

    def test_thresholds_must_grow(self):
        with pytest.raises(UserError, match="do not grow"):
            PSTTL(tiny_defrcn(), known_threshold=0.4)

    def test_scoring_is_the_teacher_in_eval_mode(self):
        model = started().eval()
        data = dict(
            inputs=batch_of(1)["inputs"]["weak"],
            data_samples=[
                DetDataSample(metainfo=s.metainfo)
                for s in batch_of(1)["data_samples"]["weak"]
            ],
        )
        one, two = (model.test_step(copy.deepcopy(data))[0] for _ in range(2))
        assert len(one.pred_instances) > 0
        assert torch.equal(one.pred_instances.scores, two.pred_instances.scores)
