"""What configs of detectors write again and again, as functions of plain data."""


def lpld() -> dict:
    """Mined boxes on top of Mean Teacher: what changes in a ``model``."""
    return dict(
        type="pld_mmdet.LPLD",
        lpl_max_iou=0.4,
        lpl_min_certainty=0.9,
        lpl_max_background=0.99,
        lpl_loss_weight=0.1,
    )


def batch_labeller() -> list[dict]:
    """SF-UT's labeller: the teacher normalises with the batch that it labels."""
    predict = dict(type="pld_mmdet.PredictBoxes", statistics="batch")
    return [predict, dict(type="pld_mmdet.SelectConfident")]


def unerased(pipeline: list) -> tuple[list, dict]:
    """The strong view without its erased rectangles.

    Args:
        pipeline: Of the training images; its last step makes the views.

    Returns:
        ``train_pipeline, train_dataloader``.
    """
    views = pipeline[-1]
    noise = "pld_mmdet.RandomEraseNoise"
    views["strong"] = [one for one in views["strong"] if one["type"] != noise]
    changed = [*pipeline[:-1], views]
    return changed, train_set(pipeline=changed)


def from_config(name: str) -> tuple[str, dict]:
    """``load_from`` and ``how_to_get`` of a run that starts from another one's end.

    Args:
        name: Of its config, such as ``source/cityscapes``.
    """
    train = f"python tools/train.py configs/{name}.py"
    return f"work_dirs/{name}/last.pth", dict(checkpoint=train)


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
