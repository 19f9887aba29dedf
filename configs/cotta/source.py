# The source network of the test-time rows: a small convolutional net on clean digits,
# scored on the corrupted stream as it is. 40 epochs on 1077 images, moved by up to 2 of
# 16 pixels as CIFAR networks are trained (4 of 32), so that it stands CoTTA's views.
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import cosine, loader, optimizer

corruptions = ["noise", "contrast", "blur", "shift", "dropout"]  # synthetic
rounds = 6
network = dict(type="pld_mmdet.DigitNet", size=16, widths=(16, 32), num_classes=10)
model = dict(type="pld_mmdet.Classifier", network=network)
train_dataloader = loader(
    dict(type="pld_mmdet.CorruptedDigits", part="train", pad=2),
    64,
    train=True,
    seeded=True,
)
test_dataloader = loader(
    dict(
        type="pld_mmdet.CorruptedDigits",
        part="test",
        corruptions=corruptions,
        rounds=rounds,
    ),
    60,
)
test_evaluator = dict(type="pld_mmdet.StreamMetric")
test_cfg = dict()
# The same stream of the val images: only to choose the strength of the corruptions.
val_dataloader = loader(
    dict(
        type="pld_mmdet.CorruptedDigits",
        part="val",
        corruptions=["clean", *corruptions],
    ),
    60,
)
val_evaluator = test_evaluator
val_cfg = dict()

train_cfg = dict(type="IterBasedTrainLoop", max_iters=680, val_interval=680)
optim_wrapper = optimizer("Adam", 2e-3)
param_scheduler = [cosine(T_max=680)]
walk = ["train_cfg.max_iters=2", "test_dataloader.dataset.rounds=1"]
