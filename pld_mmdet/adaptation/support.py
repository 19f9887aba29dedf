"""Which stock detectors can be adapted? Found out by adapting each a little."""

import contextlib
import copy
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, ConfigDict

from pld_mmdet.adaptation.detector import prepare_model
from pld_mmdet.adaptation.unsuited import refuse_unsuited
from pld_mmdet.detection.detectors.stock import build_detector, num_classes
from pld_mmdet.engine.config.configs import unformatted
from pld_mmdet.errors import UserError

# Pixels of the images, before padding. What does not work on the small ones (a GMM on a
# handful of anchors, a kernel larger than the last map) is tried again on larger ones.
SIDES = (64, 320)
# Folders without a detector of their own: parts, weights, other tasks.
NO_DETECTORS = ("_base_", "common", "legacy_1.x", "dsdl", "selfsup_pretrain")
# The same detectors as in other folders, with another backbone, neck or data set.
VARIANTS = (
    "albu_example", "carafe", "cityscapes", "convnext", "dcn", "dcnv2", "deepfashion",
    "dyhead", "efficientnet", "empirical_attention", "fpg", "gcnet", "gn", "gn+ws",
    "groie", "hrnet", "instaboost", "lvis", "misc", "nas_fpn", "objects365",
    "openimages", "pafpn", "pascal_voc", "pvt", "regnet", "res2net", "resnest",
    "resnet_strikes_back", "scratch", "seesaw_loss", "simple_copy_paste",
    "strong_baselines", "swin", "timm_example", "v3det", "wider_face",
)  # fmt: skip


@dataclass
class Finding:
    """What became of one config.

    Attributes:
        config: Path below the folder of stock configs.
        detector: Class name; empty if it was not built.
        outcome: ``works``, ``refused`` (in a sentence) or ``failed`` (in a trace).
        methods: Methods that ran.
        words: The sentence of a refusal, or the last line of a trace.
        trace: The whole trace of a failure.
        seconds: Taken.
    """

    config: str
    detector: str = ""
    outcome: str = "failed"
    methods: tuple[str, ...] = ()
    words: str = ""
    trace: str = ""
    seconds: float = 0.0


def stock_configs() -> Path:
    """The folder of configs that comes with the installed mmdet."""
    import mmdet

    return Path(mmdet.__file__).parent / ".mim" / "configs"


def choose(root: Path, variants: bool = False) -> list[Path]:
    """One config of each kind: the shortest name of each first word, by folder.

    Args:
        root: Folder of stock configs.
        variants: Also those of :data:`VARIANTS`.
    """
    chosen = []
    left_out = NO_DETECTORS if variants else (*NO_DETECTORS, *VARIANTS)
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name in left_out:
            continue
        kinds: dict[str, Path] = {}
        paths = [p for p in folder.glob("*.py") if not p.stem.endswith("_tta")]
        for path in sorted(paths, key=lambda p: (len(p.name), p.name)):
            kinds.setdefault(path.stem.split("_")[0].split("-")[0], path)
        chosen += kinds.values()
    return chosen


def shrink(cfg: Config, side: int = SIDES[0]) -> Config:
    """Small images and, where the wiring is plain, an eighth of the channels.

    Args:
        cfg: Stock config; not changed.
        side: Of the images.
    """
    cfg = copy.deepcopy(cfg)
    backbone = str((cfg.model.get("backbone") or {}).get("type", ""))
    if not backbone.startswith("SSD"):  # it needs its 300 pixels
        _resize(cfg._cfg_dict, side)
    _let_boxes_through(cfg.model, few=side == SIDES[0])
    narrow = copy.deepcopy(cfg.model)
    if _narrow(narrow):
        # Only what still fits together: most wirings do, some do not.
        with contextlib.suppress(Exception):
            network = build_detector(_prepared(narrow)).eval()
            with torch.no_grad():
                network.extract_feat(torch.zeros(1, 3, SIDES[0], SIDES[0]))
            cfg.model = narrow
    return cfg


def _prepared(model: ConfigDict) -> ConfigDict:
    model = copy.deepcopy(model)
    prepare_model(model)
    return model


def _resize(node, side: int) -> None:
    """Every image size of a pipeline becomes a small one, in place."""
    if isinstance(node, dict):
        kind = str(node.get("type", "")).rpartition(".")[2]
        if kind in ("Resize", "FixScaleResize", "RandomResize") and "scale" in node:
            square = len(set(node["scale"])) == 1 if _pair(node["scale"]) else False
            node["scale"] = (side, side) if square else (side + 32, side)
        if kind == "Pad" and _pair(node.get("size")):
            node["size"] = (side, side)
        for value in node.values():
            _resize(value, side)
    elif isinstance(node, list | tuple):
        for value in node:
            _resize(value, side)


def _pair(value) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, int) for v in value)


def _let_boxes_through(model: ConfigDict, few: bool) -> None:
    """Random weights are sure of nothing: no score is too low, few boxes stay."""
    if model.get("num_queries", 0) > 50:  # more than small maps have places
        model.num_queries = 50
    for part, layers in (("encoder", 1), ("decoder", 2)):
        if (model.get(part) or {}).get("num_layers", 0) > layers:
            model[part].num_layers = layers
    for test in _dicts(model.get("test_cfg") or {}):
        if "score_thr" in test:
            test["score_thr"] = 0.0
    if not few:  # QueryInst wants as many detections as it has queries
        return
    for part in _dicts([model.get("train_cfg"), model.get("test_cfg")]):
        most = 64 if "nms_pre" in part else 10  # proposals, detections
        if part.get("max_per_img", 0) > most:
            part["max_per_img"] = most
        if part.get("num", 0) > 64:  # of a sampler
            part["num"] = 64


def _dicts(node) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _dicts(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _dicts(value)


def _narrow(model: ConfigDict) -> bool:
    """An eighth of a ResNet's channels, in place; False for other backbones."""
    backbone = model.get("backbone") or {}
    if backbone.get("type") == "HourglassNet":
        backbone.update(num_stacks=1, stage_blocks=[1] * 6)
        model.bbox_head.num_feat_levels = 1
        return True
    if backbone.get("type") not in ("ResNet", "ResNeXt", "mmdet.ResNet"):
        return False
    if backbone["type"] == "ResNeXt" or backbone.get("depth", 0) < 50:
        return False
    backbone["base_channels"] = 8
    if "stem_channels" in backbone:
        backbone["stem_channels"] = 8
    necks = model.get("neck") or {}
    for neck in necks if isinstance(necks, list) else [necks]:
        wide = neck.get("in_channels")
        if isinstance(wide, list | tuple) and max(wide) >= 1024:
            neck["in_channels"] = [channels // 8 for channels in wide]
        elif isinstance(wide, int) and wide >= 1024:
            neck["in_channels"] = wide // 8
    return True


def write_case(path: Path, out: Path, side: int) -> tuple[Path, Path, ConfigDict]:
    """Write a shrunk config and a checkpoint of random weights.

    Returns:
        Both files, and the model config.
    """
    from pld_mmdet.adaptation.detector import read_config

    cfg = read_config(path)
    refuse_unsuited(cfg.model)
    cfg = shrink(cfg, side)
    model = cfg.model.get("detector", cfg.model)
    prepared = _prepared(model)
    torch.manual_seed(0)
    network = build_detector(prepared)
    network.init_weights()
    _spread(network)
    out.mkdir(parents=True, exist_ok=True)
    config, checkpoint = out / "stock.py", out / "source.pth"
    cfg.dump(str(config))
    names = tuple(f"c{n}" for n in range(num_classes(network)))
    # Of the config where it says them, for they are compared.
    from pld_mmdet.adaptation.detector import _config_classes

    ours, _ = _config_classes(cfg)
    names = ours if len(ours) == len(names) else names
    meta = dict(dataset_meta=dict(classes=names))
    torch.save(dict(state_dict=network.state_dict(), meta=meta), checkpoint)
    return config, checkpoint, model


def _spread(network: torch.nn.Module) -> None:
    """Focal biases say "nothing is there"; without them some boxes are confident."""
    for name, parameter in network.named_parameters():
        if "cls" in name and name.endswith("bias") and parameter.min() < -2:
            torch.nn.init.zeros_(parameter)


def write_images(folder: Path, side: int, count: int = 2) -> Path:
    """Images of a few coloured rectangles."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        image = rng.integers(0, 60, (side, side + 32, 3), dtype=np.uint8)
        for _ in range(3):
            x, y = (int(v) for v in rng.integers(0, side - 32, 2))
            colour = rng.integers(80, 256, 3).tolist()
            cv2.rectangle(image, (x, y), (x + 28, y + 28), colour, -1)
        cv2.imwrite(str(folder / f"{n}.png"), image)
    return folder


def try_config(path: Path, root: Path, out: Path) -> Finding:
    """Adapt one stock config through :func:`pld_mmdet.adaptation.run.adapt`.

    LPLD where it takes the detector, which has Mean Teacher's losses and one more; else
    Mean Teacher. ``adapt`` itself tries a step without pseudo labels before it begins.
    """
    began = time.monotonic()
    for side in SIDES:
        found = Finding(str(path.relative_to(root)))
        place = out / str(side)
        try:
            with unformatted():
                said = _adapted(path, place, side)
            found.detector, found.methods, found.words = said
            found.outcome = "works"
            break
        except UserError as error:
            found.outcome, found.words = "refused", error.what
            if "by boxes" in error.what:  # by its config, so whatever the images are
                break
        except Exception as error:
            found.words = f"{type(error).__name__}: {error}".splitlines()[0]
            found.trace = traceback.format_exc()
    found.words = found.words.replace(f"{root}/", "").replace(f"{place}/", "")
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _adapted(path: Path, out: Path, side: int) -> tuple[str, tuple[str, ...], str]:
    """Detector, methods that took it, and why LPLD did not."""
    from pld_mmdet.adaptation.run import adapt

    config, checkpoint, model = write_case(path, out, side)
    methods = ("lpld", "mean_teacher") if "roi_head" in model else ("mean_teacher",)
    words = ""
    for method in methods:
        try:
            adapt(
                config,
                checkpoint,
                write_images(out / "images", side),
                method,
                out=out / method,
                iterations=1,
                batch=2,  # batch norm on a map of one pixel wants two
                evaluations=1,
                score_images=1,
                scores=("agreement",),
                threshold=1e-6,
                select="last",
                guard="off",
                workers=0,
                say=lambda text: None,
            )
        except UserError as error:
            if method == methods[-1]:
                raise
            words = error.what
        else:
            break
    return str(model.type).rpartition(".")[2], methods[methods.index(method) :], words


def try_all(
    paths: Sequence[Path], root: Path, out: Path, limit: float = 300.0
) -> Iterator[Finding]:
    """Each config in a process of its own, forked: nothing is imported twice.

    Args:
        paths: Configs.
        root: Folder that they are named below.
        out: Scratch folder.
        limit: Seconds after which a config has failed.
    """
    context = multiprocessing.get_context("fork")
    for number, path in enumerate(paths):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_child, args=(path, root, out / str(number), theirs)
        )
        process.start()
        theirs.close()
        try:
            answered = ours.poll(limit)
            found = ours.recv() if answered else None
        except EOFError:
            found = None
        if found is None:
            process.kill()
            words = f"no answer in {limit:g} s, or killed"
            found = Finding(str(path.relative_to(root)), words=words)
        process.join()
        yield found


def _child(path: Path, root: Path, out: Path, pipe) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # loggers hold streams of their own
        os.dup2(nowhere, stream)
    pipe.send(try_config(path, root, out))
    pipe.close()
