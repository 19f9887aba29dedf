# Hybrid Distill (a reconstruction) on scikit-learn's digits: T_c learns the parity of
# 1077 images, T_m is a masked autoencoder of them; the student learns from both without
# labels and is fine-tuned on 100. All three have the same shape.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/digits.py",
    "../_base_/models/digits_mae.py",
]

from pld_mmdet.recipes import stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

shape = dict(_base_.vit, dim=48, depth=4)
model = dict(
    type="pld_mmdet.HybridDistill",
    student=shape,
    feature_teacher=shape,
    relation_teacher=shape,
    layers=[1, 2],
    schedule=[(0, 0.9), (1, 0.9), (2, 0.9)],  # thirds of the depth
    teacher_decoder=dict(_base_.decoder, dim=32, depth=1),
    teacher_classes=[0, 1] * 5,  # parity
    mean=_base_.mean,
    std=_base_.std,
)
distill = stage("distill", 300)
finetune = stage("finetune", 200, **_base_.tuning)
train_cfg = staged(
    stage("feature_teacher", 300, optim=_base_.slower),
    stage("relation_teacher", 600, optim=_base_.slower),
    distill,
    stage("export", 0),
    finetune,
)
default_hooks = dict(checkpoint=dict(interval=500))
test_evaluator = [
    dict(type="pld_mmdet.ClassificationMetric"),
    dict(type="pld_mmdet.AttentionMetric"),
]
val_evaluator = test_evaluator

student = dict(config="configs/hybrid_distill/student.py")
taught = dict(**student, init="teachers")
experiment = table(
    "hybrid_distill",
    row("features", "Features of T_c alone", "model.beta=0.0", **taught),
    row("relations", "Relations of T_m alone", "model.alpha=0.0", **taught),
    row("hybrid_distill", "Hybrid Distill", **taught),
    row("scratch", "No pre-training", *lengths(0), **student),
    row(
        "teachers",
        "T_m itself, fine-tuned",
        config="configs/hybrid_distill/teachers.py",
    ),
    raw_pixels(
        on="100 labels",
        c=None,
        train="train_cfg.stages.4.dataloader.dataset",
        evaluator=dict(type="pld_mmdet.ClassificationMetric"),
    ),
    columns={
        "accuracy": ("test", "accuracy"),
        "NMI": ("test", "nmi"),
        "distance": ("test", "distance"),
    },
    reported="student, fine-tuned on 100 labels; NMI and distance of its last block",
)
walk = lengths(0, 0, 1, 0, 1)
