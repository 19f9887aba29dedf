# The source network of the test-time rows: a small convolutional net on clean digits,
# scored on the corrupted stream as it is. 40 epochs on 1077 images, moved by up to 2 of
# 16 pixels as CIFAR networks are trained (4 of 32), so that it stands CoTTA's views.
_base_ = ["../_base_/toy_runtime.py"]

corruptions = ["noise", "contrast", "blur", "shift", "dropout"]  # synthetic
rounds = 6
network = dict(type="pld_mmdet.DigitNet", size=16, widths=(16, 32), num_classes=10)
model = dict(type="pld_mmdet.Classifier", network=network)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(type="pld_mmdet.CorruptedDigits", part="train", pad=2),
    ),
)
test_dataloader = dict(
    batch_size=60,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="pld_mmdet.CorruptedDigits",
        part="test",
        corruptions=corruptions,
        rounds=rounds,
    ),
)
test_evaluator = dict(type="pld_mmdet.StreamMetric")
test_cfg = dict()
# The same stream of the val images: only to choose the strength of the corruptions.
val_dataloader = dict(
    batch_size=60,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="pld_mmdet.CorruptedDigits",
        part="val",
        corruptions=["clean", *corruptions],
    ),
)
val_evaluator = test_evaluator
val_cfg = dict()

train_cfg = dict(type="IterBasedTrainLoop", max_iters=680, val_interval=680)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper", optimizer=dict(type="Adam", lr=2e-3)
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, T_max=680)]
walk = ["train_cfg.max_iters=2", "test_dataloader.dataset.rounds=1"]
