# P4PLM on topic documents: one shape (BERT 2 x 64) for A, B, C and D; 4000 documents
# without labels, 24 with. A and B are made once a seed: the rows begin from their run.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

unlabelled = dict(_base_.documents, part="general", size=4000, indexed=True)
model = dict(
    type="pld_mmdet.P4PLM",
    student={{_base_.finetuned}},
    masked={{_base_.pretrained}},
    samples=(4000, 8),
)
train_cfg = staged(
    {{_base_.mlm}},
    stage("labeller", 100, schedule={{_base_.falling}}),
    stage("label", 0, work=loader(unlabelled, 500)),
    stage(
        "distill",
        300,
        data=loader(unlabelled, 32, train=True),
        schedule={{_base_.falling}},
    ),
    stage("finetune", 100, schedule={{_base_.falling}}),
)

given = lengths(0, 0)
taught = dict(init="labeller")
answer = dict(evaluate=dict(test=["model.predict_on=labeller"]))
undistilled = lengths(None, None, None, 0)
experiment = table(
    "p4plm",
    row("plain", "Fine-tuning only", *undistilled, *given, **taught),
    row(
        "labeller",
        "B: masked words, fine-tuning",
        *lengths(None, None, None, 0, 0),
        **answer,
    ),
    row(
        "b_long",
        "B, as many more steps",
        *lengths(0, 400, None, 0, 0),
        **taught,
        **answer,
    ),
    row("one_hot", "D, one-hot pseudo-labels", "model.soft=False", *given, **taught),
    row("from_a", "D, where C begins from A", "model.begin=a", *given, **taught),
    row("p4plm", "P4PLM (D)", *given, **taught),
    row("bag_of_words", "Bag of words, logistic regression", baseline="bag_of_words"),
    reported="network of the last iteration",
)
walk = [
    *lengths(1, 1, None, 1, 1),
    "train_cfg.stages.2.work_dataloader.dataset.size=64",
    "train_cfg.stages.3.dataloader.dataset.size=64",
    *in_parts("dataset.size=10"),
]
