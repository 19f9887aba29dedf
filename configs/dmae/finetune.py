# DMAE as in toy.py, then fine-tuned on 100 labels, ten of each digit: what such a
# student is for. Tested on the 360 test images.
_base_ = ["./toy.py"]

few_labels = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=_base_.collate,
    dataset=dict(type="pld_mmdet.Digits", part="train", labelled=10),
)
finetune = dict(
    name="finetune", max_iters=300, dataloader=few_labels, optim_wrapper=_base_.slower
)
train_cfg = dict(stages=[*_base_.train_cfg.stages, finetune])
val_evaluator = dict(_delete_=True, type="pld_mmdet.ClassificationMetric")
test_evaluator = val_evaluator
test_dataloader = dict(dataset=dict(part="test"))


def _plain(name, title, epochs, seconds):
    return dict(
        name=name,
        title=title,
        config="configs/dmae/finetune_plain.py",
        options=[f"train_cfg.stages.0.max_iters={epochs * _base_.epoch}"],
        seconds=seconds,
    )


experiment = dict(
    name="dmae_finetune",
    metric="accuracy",
    reported="student, fine-tuned on 100 labels",
    columns={"test": ("test", "accuracy")},
    rows=[
        _plain("plain", "MAE student", 20, 25),
        _plain("scratch", "No pre-training", 0, 10),
        _plain("long", "MAE student, three times as long", 60, 45),
        dict(name="dmae", title="DMAE"),
    ],
)
