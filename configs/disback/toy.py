# DisBack on a ring of eight Gaussians. All rows of a seed have one teacher, which the
# first row trains; all take the steps of the stage `degrade`, also where nothing comes
# of it.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/gaussian_ring.py"]

from pld_mmdet.recipes import optimizer, parts, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

degrade, distill = 160, 800
model = dict(
    type="pld_mmdet.DisBack",
    process=dict(type="pld_mmdet.EDMProcess"),
    denoiser=dict(type="pld_mmdet.TimeMLP", dim=2, width=128, depth=3),
    # quarters of the way, by energy distance: most is lost in the first steps
    snapshots=(10, 25, 60, 160),
    node_steps=60,
)
train_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=4096, dataset=dict(size=4096))
part = dict(optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.01))
optim_wrapper = parts(generator=part, critic=part)
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("teacher", 0, optim=optimizer("Adam", 2e-3)),
    stage("degrade", degrade),
    stage("distill", distill),
    val_interval=40,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.KeptSamplesHook"),
    dict(type="pld_mmdet.MetricCurveHook", metric="energy_distance", begin=degrade + 1),
]
default_hooks = dict(checkpoint=dict(interval=400))
taught = dict(
    init="teacher", online="curve", evaluate=dict(test=[]), description="one call"
)
forth = "model.backtrack=False"
experiment = table(
    "disback",
    row(
        "teacher",
        "The teacher, 40 calls",
        *lengths(1200, 0, 0),
        evaluate=dict(test=["model.predict_on=teacher"]),
    ),
    row("plain", "Score distillation", forth, "model.critic_from=teacher", **taught),
    row("matched", "... with a matched critic", forth, **taught),
    row("disback", "DisBack", **taught),
    row(
        "start",
        "Where all start: the generator does not learn",
        "optim_wrapper.generator.optimizer.lr=0",
        **taught,
        trivial=True,
    ),
    metric="energy_distance_mean",
    percent=False,
    lower_is_better=True,
    reported="generator, one call",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.points"),
    columns={
        "mean of the run (val)": ("curve", "energy_distance_mean"),
        "worst of the run (val)": ("curve", "energy_distance_worst"),
        "end": ("test", "energy_distance"),
    },
)
walk = [
    *lengths(None, 1, 2),
    "train_cfg.val_interval=3",
    "model.snapshots=[1]",
    "train_dataloader.batch_size=16",
    *in_parts("dataset.size=64", "train", "val", "test"),
]
