# iCT on a ring of eight Gaussians. s1 is 160 instead of 1280, so that each N lives as
# large a part of these 2400 steps as in the paper's 400 000.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/gaussian_ring.py"]

from pld_mmdet.recipes import iterations, optimizer
from pld_mmdet.recipes.tables import in_parts, row, table

model = dict(
    type="pld_mmdet.ICT",
    network=dict(type="pld_mmdet.TimeMLP", dim=2, width=128, depth=3),
    s0=10,
    s1=160,
)
train_cfg = iterations(2400, val_interval=1200)
optim_wrapper = optimizer("RAdam", 1e-3)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.995),  # for evaluation only
    dict(type="pld_mmdet.KeptSamplesHook"),
]
two = dict(one=["model.steps=1"], two=["model.steps=2"])
# released consistency training, on the same grid
ct = ["model.distance=l2", "model.law=uniform", "model.weighting=uniform"]
experiment = table(
    "ict",
    row("ct", "Consistency training", *ct, "model.target=ema", evaluate=two),
    row("ct_self", "... without the averaged target", *ct, evaluate=two),
    row("ict", "iCT", evaluate=two),
    row("element", "iCT, Huber by element", "model.distance=element", evaluate=two),
    row("ema", "iCT, averaged target", "model.target=ema", evaluate=two),
    # it takes no steps: both columns hold its one number
    row("gaussian", "One Gaussian", baseline="gaussian", evaluate=dict.fromkeys(two)),
    metric="energy_distance",
    percent=False,
    lower_is_better=True,
    reported="average of the generator",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.points", label="one"),
    columns={
        "1 step": ("one", "energy_distance"),
        "2 steps": ("two", "energy_distance"),
    },
)
walk = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=16",
    *in_parts("dataset.size=64", "train", "val", "test"),
]
