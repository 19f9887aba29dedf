# TENT on the stream: entropy, batch-norm scales and shifts only, one step a batch.
_base_ = ["./source.py"]

load_from = "work_dirs/cotta/source/last.pth"
how_to_get = dict(checkpoint="python tools/train.py configs/cotta/source.py")

model = dict(_delete_=True, type="pld_mmdet.Tent", network=_base_.network)
train_dataloader = dict(
    batch_size=60,
    sampler=dict(shuffle=False),
    dataset=dict(
        _delete_=True,
        type="pld_mmdet.CorruptedDigits",
        part="test",
        corruptions=_base_.corruptions,
        rounds=_base_.rounds,
    ),
)
train_cfg = dict(
    _delete_=True, type="pld_mmdet.OnlineLoop", evaluator=_base_.test_evaluator
)
val_dataloader = None
val_evaluator = None
val_cfg = None
param_scheduler = None  # the rate stays where it is as long as the stream flows
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="Adam", lr=1e-3, betas=(0.9, 0.999))
)
walk = [
    "load_from=None",
    "train_dataloader.dataset.rounds=1",
    "train_dataloader.dataset.images=60",
    "train_dataloader.dataset.corruptions=noise,blur",
]
