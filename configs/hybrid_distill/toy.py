# Hybrid Distill (a reconstruction) on scikit-learn's digits: T_c learns the parity of
# 1077 images, T_m is a masked autoencoder of them; the student learns from both without
# labels and is fine-tuned on 100. All three have the same shape.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/digits.py",
    "../_base_/models/digits_mae.py",
]

from pld_mmdet.recipes import row, stage, staged, table

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

student = "configs/hybrid_distill/student.py"
read = dict(type="raw_input", train="train_cfg.stages.4.dataloader.dataset")
experiment = table(
    "hybrid_distill",
    row(
        "features",
        "Features of T_c alone",
        "model.beta=0.0",
        config=student,
        init="teachers",
    ),
    row(
        "relations",
        "Relations of T_m alone",
        "model.alpha=0.0",
        config=student,
        init="teachers",
    ),
    row("hybrid_distill", "Hybrid Distill", config=student, init="teachers"),
    row("scratch", "No pre-training", "train_cfg.stages.0.max_iters=0", config=student),
    row(
        "teachers",
        "T_m itself, fine-tuned",
        config="configs/hybrid_distill/teachers.py",
    ),
    row(
        "raw_pixels",
        "Raw pixels, logistic regression on 100 labels",
        baseline=dict(read, evaluator=dict(type="pld_mmdet.ClassificationMetric")),
    ),
    columns={
        "accuracy": ("test", "accuracy"),
        "NMI": ("test", "nmi"),
        "distance": ("test", "distance"),
    },
    reported="student, fine-tuned on 100 labels; NMI and distance of its last block",
)
walk = [f"train_cfg.stages.{i}.max_iters={n}" for i, n in enumerate((0, 0, 1, 0, 1))]
