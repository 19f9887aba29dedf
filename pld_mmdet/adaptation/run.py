"""Adapt a stock detector to a folder of images: check, compose, run, choose, report."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config

from pld_mmdet.adaptation import opinion
from pld_mmdet.adaptation.asked import (
    Asked,
    began_with,
    came_later,
    describe,
    images_of,
    unbroken,
)
from pld_mmdet.adaptation.candidates import Candidate, Candidates
from pld_mmdet.adaptation.compose import Job, compose
from pld_mmdet.adaptation.detector import (
    Detector,
    read_config,
    read_detector,
    require_method,
)
from pld_mmdet.adaptation.folder import Images, check_images, find_images
from pld_mmdet.adaptation.labelled import Labelled
from pld_mmdet.adaptation.labels import find_labels
from pld_mmdet.adaptation.options import Options
from pld_mmdet.adaptation.outcome import Outcome, read_outcome
from pld_mmdet.adaptation.page import write_page
from pld_mmdet.adaptation.recipe import MIN_ADABN_IMAGES, Recipe, choose_recipe
from pld_mmdet.adaptation.trial import try_step
from pld_mmdet.adaptation.words import explain, say_floor, say_unread, why_nothing
from pld_mmdet.cli import build_runner
from pld_mmdet.detection.detectors.export import export_detector
from pld_mmdet.detection.loops.scored_val import read_history
from pld_mmdet.engine.config.configs import read_config as read_run_config
from pld_mmdet.engine.config.preflight import check_config
from pld_mmdet.engine.run.optional import require
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.engine.state.files import keep_inputs, write_atomic, write_json
from pld_mmdet.engine.state.newest import find_latest, numbered_checkpoints
from pld_mmdet.engine.state.outfolder import INHERITED, claimed
from pld_mmdet.errors import UserError
from pld_mmdet.places import tool
from pld_mmdet.report.live import watched

# What ``auto`` trains where labels can judge it; the last one in the folder itself.
TRAINED = ("fixed_labels", "mean_teacher")
CANDIDATES = "candidates"
NOTHING = "Nothing was learned that is safer than the source"


@dataclass
class Adapted:
    """What an adaptation left.

    Attributes:
        checkpoint: Plain checkpoint; loads strictly in the stock detector. The source
            itself where nothing was learned.
        config: The composed config; ``tools/train.py`` repeats the run with it.
        report: The page.
        outcome: Its numbers.
        recipe: What the rule chose.
        skipped: (file, what is wrong) of unreadable images.
        learned: Whether it is another detector than the source.
    """

    checkpoint: Path
    config: Path
    report: Path
    outcome: Outcome
    recipe: Recipe
    skipped: list[tuple[str, str]] = field(default_factory=list)
    learned: bool = True


def adapt(
    config: str | Path,
    checkpoint: str | Path,
    images: str | Path,
    method: str = "auto",
    *,
    say: Callable[[str], None] = print,
    **options,
) -> Adapted:
    """Adapt a detector to unlabelled images.

    Args:
        config: Stock mmdet config of the detector.
        checkpoint: Its weights.
        images: Folder (searched recursively) or pattern.
        method: ``'auto'``, ``'lpld'``, ``'mean_teacher'``, ``'fixed_labels'`` or
            ``'adabn'``.
        say: Receives the lines for the user.
        **options: See :class:`pld_mmdet.adaptation.options.Options`.

    Returns:
        Paths and numbers.

    Raises:
        UserError: Whatever the user can mend, before anything long begins.
    """
    options = Options.of(method=method, **options)
    _check_machine(options)
    place = Path("work_dirs/adapt") / f"{Path(config).stem}_{method}"
    out = Path(options.out or place)
    opinion.check_words(options.second_opinion, method)
    import_mmdet()
    cfg = read_config(config)
    with (
        claimed(out, options.resume, ("config.py", "*.pth"), "--out") as going_on,
        watched(out, options.watch, say),
    ):
        if options.resume and not going_on:
            say(f"Nothing to resume in {out}: a new run begins.")
        work = _prepare(config, cfg, checkpoint, images, options, out, going_on, say)
        return work.run()


def _prepare(
    config: str | Path,
    cfg: Config,
    checkpoint: str | Path,
    images: str | Path,
    options: Options,
    out: Path,
    going_on: bool,
    say: Callable[[str], None],
) -> "_Work":
    """Read and check everything that was given."""
    detector = read_detector(cfg, checkpoint, options.classes)
    say(f"Detector: {detector.sentence()}")
    for each in TRAINED if options.method == "auto" else (options.method,):
        require_method(detector, each, options.stage)
    root, files = find_images(images, say)
    keep_inputs(out, [root])
    asked = describe(config, cfg, checkpoint, root, options)
    if going_on:
        asked = began_with(out, asked)
        own = images_of(out, files, root, asked)
        later = came_later(files, own, asked)
        if later:
            say(f"{later} images came later; the run goes on without them.")
        files = own
    if len(files) > 1000:
        say(f"Checking {len(files)} images ...")
    found = check_images(root, files, max_pixels=options.max_pixels, say=say)
    say(f"Images:   {found.sentence()}")
    work = _Work(cfg, detector, Path(checkpoint), options, out, found, asked, say)
    work.find_labels()
    if going_on:
        unbroken(found, out)
        found.broken = asked.skipped
    else:
        asked.recipe, asked.skipped = work.choose(), found.broken
    work.going_on = going_on
    return work


@dataclass
class _Work:
    """One adaptation: everything that was read, and what is done with it."""

    cfg: Config
    detector: Detector
    source: Path
    options: Options
    out: Path
    images: Images
    asked: Asked
    say: Callable[[str], None]
    going_on: bool = False
    val: dict = field(default_factory=dict)
    labelled: Labelled | None = None

    @property
    def recipe(self) -> Recipe:
        """What the rule chose, now or when the run began."""
        return self.asked.recipe

    @property
    def plan(self) -> tuple[str, ...]:
        """The methods that are run, the last one in the folder itself.

        Nothing that can be seen without labels tells a detector that self-training
        harmed from one that it mended (docs/adapt.md), so ``auto`` trains only where
        there are some.
        """
        if self.options.method != "auto":
            return (self.options.method,)
        if self.labelled is not None:
            return TRAINED
        return ("adabn",) if self.recipe.adabn_images else ()

    @property
    def trains(self) -> bool:
        """Whether weights change, not only statistics."""
        return any(method != "adabn" for method in self.plan)

    def find_labels(self) -> None:
        """Check the labels that measure and those that choose."""
        options, root = self.options, self.images.root
        more = (root, self.detector.classes, options.max_pixels, self.say)
        self.val = find_labels(options.val, options.val_images, *more)
        few = find_labels(options.labels, options.val_images, *more)
        if few:
            self.labelled = Labelled(few["val"], few["val_root"], self.detector.classes)

    def choose(self) -> Recipe:
        """The rule's numbers for this detector and these images."""
        options, detector = self.options, self.detector
        asked = options.method == "adabn" or options.adabn == "on"
        wanted = asked or (options.adabn == "auto" and detector.moving_norms > 0)
        recipe = _recipe(self.cfg, detector, len(self.images.files), options, wanted)
        if asked and not recipe.adabn_images:
            count = len(self.images.files)
            why = (
                f"{detector.name} has no batch norm"
                if not detector.batch_norms
                else f"AdaBN measures statistics on {MIN_ADABN_IMAGES} images or more; "
                f"{self.images.root} has {count}"
            )
            raise UserError(
                f"{why}.",
                "Add images, or use --method mean_teacher, which does without.",
            )
        return recipe

    def run(self) -> Adapted:
        """Train what was planned, look at all of it, end with the safest."""
        options, recipe = self.options, self.recipe
        for method in self.plan:
            self.say(f"Method:   {explain(self.detector, method, options.stage)}")
        if not self.plan:
            self.say(
                f"Method:   none: {why_nothing(self.detector, options, self.images)}"
            )
        else:
            self.say(recipe.sentence(self.trains))
        say_unread(options, self.say)
        if self.trains:
            say_floor(self.detector, recipe, self.say)
        listed = self.out / "images.txt"
        if not self.going_on:
            text = "\n".join(self.images.files) + "\n"
            write_atomic(listed, lambda file: file.write(text.encode()))
        candidates = Candidates(
            self.cfg,
            self.detector,
            self.source,
            self.images,
            options.score_images,
            recipe.threshold,
            self.labelled,
            self.say,
        )
        if not self.going_on:
            self.asked.recipe = replace(recipe, max_boxes=candidates.most_boxes)
            self.asked.write(self.out)
        start = self._start(candidates)
        for method in self.plan:
            self._train(method, start, candidates)
        return self._finish(candidates)

    def _start(self, candidates: Candidates) -> Path:
        """The weights that training starts from: the source, or AdaBN of it."""
        if not self.recipe.adabn_images or not self.trains:
            return self.source
        folder = self.out / CANDIDATES / "adabn"
        self._run_in(folder, "adabn", self.source)
        made = candidates.add("adabn", 1, Path(find_latest(folder)))
        forced = self.options.adabn == "on"
        best = made if forced else candidates.safest([made])
        if best is not made:
            self.say("AdaBN is not safer than the source: training starts from that.")
            return self.source
        plain = folder / "start.pth"
        export_detector(made.checkpoint, plain, None, None)
        return plain

    def _train(self, method: str, start: Path, candidates: Candidates) -> None:
        """Run one method, and look at every checkpoint it left."""
        main = method == self.plan[-1]
        folder = self.out if main else self.out / CANDIDATES / method
        self._run_in(folder, method, start)
        for path in numbered_checkpoints(folder):
            candidates.add(method, int(path.stem.rpartition("_")[2]), path)

    def _run_in(self, folder: Path, method: str, start: Path) -> None:
        """Compose, try a step, train; a finished run is left as it is."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.py"
        going_on = self.going_on and path.is_file()
        if going_on:
            made = read_run_config(path)
        else:
            made = self._compose(folder, method, start)
            # Before training: what cannot be built must not leave a config behind.
            check_config(made, ("train", "val"))
            try_step(made, self.detector.name, method)
            text = made.pretty_text
            write_atomic(path, lambda file: file.write(text.encode()))
        # AdaBN is one pass that keeps no state: it is done again.
        _train(made, path, self.options.gpus, going_on and method != "adabn")

    def _compose(self, folder: Path, method: str, start: Path) -> Config:
        second = opinion.ask(
            self.options.second_opinion,
            self.detector,
            self.images,
            self.out,
            self.going_on,
            self.say,
        )
        job = Job(
            method=method,
            out=folder.resolve(),
            checkpoint=start.resolve(),
            root=self.images.root.resolve(),
            files=(self.out / "images.txt").resolve(),
            options=self.options,
            second_opinion=second,
            **self.val,
        )
        return compose(self.cfg, self.detector, self.recipe, job)

    def _finish(self, candidates: Candidates) -> Adapted:
        """Choose, export, report."""
        options, out, source = self.options, self.out, self.source
        outcome = Outcome([], str(source), 0, options.select)
        if self.plan:
            outcome = read_outcome(out, options.select, self.recipe.iterations)
        outcome.trained = self.trains
        chosen = self._chosen(candidates, candidates.safest(), outcome)
        learned = chosen is not candidates.source
        outcome.chosen, outcome.chosen_iter = str(chosen.checkpoint), chosen.iteration
        outcome.before = self._source_row()
        outcome.after = (
            _row_of(chosen.checkpoint.parent, chosen.iteration)
            if learned
            else outcome.before
        )
        file = out / "adapted.pth" if learned else source
        if learned:
            made = read_run_config(chosen.checkpoint.parent / "config.py")
            network = export_detector(chosen.checkpoint, file, None, made.model)
        verdict = candidates.sentence(chosen) if learned else NOTHING
        page = write_page(
            out, outcome, self.images, self.recipe, options.method, verdict
        )
        write_json(
            out / "report.json",
            dict(
                outcome=outcome.as_dict(),
                recipe=asdict(self.recipe),
                method=options.method,
                candidates=[candidate.row() for candidate in candidates.all],
                chosen=chosen.row(),
                skipped=self.images.broken,
            ),
        )
        for sentence in outcome.sentences():
            self.say(sentence)
        if self.images.broken:
            self.say(self.images.broken_sentence())
        if learned:
            self.say(f"Chosen:   {candidates.sentence(chosen)}")
            self._say_gain(candidates, chosen)
            self.say(
                f"Detector: {file} ({network}), loads in the stock config. Report: "
                f"{page}"
            )
        else:
            keep = (
                "; --keep writes the last checkpoint all the same" if self.plan else ""
            )
            self.say(
                f"{NOTHING}: {source} is your detector, and no adapted.pth was "
                f"written{keep}. Report: {page}"
            )
        config, broken = out / "config.py", self.images.broken
        return Adapted(file, config, page, outcome, self.recipe, broken, learned)

    def _source_row(self) -> dict | None:
        """The source's evaluation, of the first run: others may start from AdaBN."""
        folders = [self.out / CANDIDATES / name for name in ("adabn", *self.plan)]
        return next(filter(None, (_row_of(f, 0) for f in [*folders, self.out])), None)

    def _chosen(
        self, candidates: Candidates, best: Candidate, outcome: Outcome
    ) -> Candidate:
        """What the user's ``--select`` and ``--keep`` make of the safest."""
        options = self.options
        if options.select != "safety":
            last = [c for c in candidates.all if str(c.checkpoint) == outcome.chosen]
            wanted = last[-1] if last else candidates.all[-1]
        elif best is candidates.source and options.keep:
            wanted = candidates.all[-1]
        else:
            return best
        if candidates.merit(wanted) < 0:
            self.say(
                f"Warning:  nothing shows that {wanted.name} at iteration "
                f"{wanted.iteration} is safer than the source; it is exported because "
                f"{'--keep' if options.select == 'safety' else '--select'} says so."
            )
        return wanted

    def _say_gain(self, candidates: Candidates, chosen: Candidate) -> None:
        interval = candidates.interval(chosen)
        if interval is None:
            return
        low, high = (100 * value for value in interval)
        gain = 100 * (chosen.ap50 - candidates.source.ap50)
        count = len(self.labelled.paths)
        self.say(
            f"Gain:     {gain:+.1f} AP50 on {count} labelled images, 95 % of the draws "
            f"between {low:+.1f} and {high:+.1f} (the same images chose it)."
        )


def _check_machine(options: Options) -> None:
    if "tensorboard" in options.log:
        require("tensorboard", "tensorboard")
    if "wandb" in options.log and find_spec("wandb") is None:
        raise UserError("--log wandb: wandb is not installed.", "pip install wandb")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else options.gpus
    if options.gpus > max(gpus, 1):
        raise UserError(
            f"--gpus {options.gpus} asks for more than the {gpus} GPUs that are "
            "visible.",
            f"Use --gpus {gpus}.",
        )
    if options.select not in ("safety", "last", *options.scores):
        raise UserError(
            f"--select {options.select} is not among --scores.",
            f"Add it: --scores {' '.join([*options.scores, options.select])}.",
        )


def _recipe(
    cfg: Config, detector: Detector, images: int, options: Options, adabn: bool
) -> Recipe:
    """The rule, with the source's own optimizer and batch."""
    loader = (cfg.get("train_dataloader") or {}).get("batch_size")
    batch = options.batch or min(loader or 2, 4)
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    unnamed = "AdamW" if detector.layer_norm else "SGD"
    theirs = (cfg.get("auto_scale_lr") or {}).get("base_batch_size") or loader or 16
    return choose_recipe(
        images,
        min(batch, images),
        options.gpus,
        detector.head,
        str(optimizer.get("type", unnamed)).rpartition(".")[2],
        (optimizer["lr"], theirs) if "lr" in optimizer else None,
        adabn and bool(detector.batch_norms),
        iterations=options.iterations,
        lr=options.lr,
        keep=options.teacher_keep,
        threshold=options.threshold,
    )


def _row_of(run: Path, iteration: int) -> dict | None:
    """The evaluation of a run nearest to an iteration."""
    return min(
        read_history(run), key=lambda row: abs(row["iter"] - iteration), default=None
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
    command = [sys.executable, str(tool("_launch")), "--standalone"]
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
