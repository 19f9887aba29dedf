# Learning on a stream of 2,000 images, ten shots of sparse scenes (docs/lab/ps_ttl.md).
# The seed also draws the shots. Runs from configs/ps_ttl/streets_stream_10shot.py.
_base_ = "../../ps_ttl/streets_3shot.py"
from pld_mmdet.recipes.tables import table

_root = "data/foggy_streets_stream"
_shots = "annotations/fewshot/streets_10shot_seed{seed}.json"
_support = "train_cfg.support_dataloader.dataset.dataset.ann_file=" + _shots
_quick = ["train_cfg.max_iters=12", "expected_counts=None"]


def _online(name, title, *options):
    return dict(
        name=name,
        title=title,
        config="configs/ps_ttl/streets_stream_10shot.py",
        init="frozen",
        options=[_support, *options],
        online="online",
        evaluate={},
        seconds=900,
    )


def _gate(title, row, metric, at_least, **more):
    return dict(
        title=title, row=row, on="gate", metric=metric, at_least=at_least, **more
    )


experiment = table(
    "streets_stream",
    dict(
        name="base",
        title="Base detector (6 classes)",
        config="configs/defrcn/streets_stream_base.py",
        options=["train_cfg.val_begin=1000000"],
        evaluate=dict(gate="configs/gates/streets_stream_base.py"),
        quick=_quick,
        seconds=3000,
    ),
    dict(
        name="frozen",
        title="10 shots: frozen",
        config="configs/defrcn/streets_stream_10shot.py",
        init="base",
        prepare="python tools/make_fewshot.py extend {init} {out} --overwrite --seed "
        f"{{seed}} --classes {_root}/annotations/fewshot/streets_10shot_seed0.json",
        options=[
            "train_dataloader.dataset.dataset.ann_file=" + _shots,
            "train_cfg.val_begin=1000000",
        ],
        evaluate=dict(online=None, gate="configs/gates/streets_stream.py"),
        quick=_quick,
        seconds=600,
    ),
    _online("known_only", "Known boxes only", "model.unknown_threshold=0.9"),
    _online("ignored", "Known boxes; the others ignored", "model.ignore_unknown=True"),
    _online("ps_ttl", "PS-TTL, as released"),
    _online(
        "support",
        "PS-TTL with the support loss",
        "model.sup_weight=1.0",
        "train_cfg.merge_support=True",
    ),
    _online(
        "support_only",
        "Support set only",
        "model.sup_weight=1.0",
        "train_cfg.merge_support=True",
        "model.unsup_weight=0.0",
    ),
    _delete_=True,
    data=[
        f"python tools/prepare.py foggy_streets --root {_root} --train 5000 --val 200 "
        "--test 2000",
        f"python tools/make_fewshot.py streets --root {_root} --shots 10 "
        "--most-objects 3",
    ],
    data_seconds=1800,
    seed_data=f"python tools/make_fewshot.py streets --root {_root} --shots 10 "
    "--most-objects 3 --seed {seed}",
    quick=dict(
        data_args=[
            "--train 300 --val 16 --test 16 --root data/foggy_streets_quick_stream",
            "--root data/foggy_streets_quick_stream --most-objects 20",
        ],
        seed_data_args="--root data/foggy_streets_quick_stream --most-objects 20",
        data_root=(f"{_root}/", "data/foggy_streets_quick_stream/"),
    ),
    metric="coco/AP50",
    columns={
        "novel": ("online", "coco/AP50_novel"),
        "base": ("online", "coco/AP50_base"),
        "all": ("online", "coco/AP50"),
    },
    gates=[
        _gate("Base AP50 on val", "base", "coco/AP50", 0.6),
        _gate(
            "Base AP50 that the K-shot step leaves",
            "frozen",
            "coco/AP50_base",
            0.8,
            over="base",
            over_metric="coco/AP50",
        ),
        _gate("Novel AP50 on val", "frozen", "coco/AP50_novel", 0.2),
        _gate("Boxes above 0.9, precision", "frozen", "boxes/precision@0.9", 0.8),
        _gate("Boxes above 0.9 an image", "frozen", "boxes/per_image@0.9", 0.3),
        _gate(
            "Boxes of 0.5 to 0.9 on an object", "frozen", "boxes/on_object@0.5-0.9", 0.6
        ),
    ],
    reported="teacher, online: each image before it is learnt from",
)
