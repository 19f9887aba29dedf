# SimCLRv2 on digits: 3 labels a class, 1047 images without; a CNN is pretrained, tuned
# on the labels and teaches an MLP. Every student takes 300 steps; a large network that
# was not pretrained takes as many steps on the labels as both stages together.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

few = dict(type="pld_mmdet.Digits", part="train", labelled=3)
rest = dict(type="pld_mmdet.Digits", part="train", labelled=-3)
whole = dict(type="pld_mmdet.LabelledAndNot", datasets=[few, rest])
model = dict(
    type="pld_mmdet.SimCLRv2",
    student=dict(type="pld_mmdet.MLP", sizes=(64, 32, 10)),
    teacher=dict(type="pld_mmdet.SmallConvNet", widths=(64, 64)),
    num_classes=10,
    outputs=64,
    temperature=0.2,
    view="digits",
)
train_dataloader = dict(_delete_=True, **loader(whole, 64, train=True))
train_cfg = staged(
    stage("pretrain", 250),
    stage(
        "finetune", 300, data=loader(few, 30, train=True), optim=optimizer("Adam", 1e-3)
    ),
    stage("distill", 300),
)
optim_wrapper = optimizer("Adam", 3e-3)
find_unused_parameters = True  # on several processes: one part learns at a time

teacher = [*lengths(None, None, 0), "model.predict_on=teacher"]
experiment = table(
    "simclrv2",
    row("plain", "Small net, 30 labels"),
    row(
        "no_pretraining",
        "Large net on 30 labels, distilled",
        *lengths(0, 550),
        "train_cfg.stages.1.optim_wrapper.optimizer.lr=3e-3",
    ),
    row("teacher", "Large net, pretrained and tuned (the teacher)", *teacher),
    row(
        "layer_0",
        "... tuned from the encoder's features",
        *teacher,
        "model.from_layer=0",
    ),
    row("simclrv2", "SimCLRv2", *lengths(0, 0), init="teacher"),
    raw_pixels(on="30 labels", c=None, train="train_cfg.stages.1.dataloader.dataset"),
    columns={"accuracy": ("test", "accuracy"), "ECE": ("test", "ece")},
    reported="network of the last iteration",
)
walk = lengths(1, 1, 1)
