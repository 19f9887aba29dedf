"""Label-free scores of saved checkpoints, and what they are worth against AP50."""

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope
from mmengine.runner import Runner

from pld_mmdet.adaptation.compose import SCORE_TYPES, pack_keys, strong_view
from pld_mmdet.detection.loops.scored_val import read_history, score_detector
from pld_mmdet.engine.config.data_files import read_dump
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from pld_mmdet.waiting import counted

AP = "coco/AP50"
SCORES = ("agreement", "box_stability", "das")


def score_run(
    run: Path, images: int = 32, split: str | None = "val"
) -> list[dict[str, float]]:
    """Scores (and AP50) of every checkpoint of a run, sorted by iteration.

    Args:
        run: Work dir with ``config.py``; a config of adapt.py or of a method.
        images: Images that the scores look at, evenly spaced over the training set.
        split: ``val`` or ``test`` for AP50; None leaves it out.

    Returns:
        One dict a checkpoint: ``checkpoint``, ``iter``, the scores, ``coco/AP50``, and
        ``das_run``, the published DAS over this run's checkpoints.

    Raises:
        UserError: There is no config or no checkpoint.
    """
    if not (run / "config.py").is_file():
        raise UserError(f"{run} holds no config.py.", "Name the work dir of a run.")
    import_mmdet()
    cfg = read_dump(run / "config.py", build=True)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    numbered = sorted(
        (int(m.group(1)), path)
        for path in run.glob("iter_*.pth")
        if (m := re.fullmatch(r"iter_(\d+)\.pth", path.name))
    )
    if not numbered:
        raise UserError(f"{run} holds no iter_*.pth.", "Name a run with checkpoints.")
    model = MODELS.build(ConfigDict(cfg.model))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    loader = Runner.build_dataloader(_score_loader(cfg, images), seed=0)
    scores = [METRICS.build(dict(type=f"pld_mmdet.{SCORE_TYPES[s]}")) for s in SCORES]
    rows = []
    for iteration, path in counted(numbered, len(numbered), "checkpoints scored"):
        content = load_checkpoint_file(path)
        report_mismatch(model, content.get("state_dict", content), str(path))
        detector = getattr(model, "result", model)
        with own_randomness(0, 3, 0):
            values = score_detector(detector, loader, scores)
        row = dict(checkpoint=str(path), iter=iteration, **values)
        if split is not None and cfg.get(f"{split}_evaluator"):
            row[AP] = _measure(cfg, model, split)
        rows.append(row)
    add_published_das(rows)
    return rows


def recorded_run(run: Path) -> list[dict[str, float]]:
    """The evaluations that a run of adapt.py made of itself, as :func:`score_run`.

    Nothing is computed again; checkpoints that are gone by now are counted too.

    Args:
        run: Work dir with ``scores.jsonl``.

    Raises:
        UserError: There is none.
    """
    history = read_history(run)
    if not history:
        raise UserError(
            f"{run} holds no scores.jsonl with an evaluation.",
            "Name the --out of an adapt.py run, or leave --recorded out.",
        )
    rows = []
    for line in history:
        scores = {
            name.partition("/")[2]: value
            for name, value in line.items()
            if name.startswith("label_free/")
        }
        row = dict(checkpoint=f"{run}/iter_{line['iter']}.pth", iter=line["iter"])
        if AP in line:
            scores[AP] = line[AP]
        rows.append(row | scores)
    add_published_das(rows)
    return rows


def add_published_das(rows: list[dict]) -> None:
    """Add ``das_run``: FIS and PDR normalised over the rows, then added.

    Rows whose FIS or PDR could not be formed get NaN.
    """
    from pld_mmdet.detection.evaluation.scores.das import das_of_run

    has_pdr = any("das_pdr" in row for row in rows)
    pdr = [row.get("das_pdr", math.nan) for row in rows] if has_pdr else []
    values = das_of_run([row.get("das_fis", math.nan) for row in rows], pdr)
    for row, value in zip(rows, values, strict=True):
        row["das_run"] = value


def _score_loader(cfg: Config, images: int) -> dict:
    """The run's own unlabelled images with a weak and a strong view."""
    dataset = copy.deepcopy(cfg.train_dataloader.dataset)
    inner = dataset
    while "dataset" in inner:
        inner = inner.dataset
    if inner.type.rpartition(".")[2] != "ImageFolder":
        raise UserError(
            f"The run trains on a {inner.type}, not on an image folder.",
            "Label-free scores are made for runs of adapt.py, lpld and mean_teacher.",
        )
    pack = dict(type="PackDetInputs", meta_keys=pack_keys(inner.pipeline))
    last = ("MultiBranch", "PackDetInputs", "RandomFlip")  # scores see no flip
    inner.pipeline = [
        *(s for s in inner.pipeline if s.type.rpartition(".")[2] not in last),
        dict(
            type="MultiBranch",
            branch_field=["weak", "strong"],
            weak=[pack],
            strong=[*strong_view(), pack],
        ),
    ]
    count = len(DATASETS.build({**inner, "pipeline": []}))
    chosen = min(images, count)
    inner.indices = [i * count // chosen for i in range(chosen)]
    return dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dataset,
    )


@torch.no_grad()
def _measure(cfg: Config, model, split: str) -> float:
    from mmengine.evaluator import Evaluator

    loader_cfg = copy.deepcopy(cfg[f"{split}_dataloader"])
    loader_cfg.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    evaluator = Evaluator(copy.deepcopy(cfg[f"{split}_evaluator"]))
    evaluator.dataset_meta = loader.dataset.metainfo
    for batch in loader:
        evaluator.process(model.val_step(batch), batch)
    return float(evaluator.evaluate(len(loader.dataset))[AP])


def correlations(runs: dict[str, list[dict]]) -> list[dict]:
    """Rank correlation of each score with AP50, run by run and over all checkpoints.

    Args:
        runs: From :func:`score_run`.

    Returns:
        Dicts with ``score``, ``run`` (``all`` for the pool), ``spearman`` and ``lost``:
        AP50 of the best checkpoint minus that of the one the score picks. Rows without
        AP50 and scores that are not finite are left out; fewer than two rows give none.
    """
    pools = dict(runs)
    if len(runs) > 1:
        pools["all"] = [row for rows in runs.values() for row in rows]
    lines = []
    for run, rows in pools.items():
        measured = any(AP in row for row in rows)
        known = dict.fromkeys(n for row in rows if measured for n in row)
        names = [n for n in known if n not in ("checkpoint", "iter", AP)]
        for name in names:
            pairs = [
                (row[name], row[AP])
                for row in rows
                if AP in row and math.isfinite(row.get(name, math.nan))
            ]
            if len(pairs) < 2:
                continue
            values, truth = zip(*pairs, strict=True)
            picked = max(pairs, key=lambda pair: pair[0])[1]
            lines.append(
                dict(
                    score=name,
                    run=run,
                    spearman=spearman(values, truth),
                    lost=max(row[AP] for row in rows) - picked,
                )
            )
    return lines


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, ties with their mean rank; 0 if one is constant.

    Examples:
        >>> spearman([1, 2, 3], [10, 30, 20])
        0.5
    """
    ranks = [_ranks(values) for values in (first, second)]
    a, b = (r - r.mean() for r in ranks)
    length = (a.square().sum() * b.square().sum()).sqrt()
    return round((a @ b / length).item(), 12) if length > 0 else 0.0


def _ranks(values: Sequence[float]) -> torch.Tensor:
    values = torch.tensor(values, dtype=torch.double)
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return below.double() + (equal.double() + 1) / 2
