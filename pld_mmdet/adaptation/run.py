"""Adapt a stock detector to a folder of images: check, compose, run, export, report."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config

from pld_mmdet.adaptation import compose as composing
from pld_mmdet.adaptation import opinion
from pld_mmdet.adaptation.asked import (
    began_with,
    came_later,
    describe,
    images_of,
    unbroken,
)
from pld_mmdet.adaptation.detector import (
    Detector,
    read_config,
    read_detector,
    require_method,
)
from pld_mmdet.adaptation.folder import Images, check_images, find_images
from pld_mmdet.adaptation.labels import find_labels
from pld_mmdet.adaptation.outcome import Outcome, read_outcome
from pld_mmdet.adaptation.page import write_page
from pld_mmdet.adaptation.recipe import MIN_ADABN_IMAGES, Recipe, choose_recipe
from pld_mmdet.adaptation.trial import try_step
from pld_mmdet.cli import build_runner
from pld_mmdet.detection.data.images import MAX_PIXELS
from pld_mmdet.detection.detectors.export import export_detector
from pld_mmdet.engine.config.configs import read_config as read_run_config
from pld_mmdet.engine.config.preflight import check_config
from pld_mmdet.engine.run.optional import require
from pld_mmdet.engine.run.runner import find_latest
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.engine.state.files import keep_inputs, write_atomic, write_json
from pld_mmdet.engine.state.outfolder import INHERITED, claimed
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.places import tool
from pld_mmdet.report.live import watched
from pld_mmdet.values import ADAPT


@dataclass
class Adapted:
    """What an adaptation left.

    Attributes:
        checkpoint: Plain checkpoint; loads strictly in the stock detector.
        config: The composed config; ``tools/train.py`` repeats the run with it.
        report: The page.
        outcome: Its numbers.
        recipe: What the rule chose.
        skipped: (file, what is wrong) of unreadable images.
    """

    checkpoint: Path
    config: Path
    report: Path
    outcome: Outcome
    recipe: Recipe
    skipped: list[tuple[str, str]] = field(default_factory=list)


def adapt(
    config: str | Path,
    checkpoint: str | Path,
    images: str | Path,
    method: str = "lpld",
    val: str | Path | None = None,
    out: str | Path | None = None,
    *,
    val_images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    batch: int | None = None,
    gpus: int = 1,
    iterations: int | None = None,
    lr: float | None = None,
    keep: float | None = None,
    threshold: float | None = None,
    stage: int = -1,
    seed: int = 0,
    guard: str = "stop",
    select: str = "last",
    scores: Sequence[str] = ("agreement", "box_stability", "das"),
    score_images: int = 32,
    evaluations: int = 4,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    amp: str | None = None,
    log: Sequence[str] = (),
    second_opinion: Sequence[str | Path] | None = None,
    watch: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Adapted:
    """Adapt a detector to unlabelled images.

    Args:
        config: Stock mmdet config of the detector.
        checkpoint: Its weights.
        images: Folder (searched recursively) or pattern.
        method: ``'lpld'``, ``'mean_teacher'`` or ``'adabn'``.
        val: COCO json with labels, for measuring only; nothing is chosen by it.
        out: Folder for everything [``work_dirs/adapt/<config>_<method>``].
        val_images: Folder that the json's file names are relative to [searched].
        classes: Class names, when neither checkpoint nor config has them.
        batch: Images a step and process [the config's, at most 4].
        gpus: Training processes.
        iterations: Instead of the rule's; likewise the next three.
        lr: Learning rate.
        keep: Teacher's share that stays at each step.
        threshold: Score above which a detection is a pseudo label.
        stage: Box head of a cascade whose proposals LPLD mines; -1 is the last.
        seed: Seed of the run.
        guard: Collapse guard: ``'stop'``, ``'rollback'``, ``'warn'`` or ``'off'``.
        select: ``'last'``, or the label-free score whose best checkpoint is exported.
        scores: Label-free scores to compute.
        score_images: Images they look at, spread evenly.
        evaluations: Evaluations during the run.
        workers: Loader processes.
        max_pixels: Images with more (width times height) count as unreadable; they are
            not decoded.
        amp: ``'fp16'`` or ``'bf16'``.
        log: Where the curves go beside ``out``: ``'tensorboard'``, ``'wandb'``.
        second_opinion: ``[FILE.json]`` with COCO results, or ``[CONFIG, CHECKPOINT]``
            of another detector of the same classes: boxes that the teacher misses.
        watch: Port on which a page of this machine shows the growing run; 0 takes a
            free one, None shows nothing.
        resume: Go on with the run in ``out``, whose options these must be (``gpus``,
            ``workers`` and ``watch`` may be others).
        say: Receives the lines for the user.

    Returns:
        Paths and numbers.

    Raises:
        UserError: Whatever the user can mend, before anything long begins.
    """
    given = locals()
    for name, kind in ADAPT.items():
        kind.check(name, given[name])
    out = Path(out or Path("work_dirs/adapt") / f"{Path(config).stem}_{method}")
    _check_choices(guard, select, scores, gpus, log)
    if val_images and not val:
        raise UserError(
            f"--val-images {val_images} changes nothing without --val.",
            "Name the COCO json of these images with --val, or leave it out.",
        )
    opinion.check_words(second_opinion, method)
    import_mmdet()
    cfg = read_config(config)
    with (
        claimed(out, resume, ("config.py", "*.pth"), "--out") as going_on,
        watched(out, watch, say),
    ):
        if resume and not going_on:
            say(f"Nothing to resume in {out}: a new run begins.")
        detector = read_detector(cfg, checkpoint, classes)
        say(f"Detector: {detector.sentence()}")
        require_method(detector, method, stage)
        root, files = find_images(images, say)
        keep_inputs(out, [root])
        asked = describe(
            config,
            cfg,
            checkpoint,
            root,
            val,
            val_images,
            method=method,
            classes=classes,
            batch=batch,
            iterations=iterations,
            lr=lr,
            keep=keep,
            threshold=threshold,
            stage=stage,
            seed=seed,
            guard=guard,
            select=select,
            scores=scores,
            score_images=score_images,
            evaluations=evaluations,
            amp=amp,
            log=log,
            second_opinion=opinion.described(second_opinion),
        )
        if going_on:
            asked = began_with(out, asked)
            own = images_of(out, files, root, asked)
            later = came_later(files, own, asked)
            if later:
                say(f"{later} images came later; the run goes on without them.")
            files = own
        if len(files) > 1000:
            say(f"Checking {len(files)} images ...")
        found = check_images(root, files, max_pixels=max_pixels, say=say)
        say(f"Images:   {found.sentence()}")
        labels = find_labels(val, val_images, root, detector.classes, max_pixels, say)
        if going_on:
            unbroken(found, out)
            found.broken = asked.skipped
            recipe = asked.recipe
        else:
            recipe = _recipe(
                cfg,
                detector,
                len(found.files),
                batch,
                gpus,
                dict(iterations=iterations, lr=lr, keep=keep, threshold=threshold),
            )
            if method == "adabn" and not recipe.adabn_images:
                raise UserError(
                    f"AdaBN measures statistics on {MIN_ADABN_IMAGES} images or more; "
                    f"{images} has {len(found.files)}.",
                    "Add images, or use --method mean_teacher, which does without.",
                )
            asked.recipe, asked.skipped = recipe, found.broken
        say(f"Method:   {explain(detector, method, stage)}")
        say(recipe.sentence(method != "adabn"))
        _say_unread(given, say)
        _say_floor(detector, recipe, method, say)
        listed = out / "images.txt"
        if not going_on:
            text = "\n".join(found.files) + "\n"
            write_atomic(listed, lambda file: file.write(text.encode()))
            asked.write(out)
        job = composing.Job(
            method=method,
            out=out.resolve(),
            checkpoint=Path(checkpoint).resolve(),
            root=root.resolve(),
            files=listed.resolve(),
            seed=seed,
            stage=stage,
            guard=guard,
            scores=tuple(scores),
            select=select,
            evaluations=evaluations,
            score_images=score_images,
            workers=workers,
            amp=amp,
            log=tuple(log),
            second_opinion=opinion.ask(
                second_opinion, detector, found, out, going_on, say
            ),
            **labels,
        )
        run_config = out / "config.py"
        made = (
            read_run_config(run_config)
            if going_on
            else composing.compose(cfg, detector, recipe, job)
        )
        if not going_on:
            # Before training: what cannot be built must not leave a config behind.
            check_config(made, ("train", "val"))
            try_step(made, detector.name, method)
            text = made.pretty_text
            write_atomic(run_config, lambda file: file.write(text.encode()))
        # AdaBN is one pass that keeps no state: it is done again.
        _train(made, run_config, gpus, going_on and method != "adabn")
        return _finish(out, made, job, recipe, found, say)


def explain(detector: Detector, method: str, stage: int = -1) -> str:
    """What the method will do with this detector, in one or two sentences."""
    if method == "adabn":
        return (
            f"AdaBN: the statistics of {detector.batch_norms} batch-norm layers are "
            "measured again on the images; no weight is trained."
        )
    text = "Mean Teacher: the teacher's confident boxes train the student"
    if method == "lpld":
        text = (
            "LPLD: the teacher's confident boxes train the student, and its "
            "low-confidence proposals are distilled"
        )
        if detector.stages > 1:
            number = range(detector.stages)[stage] + 1
            text += (
                f"; box head {number} of {detector.stages} mines them (--stage "
                f"{number - 1})"
            )
    text += "."
    if detector.masks:
        text += " The masks come along as pseudo masks of the teacher."
    return text


def _check_choices(
    guard: str, select: str, scores: Sequence[str], gpus: int, log: Sequence[str]
) -> None:
    for score in scores:
        one_of("adapt", scores=(score, composing.SCORE_TYPES))
    for name in log:
        one_of("adapt", log=(name, composing.BACKENDS))
    one_of(
        "adapt",
        guard=(guard, ("stop", "rollback", "warn", "off")),
        select=(select, ("last", *scores)),
    )
    if "tensorboard" in log:
        require("tensorboard", "tensorboard")
    if "wandb" in log and find_spec("wandb") is None:
        raise UserError("--log wandb: wandb is not installed.", "pip install wandb")
    if gpus > 1 and torch.cuda.is_available() and torch.cuda.device_count() < gpus:
        raise UserError(
            f"--gpus {gpus} asks for more than the {torch.cuda.device_count()} GPUs "
            "that are visible.",
            f"Use --gpus {torch.cuda.device_count()}.",
        )


def _say_unread(given: dict, say: Callable[[str], None]) -> None:
    """Name the options that this method does not read."""
    method = given["method"]
    names = [] if method == "lpld" or given["stage"] == -1 else ["stage"]
    if method == "adabn":
        names += [
            n for n in ("iterations", "lr", "keep", "threshold") if given[n] is not None
        ]
        names += [] if given["select"] == "last" else ["select"]
    if names:
        which = ", ".join(f"--{name}" for name in names)
        say(f"Not read: {which}; --method {method} has no use for it.")


def _say_floor(
    detector: Detector, recipe: Recipe, method: str, say: Callable[[str], None]
) -> None:
    """Say when the config's own test settings drop boxes that the rule would take."""
    test = detector.config.get("test_cfg") or {}
    floor = (test.get("rcnn") or test).get("score_thr") or 0
    if method != "adabn" and floor > recipe.threshold:
        say(
            f"Note: test_cfg.score_thr of the config drops boxes below {floor:g}, so "
            f"pseudo labels and AP50 begin there and not at {recipe.threshold:g}."
        )


def _recipe(
    cfg: Config,
    detector: Detector,
    images: int,
    batch: int | None,
    gpus: int,
    chosen: dict,
) -> Recipe:
    theirs = (cfg.get("train_dataloader") or {}).get("batch_size", 2)
    batch = batch or min(theirs, 4)
    wrapper = cfg.get("optim_wrapper") or {}
    optimizer = wrapper.get("optimizer") or {}
    adam = detector.layer_norm and str(optimizer.get("type", "")).startswith("Adam")
    base = (cfg.get("auto_scale_lr") or {}).get("base_batch_size", 16)
    return choose_recipe(
        images,
        min(batch, images),
        gpus,
        detector.head,
        "AdamW" if adam else "SGD",
        (optimizer["lr"], base) if adam and "lr" in optimizer else None,
        detector.batch_norms,
        **chosen,
    )


def _train(made: Config, path: Path, processes: int, resume: bool) -> None:
    """Run the composed config, here or in several processes."""
    latest = find_latest(made.work_dir) if resume else None
    if processes == 1:
        if latest is not None:
            made.resume, made.load_from = True, latest
        made.launcher = "none"
        build_runner(made).train()
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", str(tool("train"))]
    command += [str(path), "--launcher", "pytorch", "--work-dir", made.work_dir]
    command += ["--resume"] if resume else []
    held = os.environ | {INHERITED: os.path.realpath(made.work_dir)}
    done = subprocess.run(command, check=False, env=held)
    if done.returncode != 0:
        raise UserError(
            f"Training on {processes} processes ended with code {done.returncode}; its "
            "reason stands above.",
            "Mend it and run the same command with --resume.",
        )


def _finish(
    out: Path,
    made: Config,
    job: composing.Job,
    recipe: Recipe,
    found: Images,
    say: Callable[[str], None],
) -> Adapted:
    outcome = read_outcome(out, job.select, recipe.iterations)
    chosen = out / "adapted.pth"
    network = export_detector(outcome.chosen, chosen, None, made.model)
    page = write_page(out, outcome, found, recipe, job.method)
    write_json(
        out / "report.json",
        dict(
            outcome=outcome.as_dict(),
            recipe=asdict(recipe),
            method=job.method,
            skipped=found.broken,
        ),
    )
    for sentence in outcome.sentences():
        say(sentence)
    if found.broken:
        say(found.broken_sentence())
    say(f"Detector: {chosen} ({network}), loads in the stock config. Report: {page}")
    return Adapted(chosen, out / "config.py", page, outcome, recipe, found.broken)
