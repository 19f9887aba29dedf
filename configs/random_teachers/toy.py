# Random teachers on StreetCrops: a small CNN that never learned teaches another one
# for 200 steps, without labels. A linear probe, cross-validated on 600 test crops.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import iterations, optimizer
from pld_mmdet.recipes.crops import crops_table, tiny_crops
from pld_mmdet.recipes.tables import in_parts, row

model = dict(
    type="pld_mmdet.RandomTeachers",
    student=dict(
        type="pld_mmdet.HeadedEncoder",
        encoder=dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(16, 32, 64)),
        hidden=256,
        bottleneck=64,
        outputs=1024,
    ),
)
train_cfg = iterations(200)
optim_wrapper = optimizer("Adam", 1e-3)
val_dataloader = test_dataloader = dict(dataset=dict(labelled=600))
val_evaluator = test_evaluator = dict(_delete_=True, type="pld_mmdet.LinearProbeMetric")

experiment = crops_table(
    "random_teachers",
    row(
        "teacher",
        "The random teacher",
        "model.predict_on=teacher",
        "train_cfg.max_iters=1",
    ),
    row("far", "Student of a draw of its own (a = 1)", "model.alpha=1.0"),
    row("random_teachers", "Student at the teacher (a = 1e-10)"),
    row("half", "Student half way (a = 0.5)", "model.alpha=0.5"),
    row("raw_pixels", "Raw pixels", baseline="raw_features"),
    columns={"probe": ("test", "accuracy")},
    reported="encoder of the last iteration, linear probe",
)
walk = ["train_cfg.max_iters=2", "train_dataloader.batch_size=8"]
walk += [*tiny_crops("train_dataloader.dataset"), *tiny_crops()]
walk += in_parts("dataset.labelled=12")
walk += in_parts("dataset.classes=[person,car]")
walk += ["val_evaluator.folds=2", "test_evaluator.folds=2"]
