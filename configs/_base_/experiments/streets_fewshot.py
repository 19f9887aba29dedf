# Few-shot detection and learning at test time; see docs/ps_ttl.md. The run's seed also
# draws the shots. Rows at 1 and 5 shots: the frozen detector and the method.
_base_ = []
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row, table

_shots = "annotations/fewshot/streets_{k}shot_seed{seed}.json"
_train = "train_dataloader.dataset.dataset.ann_file="
_support = "train_cfg.support_dataloader.dataset.dataset.ann_file="
_no_val = "train_cfg.val_begin=1000000"
_quick = ["train_cfg.max_iters=12"]
_extend = (
    "python tools/make_fewshot.py extend {init} {out} --overwrite --seed {seed} "
    "--classes data/foggy_streets/annotations/fewshot/streets_3shot_seed0.json"
)


def _frozen(k, title):
    return row(
        f"frozen_{k}shot",
        title,
        _train + _shots.replace("{k}", str(k)),
        _no_val,
        config=f"configs/defrcn/streets_{k}shot.py",
        init="base",
        prepare=_extend,
        evaluate=dict(online=None),
        quick=_quick,
        seconds=70,
    )


def _online(k, title, name="ps_ttl", suffix="", second_pass=False):
    return row(
        f"{name}_{k}shot",
        title,
        _support + _shots.replace("{k}", str(k)),
        config=f"configs/ps_ttl/streets_{k}shot{suffix}.py",
        init=f"frozen_{k}shot",
        online="online",
        evaluate=dict(second_pass=None) if second_pass else {},
        seconds=100,
    )


experiment = table(
    "streets_fewshot",
    row(
        "base",
        "Base detector (6 classes)",
        _no_val,
        config="configs/defrcn/streets_base.py",
        evaluate={},
        quick=_quick,
    ),
    _frozen(3, "3 shots: frozen"),
    _online(3, "3 shots: support set only", "support_only", "_support_only"),
    _online(3, "3 shots: known boxes only", "known_only", "_known_only"),
    _online(3, "3 shots: PS-TTL, no support loss", "no_support", "_no_support"),
    _online(3, "3 shots: PS-TTL", second_pass=True),
    _frozen(1, "1 shot: frozen"),
    _online(1, "1 shot: PS-TTL"),
    _frozen(5, "5 shots: frozen"),
    _online(5, "5 shots: PS-TTL"),
    data=[
        "python tools/prepare.py foggy_streets",
        "python tools/make_fewshot.py streets --shots 1 3 5",
    ],
    seed_data="python tools/make_fewshot.py streets --shots 1 3 5 --seed {seed}",
    quick=quick_streets(96, others=1, per_seed=True),
    metric="coco/AP50_novel",
    columns={
        "novel": ("online", "coco/AP50_novel"),
        "base": ("online", "coco/AP50_base"),
        "all": ("online", "coco/AP50"),
        "novel, second pass": ("second_pass", "coco/AP50_novel"),
        "all, second pass": ("second_pass", "coco/AP50"),
    },
    reported="teacher, online: each image before it is learnt from",
)
