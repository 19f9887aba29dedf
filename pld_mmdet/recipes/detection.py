"""What configs of detectors write again and again, as functions of plain data."""


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


def mean_teacher(detector: dict) -> dict:
    """LPLD's baseline: its recipe without the mined boxes."""
    return dict(
        _delete_=True,
        type="pld_mmdet.MeanTeacherSFOD",
        detector=detector,
        hpl_threshold=0.7,
        predict_on="teacher",
    )


def from_config(name: str) -> tuple[str, dict]:
    """``load_from`` and ``how_to_get`` of a run that starts from another one's end.

    Args:
        name: Of its config, such as ``source/cityscapes``.
    """
    train = f"python tools/train.py configs/{name}.py"
    return f"work_dirs/{name}/last.pth", dict(checkpoint=train)


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


def coco(
    data_root: str,
    ann_file: str,
    classes: tuple,
    pipeline: list,
    *,
    images: str = "",
    **more,
) -> dict:
    """A data set of boxes in COCO's form.

    Args:
        data_root: Its folder, with a slash.
        ann_file: Below it.
        classes: Their names, in the order of the labels [the file's].
        pipeline: What is done to a sample.
        images: Their folder below ``data_root``.
        more: Other entries; ``test_mode=True`` keeps every image, in order.
    """
    made = dict(type="CocoDataset", data_root=data_root, ann_file=ann_file)
    if classes:
        made["metainfo"] = dict(classes=classes)
    return {**made, "data_prefix": dict(img=images), "pipeline": pipeline, **more}


def seeded(dataset: dict) -> dict:
    """Each sample draws (flips, colours) from a seed of its own."""
    return dict(type="pld_mmdet.SeededDataset", dataset=dataset)


def to_train(
    dataset: dict,
    batch: int = 1,
    *,
    workers: int = 2,
    shuffle: bool = True,
    infinite: bool = True,
    **more,
) -> dict:
    """A loader of training images, seeded and resumed where it stopped.

    Args:
        dataset: Its config.
        batch: Images of a batch.
        workers: Loading processes.
        shuffle: By the seed; else in order.
        infinite: The loop counts iterations; else epochs.
        more: ``_delete_=True`` where a base has another loader, or another sampler.
    """
    order = dict(type="pld_mmdet.ResumableSampler", shuffle=shuffle, infinite=infinite)
    made = dict(
        batch_size=batch,
        num_workers=workers,
        persistent_workers=True,
        sampler=order,
        dataset=seeded(dataset),
    )
    return {**made, **more}


def to_test(*args, **more) -> dict:
    """A loader of images that are scored, one by one.

    Args:
        args: Of :func:`coco`.
        more: Likewise.
    """
    return dict(
        batch_size=1,
        num_workers=2,
        persistent_workers=True,
        drop_last=False,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=coco(*args, test_mode=True, **more),
    )


def train_set(**entries) -> dict:
    """What changes in the data set of a loader that seeds its samples."""
    return dict(dataset=dict(dataset=entries))


def moved(
    classes: tuple,
    trained_on: str,
    tested_on: str = "",
    *,
    tested: str = "val.json",
    **where,
) -> tuple[dict, dict, dict]:
    """The data of another benchmark in the place of a base's.

    Args:
        classes: Their names.
        trained_on: Folder of the images to learn from.
        tested_on: Folder of those that are scored [the same].
        tested: Their boxes, below ``annotations``.
        where: Where in its folder what is learnt from lies.

    Returns:
        Changes of ``train_dataloader``, ``val_dataloader`` and ``val_evaluator``.
    """
    root, file = tested_on or trained_on, f"annotations/{tested}"
    named = dict(metainfo=dict(classes=classes))
    return (
        train_set(data_root=trained_on, **named, **where),
        dict(dataset=dict(data_root=root, ann_file=file, **named)),
        dict(ann_file=root + file),
    )


def share_of_coco(base: dict, fold: str, percent: int) -> tuple[dict, dict, dict]:
    """COCO with few labels.

    Args:
        base: The configs below, with ``labelled`` and ``unlabelled``.
        fold: Which draw.
        percent: How many of the images have labels.

    Returns:
        ``labelled, unlabelled, train_dataloader``.
    """
    file = f"semi_anns/instances_train2017.{fold}@{percent}"
    labelled = dict(base["labelled"], ann_file=f"{file}.json")
    unlabelled = dict(base["unlabelled"], ann_file=f"{file}-unlabeled.json")
    return labelled, unlabelled, train_set(datasets=[labelled, unlabelled])


def at_test(scale: tuple[int, int]) -> list[dict]:
    """What is done to an image that is scored.

    Args:
        scale: Longer side at most, shorter side; pixels.
    """
    return [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=scale, keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="PackDetInputs"),
    ]


def short_sides(first: int, last: int = 800, step: int = 32) -> dict:
    """Images are resized to one of several short sides, at most 1333 long.

    Args:
        first: The smallest.
        last: The largest.
        step: From one to the next.
    """
    scales = [(1333, side) for side in range(first, last + 1, step)]
    return dict(type="RandomChoiceResize", scales=scales, keep_ratio=True)


def packing(kind: str = "PackDetInputs", *, homography: bool = True) -> dict:
    """The last step of a view: with what leads from one view's boxes to another's.

    Args:
        kind: Its class.
        homography: The views may have geometries of their own.
    """
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    keys += ("flip", "flip_direction", *["homography_matrix"] * homography)
    return dict(type=kind, meta_keys=keys)


def strong_view(pack: dict, **jitter) -> list[dict]:
    """The strong view of the SFOD papers: colour, grey, blur, three noisy rectangles.

    The released loader hands BGR bytes to a library that reads RGB:
    ``channel_order='rgb'`` repeats that.

    Args:
        pack: The last step.
        jitter: Arguments of the colours.
    """
    rgb = dict(channel_order="rgb")
    erase = (
        dict(area=(0.05, 0.2), ratio=(0.3, 3.3), prob=0.7),
        dict(area=(0.02, 0.2), ratio=(0.1, 6), prob=0.5),
        dict(area=(0.02, 0.2), ratio=(0.05, 8), prob=0.3),
    )
    return [
        dict(type="pld_mmdet.RandomColorJitter", **jitter, **rgb),
        dict(type="pld_mmdet.RandomGrayscale", prob=0.2, **rgb),
        dict(type="pld_mmdet.RandomGaussianBlur", sigma=(0.1, 2.0), prob=0.5),
        *[dict(type="pld_mmdet.RandomEraseNoise", **which) for which in erase],
        pack,
    ]


def _name(hook: dict) -> str:
    return hook["type"].split(".")[-1]


def without(hooks: list, *names: str) -> list:
    """Hooks but for some.

    Args:
        hooks: Configs.
        names: Class names of those that go.

    Raises:
        ValueError: There is none of a name.
    """
    absent = set(names) - {_name(hook) for hook in hooks}
    if absent:
        raise ValueError(f"there is no hook {', '.join(sorted(absent))}")
    return [hook for hook in hooks if _name(hook) not in names]


def the(hooks: list, name: str) -> dict:
    """The hook of a class name.

    Raises:
        ValueError: There is none, or several.
    """
    (found,) = (hook for hook in hooks if _name(hook) == name)
    return found


def swapped(hooks: list, hook: dict) -> list:
    """Hooks with another one in the place of that of its class.

    Raises:
        ValueError: There is none of its class.
    """
    without(hooks, _name(hook))
    return [hook if _name(one) == _name(hook) else one for one in hooks]


def polishing(hooks: list, keep: float, first_drop: int) -> list:
    """Hooks of dual polishing in the place of Soft Teacher's.

    Args:
        hooks: Those of Soft Teacher.
        keep: The teacher's share of itself.
        first_drop: Iteration at which the rate drops and the teacher is frozen.
    """
    ramped = dict(type="pld_mmdet.RampedEMAHook")
    return [
        *without(hooks, "RampedEMAHook"),
        dict(ramped, keep=keep, warm_up=0, stop_after=first_drop),
        dict(
            ramped,
            keep=0.99,
            warm_up=100,
            teacher="polish_teacher",
            student="polish_student",
        ),
    ]
