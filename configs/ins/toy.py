# INS on digits, is it a nine? 24 bags of 18 train images, twelve of them with two
# nines; all others are threes, fours, fives and sevens. Each seed has its bags. The
# classification view is the image itself, so that the plain row can learn its noise.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, optimizer, stage
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table


def bags(part, **more):
    return dict(
        type="pld_mmdet.InstanceBags",
        dataset=dict(type="pld_mmdet.Digits", part=part, classes=[3, 4, 5, 7, 9]),
        positive=[4],  # the nines, renumbered
        size=18,
        **more,
    )


train = bags("train", bags=24, seed=0)
model = dict(
    type="pld_mmdet.INS",
    network=dict(type="pld_mmdet.SmallConvNet", widths=(32, 64), num_classes=2),
    num_samples=24 * 18,
    width=32,
    queue=256,
    view="none",
    key_view="moved",
)
train_dataloader = loader(train, 64, train=True)
val_dataloader = loader(bags("val", bags=40, replace=True), 360)
test_dataloader = loader(bags("test", bags=40, replace=True), 360)
val_evaluator = test_evaluator = dict(type="pld_mmdet.MILMetric")
val_cfg = test_cfg = dict()

work = loader(train, 64)
warm = loader(dict(train, positive_only=True), 64, train=True)
train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[
        stage("bag_labels", 7),  # an epoch
        stage("warmup", 90, data=warm),
        stage("prototypes", 400),
        stage("scores", 0, work=work),
    ],
)
# SGD as published; a tenth of their epochs' steps, so a larger rate than their 0.01
optim_wrapper = optimizer("SGD", 0.03, momentum=0.9, weight_decay=1e-3)
find_unused_parameters = True  # the projection has its turn after `bag_labels`

seeds = ["train_dataloader.dataset.seed={seed}"]
staged = [
    *seeds,
    "train_cfg.stages.1.dataloader.dataset.seed={seed}",
    "train_cfg.stages.3.work_dataloader.dataset.seed={seed}",
]
experiment = table(
    "ins",
    row("bag_labels", "Each instance with its bag's label", *seeds),
    row("max_pooling", "Max pooling", "train_dataloader.dataset.seed={seed}"),
    row("no_contrast", "INS without contrast", *staged, "model.weight=0.0"),
    row("ins", "INS", *staged),
    raw_pixels(
        *seeds,
        on="bags' labels",
        c=None,
        target="bag_label",
        evaluator=dict(type="pld_mmdet.AUCMetric"),
    ),
    metric="auc",
    percent=False,
    reported="classifier of the last iteration, scores of single instances",
    columns={
        "AUC": ("test", "auc"),
        "bag AUC": ("test", "bag_auc"),
        "AUC of the prototypes": ("test", "prototype_auc"),
    },
    gates=[
        dict(
            title="AUC of bags' labels on the instances",
            row="bag_labels",
            on="test",
            metric="auc",
            at_most=90.0,
        )
    ],
)
walk = lengths(1, 0, 1, 0)
