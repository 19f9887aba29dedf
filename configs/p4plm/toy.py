# P4PLM on topic documents: one shape (BERT 2 x 64) for A, B, C and D; 4000 documents
# without labels, 24 with. A and B are made once a seed: the rows begin from their run.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.tables import row, table

unlabelled = dict(
    type="pld_mmdet.TopicGrammar", topics=8, senses=64, synonyms=4, words=16, focus=0.1
) | dict(part="general", size=4000, indexed=True)
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

given = ("train_cfg.stages.0.max_iters=0", "train_cfg.stages.1.max_iters=0")
experiment = table(
    "p4plm",
    row(
        "plain",
        "Fine-tuning only",
        "train_cfg.stages.3.max_iters=0",
        *given,
        init="labeller",
    ),
    row(
        "labeller",
        "B: masked words, fine-tuning",
        "train_cfg.stages.3.max_iters=0",
        "train_cfg.stages.4.max_iters=0",
        evaluate=dict(test=["model.predict_on=labeller"]),
    ),
    row(
        "b_long",
        "B, as many more steps",
        "train_cfg.stages.0.max_iters=0",
        "train_cfg.stages.1.max_iters=400",
        "train_cfg.stages.3.max_iters=0",
        "train_cfg.stages.4.max_iters=0",
        init="labeller",
        evaluate=dict(test=["model.predict_on=labeller"]),
    ),
    row(
        "one_hot",
        "D, one-hot pseudo-labels",
        "model.soft=False",
        *given,
        init="labeller",
    ),
    row("from_a", "D, where C begins from A", "model.begin=a", *given, init="labeller"),
    row("p4plm", "P4PLM (D)", *given, init="labeller"),
    row("bag_of_words", "Bag of words, logistic regression", baseline="bag_of_words"),
    reported="network of the last iteration",
)
walk = [
    *[f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1, 3, 4)],
    "train_cfg.stages.2.work_dataloader.dataset.size=64",
    "train_cfg.stages.3.dataloader.dataset.size=64",
    "val_dataloader.dataset.size=10",
    "test_dataloader.dataset.size=10",
]
