"""Detectors of configs, as functions of plain data."""

from pld_mmdet.recipes.detection import from_config


def box_head(
    channels: int, classes: int, *, hidden: int = 0, size: int = 7, **more
) -> dict:
    """The head that classifies and moves boxes.

    Args:
        channels: Of its input.
        classes: How many; background is one more.
        hidden: Width of its two layers [none: the mean over the box].
        size: Side of its input.
        more: Other entries.
    """
    kind = dict(type="BBoxHead", with_avg_pool=True)
    if hidden:
        kind = dict(type="Shared2FCBBoxHead", fc_out_channels=hidden)
    coder = dict(
        type="DeltaXYWHBBoxCoder",
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[0.1, 0.1, 0.2, 0.2],
    )
    plain = dict(
        in_channels=channels,
        roi_feat_size=size,
        num_classes=classes,
        bbox_coder=coder,
        reg_class_agnostic=False,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )
    return {**kind, **plain, **more}


def faster_rcnn(
    backbone: dict,
    channels: int,
    strides: list[int],
    scales: list[int],
    head: dict,
    *,
    std: list[float] | None = None,
    pad: int = 1,
    pooled: int = 7,
    roi: dict | None = None,
    shared_head: dict | None = None,
    neck: dict | None = None,
    **more,
) -> dict:
    """A Faster R-CNN on BGR pixels.

    Args:
        backbone: Its config.
        channels: Of the maps that proposals and RoIs are read from.
        strides: Of the maps of the RPN; RoIs are read from the first four.
        scales: Of the anchors, in strides.
        head: :func:`box_head`.
        std: What pixels are divided by [1].
        pad: Images are padded to a multiple of it.
        pooled: Side of a RoI.
        roi: Changes of the RoI extractor.
        shared_head: What stands between RoIs and head [nothing].
        neck: Config of a pyramid [none].
        more: :func:`learning`.
    """
    extractor = dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=pooled, sampling_ratio=0),
        out_channels=channels,
        featmap_strides=strides[:4],
    )
    rpn = dict(
        type="RPNHead",
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(
            type="AnchorGenerator",
            scales=scales,
            ratios=[0.5, 1.0, 2.0],
            strides=strides,
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )
    rois = dict(type="StandardRoIHead", bbox_roi_extractor={**extractor, **(roi or {})})
    made = dict(
        type="FasterRCNN",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            mean=[103.530, 116.280, 123.675],
            std=std or [1.0, 1.0, 1.0],
            bgr_to_rgb=False,
            pad_size_divisor=pad,
        ),
        backbone=backbone,
        rpn_head=rpn,
        roi_head={**rois, "bbox_head": head},
    )
    if shared_head is not None:
        made["roi_head"]["shared_head"] = shared_head
    if neck is not None:
        made["neck"] = neck
    return {**made, **more}


def learning(
    kept: tuple[int, int],
    tested: tuple[int, int],
    *,
    rois: int = 512,
    positive: float = 0.7,
    least: float = 0.3,
) -> dict:
    """``train_cfg`` and ``test_cfg`` of a Faster R-CNN.

    Args:
        kept: Proposals before and after suppression, in training.
        tested: The same at test time.
        rois: Sampled of an image.
        positive: IoU from which on an anchor is an object.
        least: The best anchor of an object is one from this IoU on.
    """

    def assigner(above: float, below: float, lowest: float, low: bool) -> dict:
        return dict(
            type="MaxIoUAssigner",
            pos_iou_thr=above,
            neg_iou_thr=below,
            min_pos_iou=lowest,
            match_low_quality=low,
            ignore_iof_thr=-1,
        )

    def sampler(num: int, share: float, truth: bool) -> dict:
        return dict(
            type="RandomSampler",
            num=num,
            pos_fraction=share,
            neg_pos_ub=-1,
            add_gt_as_proposals=truth,
        )

    def proposals(before: int, after: int) -> dict:
        suppress = dict(type="nms", iou_threshold=0.7)
        return dict(nms_pre=before, max_per_img=after, nms=suppress, min_bbox_size=0)

    rpn = dict(
        assigner=assigner(positive, 0.3, least, True),
        sampler=sampler(256, 0.5, False),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    )
    rcnn = dict(
        assigner=assigner(0.5, 0.5, 0.5, False),
        sampler=sampler(rois, 0.25, True),
        pos_weight=-1,
        debug=False,
    )
    suppress = dict(type="nms", iou_threshold=0.5)
    return dict(
        train_cfg=dict(rpn=rpn, rpn_proposal=proposals(*kept), rcnn=rcnn),
        test_cfg=dict(
            rpn=proposals(*tested),
            rcnn=dict(score_thr=0.05, nms=suppress, max_per_img=100),
        ),
    )


def vgg16(classes: tuple, like: dict, pretrained: bool = False) -> dict:
    """Faster R-CNN on VGG16's conv5_3, the SFOD papers' other backbone.

    The two hidden layers of its box head start at random: mmcv's ImageNet weights hold
    features only.

    Args:
        classes: Their names.
        like: The detector whose ``train_cfg`` and ``test_cfg`` it takes.
        pretrained: By ImageNet [the run starts from a detector].

    Returns:
        A config that replaces ``like``.
    """
    backbone = dict(type="pld_mmdet.VGG16", frozen_stages=2)
    if pretrained:
        weights = dict(type="Pretrained", checkpoint="open-mmlab://vgg16_caffe")
        backbone["init_cfg"] = weights
    head = box_head(512, len(classes), hidden=4096)
    same = dict(train_cfg=like["train_cfg"], test_cfg=like["test_cfg"])
    made = faster_rcnn(backbone, 512, [16], [8, 16, 32], head, **same)
    return dict(_delete_=True, **made)


def on_vgg16(base: dict, source: str) -> tuple[str, dict, dict]:
    """An adaptation whose source detector has VGG16.

    Args:
        base: The configs below, with ``classes`` and a ``model`` on another backbone.
        source: What the source detector learned, such as ``cityscapes``.

    Returns:
        ``load_from, how_to_get, model``.
    """
    detector = vgg16(base["classes"], base["model"]["detector"])
    return *from_config(f"source/{source}_vgg16"), dict(detector=detector)


def retinanet(detector: dict) -> dict:
    """A one-stage detector on the backbone, neck and anchors of the small Faster R-CNN.

    Args:
        detector: The two-stage detector's config.
    """
    return dict(
        type="RetinaNet",
        data_preprocessor=detector["data_preprocessor"],
        backbone=detector["backbone"],
        neck=detector["neck"],
        bbox_head=dict(
            type="RetinaHead",
            num_classes=8,
            in_channels=64,
            stacked_convs=2,
            feat_channels=64,
            anchor_generator=dict(
                type="AnchorGenerator",
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
            ),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=dict(
                type="FocalLoss",
                use_sigmoid=True,
                gamma=2.0,
                alpha=0.25,
                loss_weight=1.0,
            ),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=500,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
        ),
    )


def r101_c4() -> dict:
    """SF-UT's second detector, as changes of the R50-C4 (r101_c4_cs_*.yaml).

    ResNet-101 up to res4 with batch norm alive from res3 on, RoIs of 7 x 7 into two
    layers of 2048; no res5. Anchors have sides of 64 to 512 px.
    """
    return dict(
        backbone=dict(
            depth=101, norm_cfg=dict(type="BN", requires_grad=True), norm_eval=False
        ),
        rpn_head=dict(anchor_generator=dict(scales=[4, 8, 16, 32])),
        roi_head=dict(
            shared_head=None,
            bbox_roi_extractor=dict(roi_layer=dict(output_size=7)),
            bbox_head=dict(_delete_=True, **box_head(1024, 8, hidden=2048)),
        ),
        train_cfg=dict(rcnn=dict(sampler=dict(num=256))),
        test_cfg=dict(rpn=dict(max_per_img=1000)),
    )
