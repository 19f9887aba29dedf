# HIAST from clear to foggy streets, 64 x 128: a warm-up on the source, then two rounds.
# Loss weights, their normaliser, IAS and paste are the authors'; network, length, batch
# and rates are those of a small run. There is no adversarial warm-up (as in the
# specification's small experiment).
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_fog.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import cosine, optimizer, pixelwise, row, stage, staged, table

model = dict(
    type="pld_mmdet.HIAST",
    segmentor=_base_.segmentor,
    alpha=0.5,
    beta=0.9,
    gamma=8.0,
    kld=0.1,
    ent=1.0,
    cst=0.5,
    per="element",
    adversarial=0.0,
    warm_entropy=0.0,
)
custom_hooks = [
    *_base_.custom_hooks,
    # 0.999 is an average over 1000 iterations; a round here has 60
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.98, buffers="copy"),
]
warm_up = stage("warm_up", 200, optim=optimizer("AdamW", 5e-3, weight_decay=0.01))
# the learning rate of both, and of every stage, falls to 0 within it
param_scheduler = [cosine(eta_min=0.0)]
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.01)
rounds = [
    stage(
        f"round_{number}", 60, data=_base_.round_dataloader, work=_base_.work_dataloader
    )
    for number in (1, 2)
]
train_cfg = staged(warm_up, *rounds)
# Under several processes: the rounds freeze what the warm-up trains.
find_unused_parameters = True
# The rows share one warm-up of each seed: `source` is it, the others start from it.
_shared = ["train_cfg.stages.0.max_iters=0"]
experiment = table(
    "hiast",
    row("source", "Source only", trivial=True),
    row("constant", "Self-training, constant threshold 0.9", *_shared, init="source"),
    row("hiast", "HIAST", *_shared, init="source"),
    row("ias", "IAS only (adaptive thresholds)", *_shared, init="source"),
    pixelwise(),
    metric="mIoU",
    columns={
        "mIoU": ("test", "mIoU"),
        "human": ("test", "IoU/human"),
        "object": ("test", "IoU/object"),
        "vehicle": ("test", "IoU/vehicle"),
    },
    data=_base_.how_to_get["data"],
    data_seconds=60,
    reported="student of the last iteration, in fog",
)
# For a quick look: one iteration a stage on a tree of a few scenes, which `walk_data`
# makes.
walk_data = (
    "python tools/prepare.py foggy_streets --root data/street_maps_walk --size 128x64 "
    "--train 12 --val 2 --test 2"
)
_walk_root = "data/street_maps_walk/"
walk = [
    "train_cfg.stages.0.max_iters=1",
    f"train_dataloader.dataset.dataset.data_root={_walk_root}",
    f"val_dataloader.dataset.data_root={_walk_root}",
    f"test_dataloader.dataset.data_root={_walk_root}",
    *(
        f"train_cfg.stages.{number}.{option}"
        for number in (1, 2)
        for option in (
            "max_iters=1",
            f"dataloader.dataset.dataset.data_root={_walk_root}",
            f"work_dataloader.dataset.data_root={_walk_root}",
        )
    ),
]
