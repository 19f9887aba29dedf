"""What configs of few-shot detection share: files, classes, frozen parts, streams."""

from pld_mmdet.recipes import class_names, drops
from pld_mmdet.recipes.detection import from_config, to_train, train_set

VOC = "data/VOCdevkit/"
STREAM = "data/foggy_streets_stream/"
STREAM_FILES = (
    f"python tools/prepare.py foggy_streets --root {STREAM[:-1]} "
    "--train 5000 --val 200 --test 2000 && python tools/make_fewshot.py streets "
    f"--root {STREAM[:-1]} --shots 10 --most-objects 3"
)


def voc_files(split: int) -> str:
    """How to get the files of a split of VOC.

    Args:
        split: 1, 2 or 3.
    """
    return (
        "unpack VOC 2007 (trainval, test) and 2012 (trainval) into data/VOCdevkit, "
        f"then: python tools/make_fewshot.py voc --split {split} --shots 1 2 3 5 10"
    )


def voc(split: int) -> tuple[str, tuple, tuple, tuple]:
    """A split of VOC.

    Args:
        split: 1, 2 or 3.

    Returns:
        Stem of its files; base, novel and all classes.
    """
    base, novel = class_names.VOC_BASE[split], class_names.VOC_NOVEL[split]
    return f"annotations/fewshot/voc_split{split}", base, novel, base + novel


def listed(ann_file: str, classes: tuple, **more) -> dict:
    """Entries of a data set of so many classes."""
    return dict(ann_file=ann_file, metainfo=dict(classes=classes), **more)


def grouped(base: tuple, novel: tuple) -> dict:
    """The groups that AP is averaged over."""
    return dict(base=list(base), novel=list(novel))


def extended(name: str, shots: str) -> tuple[str, str]:
    """The base detector whose box head got rows for the novel classes.

    Args:
        name: Of the base detector's config.
        shots: The file that names all classes.

    Returns:
        Its checkpoint, and the commands that make it.
    """
    made = f"work_dirs/{name}/all_classes.pth"
    return made, (
        f"python tools/train.py configs/{name}.py && python tools/make_fewshot.py "
        f"extend work_dirs/{name}/last.pth {made} --classes {shots}"
    )


def frozen_c4(classes: int, gradient_scale: float) -> dict:
    """DeFRCN's second step on C4: res5 frozen, dropout on the class branch.

    Args:
        classes: All of them.
        gradient_scale: Lambda, from the box head to the backbone.
    """
    head = dict(
        num_classes=classes,
        cls_predictor_cfg=dict(type="pld_mmdet.DropoutLinear", p=0.8),
    )
    return dict(
        roi_head=dict(
            shared_head=dict(type="pld_mmdet.FrozenResLayer"),
            bbox_roi_extractor=dict(gradient_scale=gradient_scale),
            bbox_head=head,
        )
    )


def files_of(stem: str, k: int) -> str:
    """The file of ``k`` shots; ``stem`` is the benchmark's."""
    return f"{stem}_{k}shot_seed0.json"


def scored_in_groups(
    data_root: str, stem: str, base: tuple, novel: tuple
) -> tuple[dict, dict]:
    """All classes are scored, base and novel ones apart.

    Args:
        data_root: Folder of the images.
        stem: Of the benchmark's files.
        base: Names of the base classes.
        novel: Names of the others.

    Returns:
        Changes of ``val_dataloader`` and ``val_evaluator``.
    """
    file = stem + "_test.json"
    metric = dict(type="pld_mmdet.GroupAP50Metric", ann_file=data_root + file)
    return (
        dict(dataset=listed(file, tuple(base) + tuple(novel))),
        dict(metric, groups=grouped(base, novel)),
    )


def voc_base(split: int) -> tuple[dict, dict, dict]:
    """The base classes of a split of VOC.

    Returns:
        Changes of ``train_dataloader``, ``val_dataloader`` and ``val_evaluator``.
    """
    stem, base, _, _ = voc(split)
    test = f"{stem}_test_base.json"
    return (
        train_set(**listed(f"{stem}_base.json", base)),
        dict(dataset=listed(test, base)),
        dict(ann_file=VOC + test),
    )


def voc_shots(split: int) -> tuple[str, dict, dict, dict, dict]:
    """One shot of each class of a split of VOC, from its extended base detector.

    Returns:
        ``load_from, how_to_get``, and changes of ``train_dataloader``,
        ``val_dataloader`` and ``val_evaluator``.
    """
    stem, base, novel, classes = voc(split)
    shots = files_of(stem, 1)
    load_from, made = extended(f"defrcn/voc_split{split}_base", VOC + shots)
    return (
        load_from,
        dict(data=voc_files(split), checkpoint=made),
        train_set(**listed(shots, classes)),
        *scored_in_groups(VOC, stem, base, novel),
    )


def more_shots(stem: str, k: int, iterations: int) -> tuple[dict, dict, list]:
    """Other shots of the same classes, for so many iterations.

    Returns:
        ``train_dataloader, train_cfg, param_scheduler``.
    """
    return train_set(ann_file=files_of(stem, k)), *length(iterations)


def length(iterations: int) -> tuple[dict, list]:
    """``train_cfg`` and ``param_scheduler``: the rate drops after four fifths."""
    length = dict(max_iters=iterations, val_interval=iterations)
    return length, [drops(iterations * 4 // 5)]


def image_stream(resize: dict, flip: dict, pack: dict) -> list[dict]:
    """What is done to the images of a stream; no labels are loaded."""
    weak = dict(type="MultiBranch", branch_field=["weak"], weak=[pack])
    return [dict(type="LoadImageFromFile"), resize, flip, weak]


def support_views(resize: dict, flip: dict, pack: dict, strong: list) -> list[dict]:
    """What is done to the support set: a weak and a strong view."""
    return [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        resize,
        flip,
        dict(
            type="MultiBranch",
            branch_field=["support_weak", "support_strong"],
            support_weak=[pack],
            support_strong=strong,
        ),
    ]


def online(
    score: dict, support: dict, evaluator: dict, workers: int, merge_support: bool
) -> dict:
    """A loop that learns on a stream of images and scores each before the next.

    Args:
        score: Data set of the same images as they are scored.
        support: Data set of the shots.
        evaluator: Of the stream.
        workers: Loading processes of the scored images.
        merge_support: The shots' losses are used.
    """
    return dict(
        _delete_=True,
        type="pld_mmdet.OnlineLoop",
        score_dataloader=to_train(score, workers=workers, shuffle=False),
        support_dataloader=to_train(support, workers=1),
        merge_support=merge_support,
        evaluator=evaluator,
    )


def online_from(name: str, stem: str, **more) -> tuple[str, dict, dict]:
    """PS-TTL with other shots.

    Args:
        name: Of DeFRCN's config; it ends in the shots, such as ``_10shot``.
        stem: Of the benchmark's files.
        more: Other changes of the support set.

    Returns:
        ``load_from, how_to_get, train_cfg``.
    """
    k = int(name.rpartition("_")[2].removesuffix("shot"))
    support = train_set(ann_file=files_of(stem, k), **more)
    return *from_config(f"defrcn/{name}"), dict(support_dataloader=support)


def online_voc(split: int) -> tuple[str, dict, dict, dict, dict, dict]:
    """PS-TTL on another split of VOC, 1 shot.

    Returns:
        ``load_from, how_to_get``, and changes of ``train_dataloader``,
        ``test_dataloader``, ``test_evaluator`` and ``train_cfg``.
    """
    stem, base, novel, classes = voc(split)
    known = dict(metainfo=dict(classes=classes))
    load_from, how_to_get, support = online_from(
        f"voc_split{split}_1shot", stem, **known
    )
    how_to_get["data"] = voc_files(split)
    scored, metric = scored_in_groups(VOC, stem, base, novel)
    stream = train_set(**scored["dataset"])
    loop = dict(score_dataloader=stream, **support, evaluator=metric)
    return load_from, how_to_get, stream, scored, metric, loop
