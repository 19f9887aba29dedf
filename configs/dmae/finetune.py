# DMAE as in toy.py, then fine-tuned on 100 labels, ten of each digit: what such a
# student is for. Tested on the 360 test images.
_base_ = ["./toy.py"]
from pld_mmdet.recipes import loader, stage
from pld_mmdet.recipes.tables import lengths, row, table

few_labels = loader(
    dict(type="pld_mmdet.Digits", part="train", labelled=10), 20, train=True
)
finetune = stage("finetune", 300, data=few_labels, optim=_base_.slower)
train_cfg = dict(stages=[*_base_.train_cfg.stages, finetune])
val_evaluator = test_evaluator = dict(
    _delete_=True, type="pld_mmdet.ClassificationMetric"
)
test_dataloader = dict(dataset=dict(part="test"))


def _plain(name, title, epochs, seconds):
    return row(
        name,
        title,
        *lengths(epochs * _base_.epoch),
        config="configs/dmae/finetune_plain.py",
        seconds=seconds,
    )


experiment = table(
    "dmae_finetune",
    _plain("plain", "MAE student", 20, 25),
    _plain("scratch", "No pre-training", 0, 10),
    _plain("long", "MAE student, three times as long", 60, 45),
    row("dmae", "DMAE"),
    reported="student, fine-tuned on 100 labels",
    columns={"test": ("test", "accuracy")},
)
