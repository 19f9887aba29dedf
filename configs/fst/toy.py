# FST-D with K = 3 around CutMix self-training: 16 labelled, 304 unlabelled clear street
# scenes, 64 x 128. Length, batch and rate are those of a small run; mu, K, cutmix and
# drop_percent are the authors' semi-supervised ones.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_semi.py",
    "../_base_/models/segmentor_r18_fpn_small.py",
]
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
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=50)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-3, weight_decay=0.01),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, end=100)]
model_wrapper_cfg = dict(type="VirtualStepDDP")
