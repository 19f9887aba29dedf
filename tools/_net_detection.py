"""The lines of tools/net.py that need images, which are drawn here."""

import copy
import json
from pathlib import Path

CLASSES = (
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
SIZE = (192, 96)  # width, height of the drawn images
STEPS = 5


def draw(folder: Path, classes: tuple) -> None:
    """Eight images with three boxes each, and labels.json with candidates' columns."""
    import cv2
    import numpy as np

    rng = np.random.RandomState(0)
    width, height = SIZE
    images, annotations = [], []
    for n in range(8):
        image = rng.randint(0, 60, (height, width, 3)).astype(np.uint8)
        images.append(dict(id=n, file_name=f"{n}.png", width=width, height=height))
        for k in range(3):
            w, h = (int(v) for v in rng.randint(24, 56, 2))
            x, y = int(rng.randint(0, width - w)), int(rng.randint(0, height - h))
            label = (3 * n + k) % len(classes)
            colour = [int(v) for v in rng.randint(80, 256, 3)]
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
            row = dict(id=3 * n + k, image_id=n, category_id=label + 1, iscrowd=0)
            row.update(bbox=[x, y, w, h], area=w * h)
            if classes[label] in ("bus", "train", "motorcycle"):
                score = 0.9 + 0.01 * k
                row.update(thing_isBase=False, confidence=score, clip_score=score)
            annotations.append(row)
        cv2.imwrite(str(folder / f"{n}.png"), image)
    categories = [dict(id=n + 1, name=name) for n, name in enumerate(classes)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / "labels.json").write_text(json.dumps(content))


def retarget(tree, folder: Path) -> None:
    """Point every data set, metric and hook of a config to the drawn images."""
    if isinstance(tree, list | tuple):
        for value in tree:
            retarget(value, folder)
    if not isinstance(tree, dict):
        return
    new = dict(
        data_root=f"{folder}/",
        ann_file=str(folder / "labels.json"),
        pattern="*.png",
        num_workers=0,
        persistent_workers=False,
    )
    for key, value in new.items():
        if key in tree:
            tree[key] = value
    if tree.get("type") == "RandomChoiceResize":
        tree["scales"] = [SIZE, (224, 112)]
    if isinstance(tree.get("scale"), list | tuple) and len(tree["scale"]) == 2:
        tree["scale"] = SIZE
    for value in tree.values():
        retarget(value, folder)


def classes_of(tree) -> tuple | None:
    """The class names that the first data set of a config is given."""
    if isinstance(tree, dict):
        if tree.get("metainfo"):
            return tuple(tree["metainfo"]["classes"])
        tree = list(tree.values())
    if not isinstance(tree, list | tuple):
        return None
    return next(filter(None, map(classes_of, tree)), None)


def spread(model, batches: list, settle: bool = False) -> None:
    """Random class scores of which some pass a threshold, alike in both networks.

    Args:
        model: What ``test_step`` is called of.
        batches: Of the data that scores are spread over.
        settle: First take the batches' statistics for batch norm's.
    """
    import torch
    from torch import nn

    if settle:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            for batch in batches:
                data = model.data_preprocessor(copy.deepcopy(batch), False)
                model.train().extract_feat(data["inputs"])
    heads = {n: m for n, m in model.named_modules() if n.endswith("fc_cls")}
    seen: dict[str, list] = {name: [] for name in heads}
    taps = [
        module.register_forward_pre_hook(
            lambda m, inputs, name=name: seen[name].append(inputs[0].detach())
        )
        for name, module in heads.items()
    ]
    training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model.test_step(copy.deepcopy(batch))
    model.train(training)
    for tap in taps:
        tap.remove()
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, inputs in seen.items():
        if inputs and isinstance(heads[name], nn.Linear):
            shape = heads[name].weight.shape
            weight = torch.randn(shape, generator=generator)
            logits = torch.cat(inputs) @ weight.T
            std, mean = logits.std(0), logits.mean(0)
            found[name.partition("roi_head")[2]] = weight * 2 / std[:, None], mean, std
    with torch.no_grad():
        for name, module in heads.items():
            place = name.partition("roi_head")[2]
            if place in found:
                weight, mean, std = found[place]
                module.weight.copy_(weight)
                module.bias.copy_(-mean * 2 / std)
            else:
                for parameter in module.parameters():
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(noise * 3)
        for name, module in model.named_modules():
            leaf = name.partition("bbox_head.")[2]
            sigmoid = "cls" in leaf and not {"fc_cls", "convs"} & {leaf[-6:], leaf[4:9]}
            if sigmoid and isinstance(module, nn.Linear | nn.Conv2d):
                generator.manual_seed(2)
                noise = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(noise * 0.5)
                module.bias.zero_()


def runner(config: str, folder: Path, root: Path, detector=None, **options):
    """A detection method's toy config from random weights on the drawn images.

    Args:
        config: Below ``configs/``.
        folder: Scratch.
        root: The checkout.
        detector: Makes another detector's config.
        options: Keys of ``model``.
    """
    from mmengine.config import Config
    from mmengine.hooks import Hook

    class Start(Hook):
        def before_train(self, runner):  # the weights are there, and AdaBN is done
            spread(runner.model, scored)

    cfg = Config.fromfile(root / f"configs/{config}.py")
    draw(folder, classes_of(cfg.test_dataloader))
    retarget(cfg._cfg_dict, folder)
    cfg.model.update(options)
    if detector is not None:
        cfg.model.detector = detector(root)
    test_data = copy.deepcopy(cfg.test_dataloader)
    test_data.sampler = dict(type="DefaultSampler", shuffle=False)
    cfg.load_from, cfg.param_scheduler = None, []
    if "max_iters" in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    for hook in cfg.custom_hooks:
        for key in set(hook) & {"interval", "begin"}:
            hook[key] = 1
        for key in set(hook) & {"num_images"}:
            hook[key] = 8
        if "candidates" in hook:  # the drawn ones do not say what they hide
            hook.candidates = False
    cfg.work_dir, cfg.log_level = str(folder / "run"), "ERROR"
    cfg.randomness.seed = 0
    from pld_mmdet.cli import build_runner

    run = build_runner(cfg)
    run.register_hook(Start(), priority="LOWEST")
    scored = list(run.build_dataloader(test_data))
    return run


def cascade(root: Path) -> dict:
    """The small Cascade R-CNN."""
    return _source(root, "_cascade")


def retinanet(root: Path) -> dict:
    """The small RetinaNet."""
    return _source(root, "_retinanet")


def _source(root: Path, kind: str = "") -> dict:
    from mmengine.config import Config

    return Config.fromfile(root / f"configs/source/foggy_streets{kind}.py").model


def detr(root: Path) -> dict:
    """A Deformable DETR on the small detector's backbone."""
    small = _source(root)
    dims, levels = 16, 3
    backbone = dict(small.backbone, out_indices=(1, 2, 3))
    attention = dict(embed_dims=dims, num_heads=2, dropout=0.0, batch_first=True)
    deformable = dict(
        embed_dims=dims, num_heads=2, num_levels=levels, num_points=2, batch_first=True
    )
    ffn = dict(embed_dims=dims, feedforward_channels=32, ffn_drop=0.0)
    costs = [
        dict(type="FocalLossCost", weight=2.0),
        dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
        dict(type="IoUCost", iou_mode="giou", weight=2.0),
    ]
    return dict(
        type="DeformableDETR",
        num_queries=12,
        num_feature_levels=levels,
        with_box_refine=False,
        as_two_stage=False,
        data_preprocessor=small.data_preprocessor,
        backbone=backbone,
        neck=dict(
            type="ChannelMapper",
            in_channels=[32, 64, 128],
            kernel_size=1,
            out_channels=dims,
            act_cfg=None,
            norm_cfg=dict(type="GN", num_groups=4),
            num_outs=levels,
        ),
        encoder=dict(
            num_layers=1, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)
        ),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=deformable, ffn_cfg=ffn
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(num_feats=dims // 2, normalize=True, offset=-0.5),
        bbox_head=dict(
            type="DeformableDETRHead",
            num_classes=len(CLASSES),
            embed_dims=dims,
            sync_cls_avg_factor=True,
            loss_cls=dict(
                type="FocalLoss",
                use_sigmoid=True,
                gamma=2.0,
                alpha=0.25,
                loss_weight=1.0,
            ),
            loss_bbox=dict(type="L1Loss", loss_weight=5.0),
            loss_iou=dict(type="GIoULoss", loss_weight=2.0),
        ),
        train_cfg=dict(assigner=dict(type="HungarianAssigner", match_costs=costs)),
        test_cfg=dict(max_per_img=10),
    )


def adapt(folder: Path, root: Path, iterations: int) -> tuple[dict, list[dict]]:
    """tools/adapt.py from Python: LPLD on the drawn images."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import pld_mmdet

    (folder / "images").mkdir()
    draw(folder / "images", CLASSES)
    cfg = Config.fromfile(root / "configs/source/foggy_streets.py")
    retarget(cfg._cfg_dict, folder / "images")
    cfg.dump(folder / "stock.py")
    init_default_scope("mmdet")
    from mmdet.registry import MODELS
    from mmengine.runner import Runner

    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    network.init_weights()
    loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    spread(network, list(loader), settle=True)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / "source.pth")
    pld_mmdet.adapt(
        folder / "stock.py",
        folder / "source.pth",
        folder / "images",
        val=folder / "images/labels.json",
        out=folder / "out",
        threshold=0.3,
        iterations=iterations,
        evaluations=2,
        score_images=4,
        workers=0,
    )
    saved = torch.load(folder / "out/adapted.pth", weights_only=True)["state_dict"]
    outcome = json.loads((folder / "out/report.json").read_text())["outcome"]
    return dict(saved), outcome["history"]
