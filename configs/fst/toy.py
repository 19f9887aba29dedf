# FST-D with K = 3 around CutMix self-training: 16 labelled, 304 unlabelled clear street
# scenes, 64 x 128. First the labelled scenes alone, as nothing is pretrained here, then
# all. Length, batch and rate are those of a small run; mu, K, cutmix and drop_percent
# are the authors' semi-supervised ones.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_semi.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import optimizer, poly, stage, staged
from pld_mmdet.recipes.segmentation import few_scenes, maps_table
from pld_mmdet.recipes.tables import lengths, row

model = dict(
    type="pld_mmdet.FST",
    learner=dict(
        type="pld_mmdet.CutMixSelfTraining",
        segmentor=_base_.segmentor,
        cutmix=0.5,
        drop_percent=80.0,
        predict_on="teacher",
    ),
    depth=3,
    mu=0.99,
    buffers="keep",
    first_move=False,  # as recorded; the released code moves it
)
labelled_first = stage(
    "labelled", 150, optim=optimizer("AdamW", 5e-3, weight_decay=0.01)
)
train_cfg = staged(labelled_first, stage("self_training", 100))
optim_wrapper = optimizer("AdamW", 2e-3, weight_decay=0.01)
# the learning rate falls to 0 within each stage
param_scheduler = [poly(0.9)]
model_wrapper_cfg = dict(type="VirtualStepDDP")
# The rows share the labelled stage of each seed: `start` is it, the others go on.
_shared = ["train_cfg.stages.0.max_iters=0"]
experiment = maps_table(
    "fst",
    row("supervised", "Labelled scenes only", *_shared, init="start"),
    row(
        "mean_teacher", "Mean teacher with CutMix, decay 0.99^4", *_shared, init="start"
    ),
    row("fst", "FST-D, K = 3", *_shared, init="start"),
    row("fst_w", "FST-W, N = 3", *_shared, config="configs/fst/width.py", init="start"),
    row("start", "Where all start: 150 iterations on labelled scenes"),
    reported="teacher of the last iteration (labelled only: student)",
)
_sets = "train_dataloader.dataset.dataset.datasets"
walk = [
    *lengths(1, 2),
    *few_scenes(f"{_sets}.0", f"{_sets}.1"),
    f"{_sets}.0.indices=[0,6]",
    f"{_sets}.1.indices=[1,2,3,4]",
    *few_scenes(),
]
