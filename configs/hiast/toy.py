# HIAST from clear to foggy streets, 64 x 128: a warm-up on the source, then two rounds.
# Loss weights, their normaliser, IAS and paste are the authors'; network, length, batch
# and rates are those of a small run. There is no adversarial warm-up (as in the
# specification's small experiment).
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_fog.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import cosine, optimizer, stage, staged
from pld_mmdet.recipes.segmentation import few_scenes, maps_table, pixelwise
from pld_mmdet.recipes.tables import row

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
experiment = maps_table(
    "hiast",
    row("source", "Source only", trivial=True),
    row("constant", "Self-training, constant threshold 0.9", *_shared, init="source"),
    row("hiast", "HIAST", *_shared, init="source"),
    row("ias", "IAS only (adaptive thresholds)", *_shared, init="source"),
    pixelwise(),
    classes=("human", "object", "vehicle"),
    reported="student of the last iteration, in fog",
)
walk = [
    "train_cfg.stages.0.max_iters=1",
    *few_scenes("train_dataloader.dataset.dataset"),
    *few_scenes(),
]
for _stage in ("train_cfg.stages.1", "train_cfg.stages.2"):
    walk += [
        f"{_stage}.max_iters=1",
        *few_scenes(f"{_stage}.dataloader.dataset.dataset"),
        *few_scenes(f"{_stage}.work_dataloader.dataset"),
    ]
