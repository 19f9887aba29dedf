"""What a stock config and checkpoint say about their detector."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from pld_mmdet.adaptation.unsuited import refuse_unsuited
from pld_mmdet.detection.detectors.stock import build_detector, num_classes
from pld_mmdet.detection.detectors.two_stage import require_softmax_head
from pld_mmdet.distill.adabn import batch_norms
from pld_mmdet.engine.config import configs
from pld_mmdet.engine.config.arguments import check_arguments
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.provenance import data_sets
from pld_mmdet.engine.state.weights import compare_classes, report_mismatch
from pld_mmdet.errors import UserError


@dataclass
class Detector:
    """A detector that can be adapted.

    Attributes:
        config: Its model config, without initial weights to download.
        name: Class name.
        kind: ``two-stage``, ``cascade``, ``one-stage`` or ``transformer``.
        head: ``softmax`` or ``sigmoid`` class scores.
        classes: Class names in the order of its outputs.
        batch_norms: Layers with running statistics.
        moving_norms: Those whose statistics moved while the detector was trained.
        layer_norm: Whether it has layer norm, as transformers do.
        masks: Whether it predicts masks.
        stages: Box heads in a row.
    """

    config: ConfigDict
    name: str
    kind: str
    head: str
    classes: tuple[str, ...]
    batch_norms: int
    moving_norms: int
    layer_norm: bool
    masks: bool
    stages: int = 1

    def sentence(self) -> str:
        """Kind, classes and norm in one line."""
        some = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        text = (
            f"{self.name} ({self.kind}), {len(self.classes)} classes ({some}), "
            f"{self.batch_norms or 'no'} batch-norm layers"
        )
        still = self.batch_norms - self.moving_norms
        return text + (f", {still} of which stood still in training" if still else "")


def read_config(path: str | Path) -> Config:
    """Read a stock config.

    Raises:
        UserError: It does not exist or has no detector.
    """
    return configs.read_config(path, model=True)


def read_detector(
    cfg: Config, checkpoint: str | Path, classes: list[str] | None = None
) -> Detector:
    """Build the detector, load the checkpoint strictly, find the class names.

    Args:
        cfg: Stock config.
        checkpoint: Weights of that detector, plain.
        classes: Names to use when neither checkpoint nor config has them. They are
            no order that could be chosen: that of the detector's outputs is fixed.

    Raises:
        UserError: The checkpoint does not fit, or class names are missing or differ.
    """
    model = ConfigDict(copy.deepcopy(cfg.model))
    refuse_unsuited(model)
    model = model.get("detector", model)  # the config of an earlier adaptation
    pretrained = _pretrained_statistics(model)
    prepare_model(model)
    content = load_checkpoint_file(checkpoint)
    state = content.get("state_dict", content)
    if any(key.startswith("teacher.") for key in state):
        raise UserError(
            f"{checkpoint} holds a teacher and a student.",
            f"python tools/export.py {checkpoint} detector.pth   then adapt "
            "detector.pth.",
        )
    network = _built(model)
    report_mismatch(network, state, str(checkpoint))
    moving = moving_norms(network, state, pretrained)
    keep_statistics(model)
    names = _class_names(cfg, content, network, str(checkpoint), classes)
    return Detector(
        config=model,
        name=type(network).__name__,
        classes=names,
        batch_norms=len(batch_norms(network)),
        moving_norms=moving,
        layer_norm=any(isinstance(m, nn.LayerNorm) for m in network.modules()),
        masks=bool(getattr(network, "with_mask", False)),
        **_kind(network),
    )


def _built(model: ConfigDict) -> nn.Module:
    check_arguments(Config(dict(default_scope="mmdet", model=model)))
    try:
        return build_detector(model)
    except UserError:
        raise
    except Exception as error:  # anybody's code: all kinds
        said = str(error).strip().splitlines()
        words = f"{type(error).__name__}{f': {said[0]}' if said else ''}"
        raise UserError(
            f"The {model.get('type')} of the config cannot be built: {words}.",
            "Install what it needs, and name the modules that register its parts in "
            "custom_imports of the config.",
        ) from error


def prepare_model(model: ConfigDict) -> None:
    """Make a model config ready for adapting, in place.

    The weights come from the checkpoint, so nothing is downloaded. SyncBN, which needs
    a GPU and is the same thing in evaluation mode, becomes BN. A random resize of the
    whole batch goes (YOLOX): it would give the two views different sizes.
    """

    def visit(node) -> None:
        if isinstance(node, dict):
            init = node.get("init_cfg")
            if isinstance(init, dict) and init.get("type") == "Pretrained":
                node["init_cfg"] = None
            if node.get("type") == "SyncBN":
                node["type"] = "BN"
            if node.get("batch_augments"):
                node["batch_augments"] = [
                    a for a in node["batch_augments"] if "RandomResize" not in a["type"]
                ]
            for value in node.values():
                visit(value)
        elif isinstance(node, list | tuple):
            for value in node:
                visit(value)

    visit(model)
    if "initial_epoch" in (model.get("train_cfg") or {}):
        model.train_cfg.initial_epoch = (
            0  # TOOD: a trained detector is past its warm-up
        )
    if model.get("init_cfg") and model.init_cfg.get("type") == "Pretrained":
        model.init_cfg = None


def keep_statistics(model: ConfigDict) -> None:
    """Let batch norm keep its statistics in training, in place.

    Only AdaBN changes them; ``norm_eval`` of the wrapper sees to necks, heads and
    backbones without the option.
    """
    if isinstance(model, dict):
        if "norm_eval" in model:
            model["norm_eval"] = True
        for value in model.values():
            keep_statistics(value)
    elif isinstance(model, list | tuple):
        for value in model:
            keep_statistics(value)


def moving_norms(
    network: nn.Module, state: dict, pretrained: dict | None = None
) -> int:
    """How many batch norms followed the source's images while it was trained.

    Told by the network itself in training mode (``norm_eval``, ``frozen_stages``,
    ``requires_grad=False``), and by statistics that still are those of the pretrained
    file.

    Args:
        network: As the source's config builds it.
        state: The source's weights.
        pretrained: Running means of that file, if it is there.
    """
    training = network.training
    network.train()
    names = {module: name for name, module in network.named_modules()}
    moving = 0
    for layer in batch_norms(network):
        still = not layer.training
        still |= layer.affine and not layer.weight.requires_grad
        key = f"{names[layer]}.running_mean"
        theirs = (pretrained or {}).get(key.removeprefix("backbone."))
        if theirs is not None and key in state:
            still |= torch.equal(theirs, state[key])
        moving += not still
    network.train(training)
    return moving


def _pretrained_statistics(model: ConfigDict) -> dict | None:
    """Running means of the backbone's pretrained file, where it lies on this disk."""
    init = (model.get("backbone") or {}).get("init_cfg") or {}
    path = init.get("checkpoint") if isinstance(init, dict) else None
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    content = load_checkpoint_file(path)
    state = content.get("state_dict", content)
    prefix = init.get("prefix") or ""
    return {
        key.removeprefix(prefix).removeprefix(".").removeprefix("backbone."): value
        for key, value in state.items()
        if key.endswith("running_mean")
    }


def _kind(network: nn.Module) -> dict:
    if getattr(network, "with_rpn", False) and hasattr(network, "roi_head"):
        heads = network.roi_head.bbox_head
        cascade = isinstance(heads, nn.ModuleList)
        last = heads[-1] if cascade else heads
        sigmoid = getattr(last.loss_cls, "use_sigmoid", False)
        return dict(
            kind="cascade" if cascade else "two-stage",
            head="sigmoid" if sigmoid else "softmax",
            stages=len(heads) if cascade else 1,
        )
    transformer = hasattr(network, "encoder") and hasattr(network, "decoder")
    head = getattr(network, "bbox_head", None)
    loss = getattr(head, "loss_cls", None)
    # SSD's head has no loss module; it says so itself.
    sigmoid = getattr(head, "use_sigmoid_cls", getattr(loss, "use_sigmoid", True))
    return dict(
        kind="transformer" if transformer else "one-stage",
        head="sigmoid" if sigmoid else "softmax",
    )


def _class_names(
    cfg: Config,
    content: dict,
    network: nn.Module,
    source: str,
    given: list[str] | None,
) -> tuple[str, ...]:
    meta = content.get("meta") or {}
    info = meta.get("dataset_meta") or {}
    theirs = info.get("classes", info.get("CLASSES", meta.get("CLASSES")))
    theirs = (theirs,) if isinstance(theirs, str) else tuple(theirs or ())
    ours, explicit = _config_classes(cfg)
    if explicit:
        compare_classes(ours, theirs, source)
    if given:
        _refuse_other_names(tuple(given), theirs, ours, explicit, source)
    names = tuple(given or ()) or theirs or ours
    outputs = num_classes(network)
    if len(names) != outputs:
        where = (
            "--classes names"
            if given
            else f"{source} names"
            if theirs
            else "the config's data set names"
            if ours
            else "no class name is known: neither the checkpoint nor the config has"
        )
        count = f" {len(names)}" if names else " any"
        raise UserError(
            f"The detector has {outputs} classes, but {where}{count}.",
            "Give the names in the order of its outputs: --classes NAME NAME ...",
        )
    return names


def _refuse_other_names(
    given: tuple[str, ...],
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    explicit: bool,
    source: str,
) -> None:
    """Refuse ``--classes`` that rename or reorder outputs whose names are known.

    Names that only the type of the data set has are no more than a default, so others
    may take their place; the same ones in another order are an exchange.
    """
    known, where = (theirs, source) if theirs else (ours, "the config's data set")
    exchanged = sorted(given) == sorted(known)
    if not known or given == known or not (theirs or explicit or exchanged):
        return
    pairs = enumerate(zip(given, known, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), None)
    said = (
        f"{len(given)} names, not {len(known)}"
        if at is None
        else f"{given[at]!r} where {where} has {known[at]!r} (class {at})"
    )
    raise UserError(
        f"--classes gives {said}: the detector's outputs would go by other names.",
        "Leave --classes out; if its outputs are others, say so in the config: "
        "metainfo=dict(classes=...) of its data sets.",
    )


def _config_classes(cfg: Config) -> tuple[tuple[str, ...], bool]:
    """Class names of the config's data set, and whether the config itself says them."""
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        inner = data_sets((cfg.get(loader) or {}).get("dataset"))
        dataset = next(iter(inner), {})
        names = (dataset.get("metainfo") or {}).get("classes")
        if names:
            return ((names,) if isinstance(names, str) else tuple(names)), True
        if "type" in dataset:
            from mmdet.registry import DATASETS

            with DATASETS.switch_scope_and_registry("mmdet") as registry:
                kind = registry.get(dataset["type"])
            names = getattr(kind, "METAINFO", {}).get("classes", ())
            if names:
                return tuple(names), False
    return (), False


def require_method(detector: Detector, method: str, stage: int = -1) -> None:
    """Refuse a method that this detector has nothing for, and say why.

    Raises:
        UserError: With the method that works instead.
    """
    if method == "adabn" and not detector.batch_norms:
        raise UserError(
            f"{detector.name} has no batch norm to adapt: its normalisation keeps no "
            "statistics of the source's images, so AdaBN would change nothing.",
            "Use --method mean_teacher"
            + (" or lpld." if detector.kind in ("two-stage", "cascade") else "."),
        )
    if method == "lpld":
        if detector.kind not in ("two-stage", "cascade"):
            raise UserError(
                "LPLD mines low-confidence region proposals: class-free candidate "
                "boxes, each with a feature vector and a softmax over classes and "
                f"background. {detector.name} is a {detector.kind} detector and has no "
                "proposals.",
                "Use --method mean_teacher, which adapts any detector.",
            )
        if not -detector.stages <= stage < detector.stages:
            raise UserError(
                f"Stage {stage} does not exist: {detector.name} has "
                f"{detector.stages} box heads.",
                f"Choose --stage 0 to {detector.stages - 1}, or -1 for the last.",
            )
        require_softmax_head(build_detector(detector.config), "LPLD", cascade=True)
