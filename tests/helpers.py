"""Tiny models that the tests share: built from configs, random weights, no download."""

from mmengine.config import ConfigDict


def tiny_faster_rcnn(num_classes: int = 3, norm: str = "BN", **changes) -> ConfigDict:
    """Config of a Faster R-CNN small enough for a test step in a fraction of a second.

    ResNet-18 with 8 base channels, FPN of 16 channels, one shared layer of 32 in the
    box head; meant for images of about 64 x 64.

    Args:
        num_classes: Foreground classes of the box head.
        norm: ``BN`` (trained, batch statistics), or ``frozen`` (BN in evaluation mode,
            no gradients, as in most detection recipes).
        changes: Top-level keys of the model config to replace.

    Returns:
        A model config for ``MODELS.build`` in mmdet's scope.
    """
    frozen = norm == "frozen"
    proposal = dict(
        nms_pre=64,
        max_per_img=32,
        nms=dict(type="nms", iou_threshold=0.7),
        min_bbox_size=0,
    )
    model = dict(
        type="mmdet.FasterRCNN",
        data_preprocessor=dict(
            type="mmdet.DetDataPreprocessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type="mmdet.ResNet",
            depth=18,
            base_channels=8,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=-1,
            norm_cfg=dict(type="BN", requires_grad=not frozen),
            norm_eval=frozen,
            style="pytorch",
        ),
        neck=dict(
            type="mmdet.FPN",
            in_channels=[8, 16, 32, 64],
            out_channels=16,
            num_outs=5,
        ),
        rpn_head=dict(
            type="mmdet.RPNHead",
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(
                type="mmdet.AnchorGenerator",
                scales=[4],
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
            ),
            bbox_coder=dict(
                type="mmdet.DeltaXYWHBBoxCoder",
                target_means=[0.0] * 4,
                target_stds=[1.0] * 4,
            ),
            loss_cls=dict(
                type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0
            ),
            loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
        ),
        roi_head=dict(
            type="mmdet.StandardRoIHead",
            bbox_roi_extractor=dict(
                type="mmdet.SingleRoIExtractor",
                roi_layer=dict(type="RoIAlign", output_size=3, sampling_ratio=0),
                out_channels=16,
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=dict(
                type="mmdet.Shared2FCBBoxHead",
                in_channels=16,
                fc_out_channels=32,
                roi_feat_size=3,
                num_classes=num_classes,
                bbox_coder=dict(
                    type="mmdet.DeltaXYWHBBoxCoder",
                    target_means=[0.0] * 4,
                    target_stds=[0.1, 0.1, 0.2, 0.2],
                ),
                reg_class_agnostic=False,
                loss_cls=dict(
                    type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0
                ),
                loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type="mmdet.MaxIoUAssigner",
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.3,
                    match_low_quality=True,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type="mmdet.RandomSampler",
                    num=32,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False,
                ),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=proposal,
            rcnn=dict(
                assigner=dict(
                    type="mmdet.MaxIoUAssigner",
                    pos_iou_thr=0.5,
                    neg_iou_thr=0.5,
                    min_pos_iou=0.5,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type="mmdet.RandomSampler",
                    num=32,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=proposal,
            rcnn=dict(
                score_thr=0.05,
                nms=dict(type="nms", iou_threshold=0.5),
                max_per_img=20,
            ),
        ),
    )
    model.update(changes)
    return ConfigDict(model)
