"""The adaptation config, composed from a stock config: the whole recipe in one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.adaptation import examples
from pld_mmdet.adaptation.detector import Detector
from pld_mmdet.adaptation.options import Options
from pld_mmdet.adaptation.recipe import ADABN_PRIOR, Recipe
from pld_mmdet.detection.data.image_folder import listed_images
from pld_mmdet.errors import UserError

META_KEYS = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "homography_matrix",
)
# Transforms of a test pipeline that say nothing about how an image becomes an input.
_NOT_GEOMETRY = ("LoadAnnotations", "LoadPanopticAnnotations", "PackDetInputs")
_LOADING = ("LoadImageFromFile", "LoadImageFromNDArray")


@dataclass
class Job:
    """All that a composed config depends on, beside detector and recipe.

    Attributes:
        method: ``lpld``, ``mean_teacher``, ``fixed_labels`` or ``adabn``.
        out: Work dir.
        checkpoint: Weights it starts from.
        root: Folder of the images.
        files: Text file that lists them, relative to ``root``.
        options: What the user asked for.
        val: COCO json for measuring, or None.
        val_root: Folder of its images.
        second_opinion: Of :class:`pld_mmdet.MeanTeacherSFOD`, or None.
    """

    method: str
    out: Path
    checkpoint: Path
    root: Path
    files: Path
    options: Options
    val: Path | None = None
    val_root: Path | None = None
    second_opinion: dict | None = None


def compose(cfg: Config, detector: Detector, recipe: Recipe, job: Job) -> Config:
    """Compose the config of one adaptation.

    Args:
        cfg: Stock config; its test pipeline says how images become inputs.
        detector: From :func:`pld_mmdet.adaptation.detector.read_detector`.
        recipe: From :func:`pld_mmdet.adaptation.recipe.choose_recipe`.
        job: What the user asked for.

    Returns:
        A config that ``tools/train.py`` runs as it is.
    """
    loading, geometry = split_pipeline(cfg)
    keys = keys_of(cfg)
    metainfo = dict(classes=detector.classes)
    adabn = job.method == "adabn"
    # LocalVisBackend stays: the report and the live page read its scalars.json.
    backends = ["LocalVisBackend", *(BACKENDS[name] for name in job.options.log)]
    made = dict(
        default_scope=cfg.get("default_scope") or "mmdet",
        runner_type="pld_mmdet.SafeRunner",
        experiment_name=job.out.name,
        work_dir=str(job.out),
        load_from=str(job.checkpoint),
        resume=False,
        randomness=dict(seed=job.options.seed),
        env_cfg=dict(
            cudnn_benchmark=False,
            mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
            dist_cfg=dict(backend="nccl"),
        ),
        log_level="INFO",
        log_processor=dict(type="LogProcessor", window_size=50, by_epoch=False),
        visualizer=dict(
            type="DetLocalVisualizer",
            vis_backends=[dict(type=name) for name in backends],
        ),
        model=_model(detector, recipe, job),
        train_dataloader=_train_loader(loading, geometry, keys, metainfo, recipe, job),
        default_hooks=_default_hooks(recipe, job),
        custom_hooks=_custom_hooks(detector, recipe, job),
    )
    theirs = cfg.get("custom_imports") or {}
    names = theirs.get("imports") or []
    names = [names] if isinstance(names, str) else list(names)
    made["custom_imports"] = {**theirs, "imports": [*names, examples.__name__]}
    if adabn:
        made["train_cfg"] = dict(
            type="pld_mmdet.AdaBNLoop",
            num_images=recipe.adabn_images,
            prior=ADABN_PRIOR,
        )
    else:
        made["train_cfg"] = dict(
            type="IterBasedTrainLoop",
            max_iters=recipe.iterations,
            val_interval=interval(recipe, job),
        )
        made["param_scheduler"] = _scheduler(recipe)
        made["auto_scale_lr"] = dict(
            enable=False, base_batch_size=recipe.batch * recipe.processes
        )
    # AdaBN saves through an optimizer-less runner, but mmengine wants one built.
    made["optim_wrapper"] = _optimizer(cfg, recipe, job)
    made.update(_evaluation(loading, geometry, keys, metainfo, job))
    return Config(made)


def interval(recipe: Recipe, job: Job) -> int:
    """Steps between two evaluations (and checkpoints)."""
    return max(1, recipe.iterations // job.options.evaluations)


def split_pipeline(cfg: Config) -> tuple[list, list]:
    """Loading and geometric transforms of the config's test pipeline.

    Raises:
        UserError: There is none, or it does not load files.
    """
    pipeline = _pipeline(cfg)
    for step in pipeline:
        for key in ("backend_args", "file_client_args"):
            step.pop(key, None)  # remote storage of the config's own data set
    loading = [s for s in pipeline if _name(s) in _LOADING]
    geometry = [s for s in pipeline if _name(s) not in (*_LOADING, *_NOT_GEOMETRY)]
    if not loading or _name(loading[0]) != "LoadImageFromFile":
        raise UserError(
            "The test pipeline of the config does not begin with LoadImageFromFile.",
            "Give it one: images are read from files.",
        )
    return loading, geometry


def _pipeline(cfg: Config) -> list[dict]:
    for loader in ("test_dataloader", "val_dataloader"):
        dataset = (cfg.get(loader) or {}).get("dataset")
        while isinstance(dataset, dict) and "pipeline" not in dataset:
            several = dataset.get("datasets") or [None]
            dataset = dataset.get("dataset", several[0])
        if isinstance(dataset, dict):
            return [dict(step) for step in dataset["pipeline"]]
    raise UserError(
        "The config has no test_dataloader with a pipeline, so it does not say how "
        "an image becomes an input.",
        "Add the test_dataloader that the detector was tested with.",
    )


def _name(step: dict) -> str:
    return str(step["type"]).rpartition(".")[2]


def keys_of(cfg: Config) -> tuple[str, ...]:
    """:func:`pack_keys` of the config's test pipeline."""
    return pack_keys(_pipeline(cfg))


def pack_keys(pipeline: Sequence[dict]) -> tuple[str, ...]:
    """Meta information that goes along: ours, and what the config's pipeline packs.

    A detector may need more than most (CornerNet and CenterNet: ``border``).

    Args:
        pipeline: Of the config; branches of a ``MultiBranch`` are looked into.
    """
    keys = list(META_KEYS)
    for step in pipeline:
        if _name(step) == "PackDetInputs":
            keys += step.get("meta_keys") or ()
        for branch in step.get("branch_field", ()):
            keys += pack_keys(step.get(branch) or ())
    return tuple(dict.fromkeys(keys))


def _pack(keys: Sequence[str]) -> dict:
    return dict(type="PackDetInputs", meta_keys=tuple(keys))


def strong_view() -> list[dict]:
    """LPLD's strong augmentations, photometric only, without its erased rectangles.

    They cover pseudo boxes whose labels stay; on FoggyStreets that costs Mean Teacher
    1.4 AP50 (docs/results.md).
    """
    return [
        dict(
            type="pld_mmdet.RandomColorJitter",
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            prob=0.8,
        ),
        dict(type="pld_mmdet.RandomGrayscale", prob=0.2),
        dict(type="pld_mmdet.RandomGaussianBlur", sigma=(0.1, 2.0), prob=0.5),
    ]


def _views(
    loading: list, geometry: list, keys: Sequence[str], flip: float = 0.0
) -> list:
    mirror = [dict(type="RandomFlip", prob=flip)] if flip else []
    pads = [n for n, step in enumerate(geometry) if _name(step) == "Pad"]
    at = min(pads, default=len(geometry))  # what pads the image lies right and below
    return [
        *loading,
        *geometry[:at],
        *mirror,
        *geometry[at:],
        dict(
            type="MultiBranch",
            branch_field=["weak", "strong"],
            weak=[_pack(keys)],
            strong=[*strong_view(), _pack(keys)],
        ),
    ]


def _model(detector: Detector, recipe: Recipe, job: Job) -> dict:
    if job.method == "adabn":
        return detector.config
    model = dict(
        type="pld_mmdet.LPLD" if job.method == "lpld" else "pld_mmdet.MeanTeacherSFOD",
        detector=detector.config,
        hpl_threshold=recipe.threshold,
        labeller=[
            dict(type="pld_mmdet.PredictBoxes"),
            dict(type="pld_mmdet.SelectConfident", max_boxes=recipe.max_boxes),
        ],
        predict_on="student" if job.method == "fixed_labels" else "teacher",
        norm_eval=True,
    )
    if job.method == "lpld" and detector.stages > 1:
        model["stage"] = job.options.stage
    if job.second_opinion is not None:
        model["second_opinion"] = job.second_opinion
    return model


def _images(pipeline: list, metainfo: dict, job: Job, **more) -> dict:
    return dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            type="pld_mmdet.ImageFolder",
            data_root=str(job.root),
            files=str(job.files),
            metainfo=metainfo,
            pipeline=pipeline,
            **more,
        ),
    )


def _loader(dataset: dict, batch: int, workers: int, sampler: dict) -> dict:
    return dict(
        batch_size=batch,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=sampler,
        dataset=dataset,
    )


def _train_loader(
    loading, geometry, keys, metainfo: dict, recipe: Recipe, job: Job
) -> dict:
    pipeline = (
        [*loading, *geometry, _pack(keys)]
        if job.method == "adabn"
        else _views(loading, geometry, keys, flip=0.5)
    )
    return _loader(
        _images(pipeline, metainfo, job),
        recipe.batch,
        job.options.workers,
        dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    )


def _optimizer(cfg: Config, recipe: Recipe, job: Job) -> dict:
    """The source's optimizer and its rules for single parameters, at our rate."""
    theirs = cfg.get("optim_wrapper") or {}
    optimizer = dict(theirs.get("optimizer") or UNNAMED[recipe.optimizer])
    optimizer["lr"] = recipe.lr
    wrapper = dict(type="pld_mmdet.FiniteOptimWrapper", optimizer=optimizer)
    if job.options.amp is not None:
        wrapper.update(
            type="pld_mmdet.FiniteAmpOptimWrapper",
            dtype={"fp16": "float16", "bf16": "bfloat16"}[job.options.amp],
        )
    wrapper |= {k: theirs[k] for k in ("clip_grad", "paramwise_cfg") if theirs.get(k)}
    return wrapper


def _scheduler(recipe: Recipe) -> list:
    """Warm-up, then a cosine to 0."""
    steps = dict(by_epoch=False, begin=0)
    warm_up = dict(type="LinearLR", start_factor=0.1, end=recipe.warm_up, **steps)
    cosine = dict(
        type="CosineAnnealingLR",
        T_max=recipe.iterations,
        eta_min=0.0,
        end=recipe.iterations,
        **steps,
    )
    return [warm_up, cosine]


def _default_hooks(recipe: Recipe, job: Job) -> dict:
    checkpoint = dict(
        type="pld_mmdet.SafeCheckpointHook",
        by_epoch=False,
        interval=interval(recipe, job),
        max_keep_ckpts=-1 if job.options.select == "safety" else 2,
    )
    if job.options.select in job.options.scores and job.method != "adabn":
        checkpoint.update(save_best=f"label_free/{job.options.select}", rule="greater")
    return dict(
        timer=dict(type="IterTimerHook"),
        logger=dict(
            type="LoggerHook", interval=max(1, min(50, recipe.iterations // 8))
        ),
        param_scheduler=dict(type="ParamSchedulerHook"),
        checkpoint=checkpoint,
        sampler_seed=dict(type="DistSamplerSeedHook"),
        visualization=dict(type="DetVisualizationHook"),
    )


def _custom_hooks(detector: Detector, recipe: Recipe, job: Job) -> list:
    hooks = [
        dict(type="pld_mmdet.IterationSeedHook"),
        dict(type="pld_mmdet.RunRecordHook"),
        dict(type="pld_mmdet.ScoreAtStartHook"),
    ]
    if job.method == "adabn":
        return hooks
    keep = 1.0 if job.method == "fixed_labels" else recipe.keep
    hooks.append(dict(type="pld_mmdet.TeacherEMAHook", keep=keep, unit="iter"))
    every = max(1, min(50, recipe.iterations // 10))
    hooks.append(dict(type="pld_mmdet.PseudoBoxHook", interval=every))
    hooks.append(dict(type="pld_mmdet.ExampleHook", interval=every))
    if job.options.guard != "off":
        hooks.append(
            dict(
                type="pld_mmdet.CollapseGuardHook",
                interval=every,
                action=job.options.guard,
                silent_for=max(1, min(600, recipe.iterations // 3)),
                # says, and does not stop: its limits are not measured over seeds
                probe=dict(images=16, acts=False),
            )
        )
    return hooks


def _evaluation(loading, geometry, keys, metainfo: dict, job: Job) -> dict:
    """A val loop with label-free scores, and with AP50 where labels exist."""
    count = len(listed_images(job.files))
    chosen = min(job.options.score_images, count)
    dataset = _images(
        _views(loading, geometry, keys),
        metainfo,
        job,
        indices=[i * count // chosen for i in range(chosen)],
    )
    workers = min(job.options.workers, 1)
    sampler = dict(type="DefaultSampler", shuffle=False)
    scored = _loader(dataset, 1, workers, sampler)
    scores = [
        dict(type=f"pld_mmdet.{SCORE_TYPES[name]}") for name in job.options.scores
    ]
    loop = dict(type="pld_mmdet.ScoredValLoop", scores=scores)
    if job.val is None:
        return dict(val_cfg=loop, val_dataloader=scored, val_evaluator=[])
    labelled = dict(
        type="CocoDataset",
        data_root=str(job.val_root),
        ann_file=str(job.val),
        data_prefix=dict(img=""),
        metainfo=metainfo,
        test_mode=True,
        pipeline=[
            *loading,
            *geometry,
            dict(type="LoadAnnotations", with_bbox=True),
            _pack(keys),
        ],
    )
    metric = dict(type="pld_mmdet.AP50Metric", ann_file=str(job.val))
    return dict(
        val_cfg=dict(**loop, score_dataloader=scored),
        val_dataloader=_loader(labelled, 1, workers, sampler),
        val_evaluator=metric,
        test_cfg=dict(type="TestLoop"),
        test_dataloader=_loader(labelled, 1, workers, sampler),
        test_evaluator=metric,
    )


# Of a config that names no optimizer.
UNNAMED = {
    "SGD": dict(type="SGD", momentum=0.9, weight_decay=1e-4),
    "AdamW": dict(type="AdamW", weight_decay=1e-4),
}

# Where curves can go beside the work dir: mmengine's backends.
BACKENDS = {"tensorboard": "TensorboardVisBackend", "wandb": "WandbVisBackend"}

SCORE_TYPES = {
    "agreement": "ViewAgreement",
    "box_stability": "BoxStability",
    "das": "DetectionAdaptationScore",
}
