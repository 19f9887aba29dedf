"""The options of an adaptation, said once: command line, Python call, record, help."""
# ruff: noqa: RUF009  (_option gives a field)

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

from pld_mmdet.cli import input_file, input_folder, output_folder
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.values import (
    BATCH,
    INDEX,
    PORT,
    POSITIVE,
    POSITIVE_INT,
    PROCESSES,
    SEED,
    SHARE,
    WORKERS,
    Number,
)

# This module is imported by ``--help``: nothing of torch or mm*.
MAX_PIXELS = 178_956_970
METHODS = ("auto", "lpld", "mean_teacher", "fixed_labels", "adabn")
SCORES = ("agreement", "box_stability", "das")
BACKENDS = ("tensorboard", "wandb")


def _option(default, text: str, *, decides: bool = True, **argument):
    """A field with what argparse needs; ``decides``: the result depends on it."""
    metadata = dict(help=text, decides=decides, argument=argument)
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """What ``tools/adapt.py`` and ``pld_mmdet.adapt`` can be told.

    A name here is the option of the command line (``--score-images``), the keyword of
    the call (``score_images=``) and the entry of ``adapt.json``; its help text says
    what it means, and its type which values do.
    """

    method: str = _option(
        "auto",
        "auto: AdaBN where it is safe, and with --labels what they show to be best; "
        "else the source stays",
        choices=METHODS,
    )
    val: str | Path | None = _option(
        None,
        "COCO json; only measures, chooses nothing",
        type=input_file,
        metavar="ANN",
    )
    val_images: str | Path | None = _option(
        None, "folder of its images [searched]", type=input_folder, metavar="DIR"
    )
    labels: str | Path | None = _option(
        None,
        "COCO json of 20 to 100 labelled images of the new domain: chooses, and says "
        "the interval of the gain",
        type=input_file,
        metavar="ANN",
    )
    out: str | Path | None = _option(
        None,
        "folder for everything [work_dirs/adapt/CONFIG_METHOD]",
        decides=False,
        type=output_folder,
    )
    resume: bool = _option(
        False, "go on with the run in --out", decides=False, action="store_true"
    )
    keep: bool = _option(
        False,
        "export what was trained, though nothing shows that it is safer",
        decides=False,
        action="store_true",
    )
    adabn: str = _option(
        "auto",
        "batch-norm statistics of the new images; auto: a candidate where the norms "
        "moved in training",
        choices=("auto", "on", "off"),
    )
    classes: Sequence[str] | None = _option(
        None, "if the checkpoint names none", nargs="+", metavar="NAME"
    )
    batch: int | None = _option(
        None, "images a step and process [config's, at most 4]", type=BATCH
    )
    gpus: int = _option(1, "training processes", decides=False, type=PROCESSES)
    iterations: int | None = _option(None, "instead of the rule's", type=POSITIVE_INT)
    lr: float | None = _option(None, "instead of the rule's", type=POSITIVE)
    teacher_keep: float | None = _option(
        None, "teacher's share that stays a step, instead of the rule's", type=SHARE
    )
    threshold: float | None = _option(
        None, "score of a pseudo label, instead of the rule's", type=SHARE
    )
    stage: int = _option(-1, "box head that mines in a cascade", type=INDEX)
    seed: int = _option(0, "of the run", type=SEED)
    guard: str = _option(
        "stop",
        "what happens at a collapse; stop keeps the last good weights",
        choices=("stop", "rollback", "warn", "off"),
    )
    select: str = _option(
        "safety",
        "checkpoint that is exported: the safest, the last, or the best by a score",
        choices=("safety", "last", *SCORES),
    )
    scores: Sequence[str] = _option(
        list(SCORES), "label-free scores to compute", nargs="*", choices=SCORES
    )
    score_images: int = _option(64, "images they look at", type=POSITIVE_INT)
    evaluations: int = _option(4, "during a run", type=POSITIVE_INT)
    workers: int = _option(2, "loader processes", decides=False, type=WORKERS)
    max_pixels: int = _option(
        MAX_PIXELS,
        "larger images count as unreadable",
        decides=False,
        type=POSITIVE_INT,
        metavar="N",
    )
    amp: str | None = _option(
        None, "half precision", nargs="?", const="fp16", choices=("fp16", "bf16")
    )
    second_opinion: Sequence[str | Path] | None = _option(
        None,
        "boxes that the teacher may miss: FILE.json with COCO results, or CONFIG "
        "CHECKPOINT of another detector",
        nargs="+",
        metavar="FILE",
    )
    watch: int | None = _option(
        None,
        "show the growing run in the browser of this machine [a free port]",
        decides=False,
        nargs="?",
        type=PORT,
        const=0,
        metavar="PORT",
    )
    log: Sequence[str] = _option(
        [], "send the curves there too", nargs="+", choices=BACKENDS
    )

    @classmethod
    def of(cls, **given) -> "Options":
        """Options of a call, checked as the command line's are.

        Raises:
            UserError: A name or a value is not known.
        """
        known = {option.name: option for option in fields(cls)}
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise UserError(
                    f"adapt has no option {name!r}.",
                    f"Did you mean {near[0]!r}?" if near else "help(pld_mmdet.adapt)",
                )
        made = cls(**given)
        for name, option in known.items():
            argument, value = option.metadata["argument"], getattr(made, name)
            if isinstance(argument.get("type"), Number):
                argument["type"].check(name, value)
            if "choices" in argument and value is not None:
                for word in [value] if isinstance(value, str) else value:
                    one_of("adapt", **{name: (word, argument["choices"])})
        if made.val_images and not (made.val or made.labels):
            raise UserError(
                f"--val-images {made.val_images} changes nothing without --val.",
                "Name the COCO json of these images with --val, or leave it out.",
            )
        return made

    def asked(self) -> dict:
        """The options that decide the result, as ``adapt.json`` keeps them."""
        chosen = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.metadata["decides"]
        }
        return {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}

    def unread(self) -> list[str]:
        """Names of given options that the method has no use for."""
        names = [] if self.method == "lpld" or self.stage == -1 else ["stage"]
        if self.method == "adabn" or (self.method == "auto" and self.labels is None):
            training = ("iterations", "lr", "teacher_keep", "second_opinion")
            names += [name for name in training if getattr(self, name) is not None]
        return names


def add_options(parser: ArgumentParser) -> None:
    """Give a parser every option, with its default in the help text."""
    for option in fields(Options):
        name = f"--{option.name.replace('_', '-')}"
        default = option.default
        if default is MISSING:
            default = option.default_factory()
        text = option.metadata["help"]
        shown = not isinstance(default, bool | tuple) and default is not None
        text += f" [{default}]" if shown else ""
        argument = dict(option.metadata["argument"], default=default, help=text)
        if "choices" in argument and argument.get("nargs") in ("+", "*"):
            argument["metavar"] = "NAME"
        parser.add_argument(name, **argument)
