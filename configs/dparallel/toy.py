# dParallel on words that may be spelled from any letter on: a BERT of 2 x 64 learns to
# fill masks, answers 1024 prompts one letter a call, and learns from these answers.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.language import bert, masked
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.RotatedWords"),
    64,
    train=dict(part="train", size=1024),
    val=dict(part="val", size=256),
    test=dict(part="test", size=512),
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.RotatedWordsMetric")
val_cfg = test_cfg = dict()

plain = dict(
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.125,  # with BERT's 0.02 places are not learnt in time
)
model = dict(
    type="pld_mmdet.DParallel",
    network=masked(config=bert(33, 16, 64, 2, 128, **plain)),
    mask_id=32,
    block=4,
    weight=2.0,
    samples=(1024, 15),
    thresholds=(0.1, 0.2, 0.3, 0.5),
)
train_cfg = staged(
    stage("base", 1000, optim=optimizer("Adam", lr=2e-3)),
    stage("distill", 200, work=loader(train_dataloader["dataset"], 256)),
)
optim_wrapper = optimizer("Adam", lr=2e-4)

distil = lengths(0)
experiment = table(
    "dparallel",
    row("base", "Base model", *lengths(None, 0), trivial=True),
    row("w0", "Consistency only, w = 0", *distil, "model.weight=0", init="base"),
    row("dparallel", "dParallel, w = 2", *distil, init="base"),
    metric="calls_0.5",
    percent=False,
    lower_is_better=True,
    columns={
        f"{what}, {threshold}": ("test", f"{what}_{threshold}")
        for threshold in (0.1, 0.3, 0.5)
        for what in ("calls", "valid")
    },
    reported="network of the last iteration",
)
walk = [
    *lengths(1, 2),
    "train_dataloader.batch_size=4",
    *in_parts("dataset.size=4"),
]
