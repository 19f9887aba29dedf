"""Mean Teacher without proposals, masks that come along, and LPLD's refusal."""

import pytest
import torch

import pld_mmdet
from pld_mmdet.adaptation.compose import split_pipeline
from pld_mmdet.adaptation.detector import read_config, read_detector, require_method
from pld_mmdet.adaptation.words import explain
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.errors import UserError
from tests.adaptation import detectors
from tests.adaptation.tiny import (
    load_strictly,
    spread_scores,
    write_detector,
    write_images,
)
from tests.detection.helpers import batch_of, fresh

DENSE = ["retinanet", "fcos", "atss", "deformable_detr", "dino"]


def wrapped(name: str, threshold: float) -> MeanTeacherSFOD:
    torch.manual_seed(0)
    model = MeanTeacherSFOD(getattr(detectors, name)(), hpl_threshold=threshold)
    model.init_weights()
    spread_scores(model.student)
    model.teacher.load_state_dict(model.student.state_dict())
    return model.train()


def step(model: MeanTeacherSFOD, batch: dict) -> dict:
    losses = fresh(model, batch)
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    return losses


def has_gradient(network) -> bool:
    return any(
        p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()
    )


def threshold_between(model: MeanTeacherSFOD, batch: dict, boxes: int = 3) -> float:
    """A threshold above which the teacher gives a few boxes."""
    data = model.data_preprocessor(batch, True)
    found = model._teacher_detections(
        data["inputs"]["weak"], data["data_samples"]["weak"]
    )
    scores = torch.cat([f.scores for f in found]).sort(descending=True).values
    return scores[boxes].item()


@pytest.mark.parametrize("name", DENSE)
def test_mean_teacher_takes_a_step_with_and_without_pseudo_labels(name):
    model = wrapped(name, 0.99)
    losses = step(model, batch_of(2))
    assert losses
    assert model.pseudo_counts["high"].sum() == 0
    assert has_gradient(model.student)
    model.student.zero_grad()
    model.hpl_threshold = threshold_between(model, batch_of(2))
    step(model, batch_of(2))
    assert model.pseudo_counts["high"].sum() > 0
    assert has_gradient(model.student)
    assert not has_gradient(model.teacher)
    agreeing, boxes = model.view_agreement(batch_of(2)).tolist()
    assert boxes > 0
    assert 0 <= agreeing <= boxes


def test_masks_come_along_as_pseudo_masks():
    model = wrapped("mask_rcnn", 0.2)
    seen = {}
    loss = model.student.loss

    def spy(inputs, samples):
        seen["truth"] = samples[0].gt_instances
        return loss(inputs, samples)

    model.student.loss = spy
    losses = step(model, batch_of(1))
    truth = seen["truth"]
    assert len(truth.bboxes) > 0
    assert truth.masks.masks.shape == (len(truth.bboxes), 64, 64)
    assert "loss_mask" in losses
    gradients = [p.grad for p in model.student.roi_head.mask_head.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_masks_of_an_image_without_a_pseudo_label():
    step(wrapped("mask_rcnn", 1.0), batch_of(2))


@pytest.mark.parametrize("name", ["retinanet", "dino"])
def test_lpld_says_why_it_needs_proposals(tmp_path, name):
    config, checkpoint = write_detector(tmp_path, getattr(detectors, name)())
    detector = read_detector(read_config(config), checkpoint)
    assert detector.head == "sigmoid"
    kind = "one-stage" if name == "retinanet" else "transformer"
    assert detector.kind == kind
    with pytest.raises(UserError, match=f"is a {kind} detector and has no proposals"):
        require_method(detector, "lpld")
    require_method(detector, "mean_teacher")


def test_adabn_says_plainly_that_there_is_no_batch_norm(tmp_path):
    model = detectors.retinanet()
    model.backbone.norm_cfg = dict(type="GN", num_groups=4, requires_grad=True)
    config, checkpoint = write_detector(tmp_path, model)
    detector = read_detector(read_config(config), checkpoint)
    with pytest.raises(UserError, match="has no batch norm to adapt"):
        require_method(detector, "adabn")
    assert "no batch-norm layers" in detector.sentence()


def test_sentence_about_masks(tmp_path):
    config, checkpoint = write_detector(tmp_path, detectors.mask_rcnn())
    detector = read_detector(read_config(config), checkpoint)
    assert detector.masks
    assert "masks come along" in explain(detector, "lpld")


def test_sync_batch_norm_and_initial_weights_need_no_gpu_and_no_download(tmp_path):
    model = detectors.retinanet()
    model.backbone.norm_cfg = dict(type="SyncBN", requires_grad=True)
    config, checkpoint = write_detector(tmp_path, model, confident=False)
    cfg = read_config(config)
    cfg.model.backbone.init_cfg = dict(
        type="Pretrained", checkpoint="torchvision://resnet18"
    )
    resize = dict(type="BatchSyncRandomResize", random_size_range=(32, 64))
    cfg.model.data_preprocessor.batch_augments = [resize]
    detector = read_detector(cfg, checkpoint)
    assert detector.config.backbone.init_cfg is None
    assert detector.config.backbone.norm_cfg.type == "BN"
    assert detector.config.backbone.norm_eval is True
    assert detector.config.data_preprocessor.batch_augments == []
    assert cfg.model.backbone.norm_cfg.type == "SyncBN"  # the user's stays


def test_one_command_adapts_a_one_stage_detector(tmp_path):
    config, checkpoint = write_detector(tmp_path / "d", detectors.fcos())
    said = []
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        write_images(tmp_path / "images", 8),
        "mean_teacher",
        out=tmp_path / "out",
        workers=0,
        iterations=3,
        evaluations=1,
        score_images=2,
        guard="warn",
        select="last",
        say=said.append,
    )
    assert result.recipe.threshold == 0.25
    load_strictly(config, result.checkpoint)
    scores = result.outcome.history[-1]
    assert "label_free/das_pdr" not in scores  # no RoI features
    assert "label_free/agreement" in scores


def test_class_names_of_checkpoint_and_config(tmp_path):
    config, checkpoint = write_detector(
        tmp_path / "a", metainfo=dict(classes=("cat", "dog", "cow"))
    )
    with pytest.raises(UserError, match="number 2 is 'hen' there and 'cow' in"):
        read_detector(read_config(config), checkpoint)
    config, checkpoint = write_detector(
        tmp_path / "b", classes=None, metainfo=dict(classes=("cat", "dog", "cow"))
    )
    found = read_detector(read_config(config), checkpoint)
    assert found.classes == ("cat", "dog", "cow")
    config, checkpoint = write_detector(tmp_path / "c", classes=None)
    # CocoDataset's own 80 names are not these three
    with pytest.raises(UserError, match="has 3 classes, but the config's data set"):
        read_detector(read_config(config), checkpoint)
    found = read_detector(read_config(config), checkpoint, ["a", "b", "c"])
    assert found.classes == ("a", "b", "c")
    with pytest.raises(UserError, match="--classes names 2"):
        read_detector(read_config(config), checkpoint, ["a", "b"])


@pytest.mark.parametrize("place", ["checkpoint", "config"])
def test_names_on_the_command_line_exchange_no_known_ones(tmp_path, place):
    config, checkpoint = write_detector(
        tmp_path,
        classes=("cat", "dog", "hen") if place == "checkpoint" else None,
        metainfo=dict(classes=("cat", "dog", "hen")) if place == "config" else None,
    )
    cfg = read_config(config)
    same = read_detector(cfg, checkpoint, ["cat", "dog", "hen"])
    assert same.classes == ("cat", "dog", "hen")
    for names in (["dog", "cat", "hen"], ["cat", "dog", "cow"], ["cat", "dog"]):
        with pytest.raises(UserError, match="--classes gives"):
            read_detector(cfg, checkpoint, names)


def test_data_sets_in_a_row(tmp_path):
    names = dict(classes=("cat", "dog", "hen"))
    config, checkpoint = write_detector(tmp_path, classes=None, metainfo=names)
    cfg = read_config(config)
    plain = split_pipeline(cfg)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if loader in cfg:
            several = [cfg[loader].dataset, cfg[loader].dataset]
            cfg[loader].dataset = dict(type="ConcatDataset", datasets=several)
    assert read_detector(cfg, checkpoint).classes == names["classes"]
    assert split_pipeline(cfg) == plain


def test_names_of_the_type_of_the_data_may_be_replaced_and_not_exchanged(tmp_path):
    config, checkpoint = write_detector(tmp_path, classes=None)
    cfg = read_config(config)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if loader in cfg:
            cfg[loader].dataset.type = "DeepFashionDataset"
    names = read_detector(cfg, checkpoint, ["a", "b", "c"]).classes
    assert names == ("a", "b", "c")
    from mmdet.datasets import DeepFashionDataset

    theirs = DeepFashionDataset.METAINFO["classes"]
    with pytest.raises(UserError, match=f"'{theirs[-1]}' where the config's data set"):
        read_detector(cfg, checkpoint, list(theirs[::-1]))


def test_checkpoints_that_do_not_fit(tmp_path):
    config, checkpoint = write_detector(tmp_path / "a")
    other, _ = write_detector(tmp_path / "b", detectors.fcos())
    with pytest.raises(UserError, match="another architecture"):
        read_detector(read_config(other), checkpoint)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    two = {f"{n}.{k}": v for n in ("teacher", "student") for k, v in state.items()}
    torch.save(dict(state_dict=two), tmp_path / "two.pth")
    with pytest.raises(UserError, match="holds a teacher and a student"):
        read_detector(read_config(config), tmp_path / "two.pth")
