"""Tiny detectors of other kinds, in the shape of mmdet's own configs."""

import copy

from mmengine.config import ConfigDict

from tests.helpers import tiny_faster_rcnn

_FOCAL = dict(
    type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
)
_TEST = dict(
    nms_pre=50,
    min_bbox_size=0,
    score_thr=0.05,
    nms=dict(type="nms", iou_threshold=0.5),
    max_per_img=20,
)


def _base(kind: str, head: dict, train_cfg: dict | None = None) -> ConfigDict:
    parts = tiny_faster_rcnn()
    neck = copy.deepcopy(parts.neck)
    neck.update(start_level=1, add_extra_convs="on_output", num_outs=3)
    return ConfigDict(
        type=f"mmdet.{kind}",
        data_preprocessor=parts.data_preprocessor,
        backbone=parts.backbone,
        neck=neck,
        bbox_head=dict(
            num_classes=3,
            in_channels=16,
            stacked_convs=1,
            feat_channels=16,
            loss_cls=_FOCAL,
            **head,
        ),
        train_cfg=train_cfg,
        test_cfg=_TEST,
    )


def _assigner(**kwargs) -> dict:
    return dict(assigner=kwargs, allowed_border=-1, pos_weight=-1, debug=False)


def retinanet() -> ConfigDict:
    return _base(
        "RetinaNet",
        dict(
            type="mmdet.RetinaHead",
            anchor_generator=dict(
                type="mmdet.AnchorGenerator",
                octave_base_scale=2,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32],
            ),
            bbox_coder=dict(type="mmdet.DeltaXYWHBBoxCoder"),
            loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
        ),
        _assigner(
            type="mmdet.MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
    )


def fcos() -> ConfigDict:
    return _base(
        "FCOS",
        dict(
            type="mmdet.FCOSHead",
            strides=[8, 16, 32],
            regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
            norm_cfg=dict(type="GN", num_groups=4, requires_grad=True),
            loss_bbox=dict(type="mmdet.IoULoss", loss_weight=1.0),
            loss_centerness=dict(
                type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0
            ),
        ),
    )


def atss() -> ConfigDict:
    return _base(
        "ATSS",
        dict(
            type="mmdet.ATSSHead",
            norm_cfg=dict(type="GN", num_groups=4, requires_grad=True),
            anchor_generator=dict(
                type="mmdet.AnchorGenerator",
                ratios=[1.0],
                octave_base_scale=4,
                scales_per_octave=1,
                strides=[8, 16, 32],
            ),
            bbox_coder=dict(type="mmdet.DeltaXYWHBBoxCoder"),
            loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
            loss_centerness=dict(
                type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0
            ),
        ),
        _assigner(type="mmdet.ATSSAssigner", topk=9),
    )


def _transformer(kind: str, head: str, dims: int = 16, **more) -> ConfigDict:
    parts = tiny_faster_rcnn()
    backbone = copy.deepcopy(parts.backbone)
    backbone.out_indices = (1, 2, 3)
    attention = dict(embed_dims=dims, num_heads=2, num_levels=3, num_points=2)
    ffn = dict(embed_dims=dims, feedforward_channels=32, ffn_drop=0.0)
    own = dict(embed_dims=dims, num_heads=2, dropout=0.0, batch_first=True)
    return ConfigDict(
        type=f"mmdet.{kind}",
        num_queries=12,
        num_feature_levels=3,
        data_preprocessor=parts.data_preprocessor,
        backbone=backbone,
        neck=dict(
            type="mmdet.ChannelMapper",
            in_channels=[16, 32, 64],
            kernel_size=1,
            out_channels=dims,
            act_cfg=None,
            norm_cfg=dict(type="GN", num_groups=4),
            num_outs=3,
        ),
        encoder=dict(
            num_layers=1,
            layer_cfg=dict(
                self_attn_cfg=dict(**attention, batch_first=True), ffn_cfg=ffn
            ),
        ),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=own,
                cross_attn_cfg=dict(**attention, batch_first=True),
                ffn_cfg=ffn,
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(
            num_feats=dims // 2, normalize=True, offset=more.pop("offset")
        ),
        bbox_head=dict(
            type=f"mmdet.{head}",
            num_classes=3,
            embed_dims=dims,
            sync_cls_avg_factor=True,
            loss_cls=_FOCAL,
            loss_bbox=dict(type="mmdet.L1Loss", loss_weight=5.0),
            loss_iou=dict(type="mmdet.GIoULoss", loss_weight=2.0),
            **more.pop("bbox_head", {}),
        ),
        train_cfg=dict(
            assigner=dict(
                type="mmdet.HungarianAssigner",
                match_costs=[
                    dict(type="mmdet.FocalLossCost", weight=2.0),
                    dict(type="mmdet.BBoxL1Cost", weight=5.0, box_format="xywh"),
                    dict(type="mmdet.IoUCost", iou_mode="giou", weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=10),
        **more,
    )


def deformable_detr() -> ConfigDict:
    return _transformer(
        "DeformableDETR",
        "DeformableDETRHead",
        offset=-0.5,
        with_box_refine=False,
        as_two_stage=False,
    )


def dino() -> ConfigDict:
    # mmdet 3.3.0 encodes queries for 256 channels, whatever the config says.
    return _transformer(
        "DINO",
        "DINOHead",
        dims=256,
        offset=0.0,
        with_box_refine=True,
        as_two_stage=True,
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=8),
        ),
    )


def mask_rcnn() -> ConfigDict:
    model = tiny_faster_rcnn()
    model.type = "mmdet.MaskRCNN"
    model.roi_head.mask_roi_extractor = dict(
        type="mmdet.SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=4, sampling_ratio=0),
        out_channels=16,
        featmap_strides=[4, 8, 16, 32],
    )
    model.roi_head.mask_head = dict(
        type="mmdet.FCNMaskHead",
        num_convs=1,
        in_channels=16,
        conv_out_channels=16,
        num_classes=3,
        loss_mask=dict(type="mmdet.CrossEntropyLoss", use_mask=True, loss_weight=1.0),
    )
    model.train_cfg.rcnn.mask_size = 8
    model.test_cfg.rcnn.mask_thr_binary = 0.5
    return model
