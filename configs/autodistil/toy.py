# AutoDistil on topic documents: 16 sub-networks of a BERT of 2 x 64 learn its last
# relations together on unlabelled documents; one under a cap is chosen on others and
# fine-tuned on 24 labels. Teacher and shared weights are made once a seed.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

held_out = dict(_base_.documents, part="general", size=200)
model = dict(
    type="pld_mmdet.AutoDistil",
    teacher={{_base_.pretrained}},
    student=dict(
        type="pld_mmdet.ElasticEncoder",
        layers=2,
        heads=4,
        width=64,
        ratio=2.0,
        vocab_size=260,
        positions=20,
        head_size=16,
        dropout=0.0,
        num_classes=8,
        initializer_range=0.1,
    ),
    space=dict(layers=(1, 2), heads=(2, 4), width=(32, 64), ratio=(1.0, 2.0)),
    most_parameters=30000,
)
train_cfg = staged(
    {{_base_.mlm}},
    stage("distill", 120, data={{_base_.general}}, schedule={{_base_.falling}}),
    stage("search", 0, work=loader(held_out, 100)),
    stage("finetune", 100, schedule={{_base_.falling}}),
)

smallest = "model.only=(1, 2, 32, 1.0)"
given = ["model.pick=random", *lengths(0, 0)]
experiment = table(
    "autodistil",
    row("smallest", "Smallest sub-network, trained alone", smallest),
    row("random", "Random sub-network under the cap", *given, init="autodistil"),
    row("autodistil", "AutoDistil, searched sub-network"),
    row("bag_of_words", "Bag of words, logistic regression", baseline="bag_of_words"),
    reported="chosen sub-network of the last iteration",
)
walk = [
    *lengths(1, 1, None, 1),
    "train_cfg.stages.2.work_dataloader.dataset.size=16",
    *in_parts("dataset.size=10"),
]
