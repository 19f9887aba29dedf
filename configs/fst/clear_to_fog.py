# FST-D with K = 3 around ClassMix self-training, from clear to foggy streets, 64 x 128:
# 400 iterations on the labelled clear scenes, as nothing is pretrained here, then 120
# on both. Against paper.py: the small network, rates and batch of a small run, mu 0.99
# (0.999 hardly moves a teacher in 480 steps), no rows of a bonnet, no distance to
# ImageNet features.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_fog.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import cosine, optimizer, stage, staged
from pld_mmdet.recipes.segmentation import few_scenes, maps_table
from pld_mmdet.recipes.tables import lengths, row

model = dict(
    type="pld_mmdet.FST",
    learner=dict(
        type="pld_mmdet.ClassMixSelfTraining",
        segmentor=_base_.segmentor,
        tau=0.968,
        ignore_rows=(0, 0),
        feature_weight=0.0,
        predict_on="student",
        source_over="valid",  # as recorded; every pixel of these streets has a label
    ),
    depth=3,
    mu=0.99,
    count="evaluations",
    buffers="keep",
    first_move=False,  # as recorded; the released code moves it
)
train_dataloader = dict(_delete_=True, **_base_.both_dataloader)
source_first = stage("labelled", 400, optim=optimizer("AdamW", 5e-3, weight_decay=0.01))
train_cfg = staged(source_first, stage("self_training", 120))
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.01)
# the learning rate falls to 0 within each stage
param_scheduler = [cosine(eta_min=0.0)]
model_wrapper_cfg = dict(type="VirtualStepDDP")


# The rows share the first stage of each seed: `start` is it, the others go on.
def _row(name, title, depth, mu, seconds):
    return row(
        name,
        title,
        *lengths(0),
        f"model.depth={depth}",
        f"model.mu={mu}",
        config="configs/fst/clear_to_fog.py",
        init="start",
        evaluate=dict(test=None, teacher="configs/fst/clear_to_fog_teacher.py"),
        seconds=seconds,
    )


experiment = maps_table(
    "fst_clear_to_fog",
    row(
        "start",
        "Source only: where all start",
        config="configs/fst/clear_to_fog_start.py",
        trivial=True,
    ),
    _row("self_training", "Self-training, decay 0.99", 0, 0.99, 20),
    _row("fst", "FST-D, K = 3", 3, 0.99, 70),
    _row("fast_teacher", "Self-training, decay 0.99^4", 0, 0.99**4, 20),
    columns=dict(student=("test", "mIoU"), teacher=("teacher", "mIoU")),
    reported="last iteration, in fog",
)
_sets = "train_dataloader.dataset.dataset.datasets"
walk = [
    *lengths(1, 2),
    *few_scenes(f"{_sets}.0", f"{_sets}.1"),
    *few_scenes(),
]
