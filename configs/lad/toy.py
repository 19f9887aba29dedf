# LAD on 80 labelled clear street scenes, 64 x 128 (with all 320 the student saturates).
# Stage `teacher` is four times as long as the student's: it must learn to read the
# channel (after 250 iterations it had not). The fixed codes span what VOC's 22 do, -1.2
# to 0.9. Length, batch and rate are those of a small run; weights, temperature and
# noise are the authors'.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import optimizer, poly, stage, staged
from pld_mmdet.recipes.segmentation import few_scenes, maps_table, pixelwise
from pld_mmdet.recipes.tables import lengths, row

model = dict(
    type="pld_mmdet.LAD",
    student=_base_.segmentor,
    assisted=True,
    weight=3.0,
    consistency=5.0,
    tau=4.0,
    scale=1.5,  # images of standard deviation 1
    code_step=0.3,
)
train_dataloader = dict(
    batch_size=4, dataset=dict(dataset=dict(indices=list(range(0, 320, 4))))
)
stages = [
    stage("base", 0),  # the released student's head start
    stage("teacher", 800),
    stage("student", 200),
]
train_cfg = staged(*stages)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.01)
# the learning rate falls to 0 within each stage
param_scheduler = [poly(0.9)]
# Under several processes: teacher and student learn in turn.
find_unused_parameters = True
_both = dict(evaluate=dict(test=None, teacher="configs/lad/teacher.py"))
# Row `ce` makes the teacher of row `released` too: base 200, teacher 800, student 0.
experiment = maps_table(
    "lad",
    row("ce", "Cross-entropy (and LAD's teacher)", *lengths(200, 800, 0), **_both),
    row("ce_long", "Cross-entropy, twice as long", *lengths(400, 0, 0)),
    row(
        "plain",
        "CWD from a plain teacher of the same size",
        "model.assisted=False",
        *lengths(0, 200, 200),
        evaluate=dict(test=None, teacher="configs/lad/plain_teacher.py"),
    ),
    row("lad", "LAD, new student", **_both),
    row(
        "released",
        "LAD after 200 iterations of cross-entropy",
        *lengths(0, 0, 200),
        init="ce",
        **_both,
    ),
    pixelwise(),
    columns={"student": ("test", "mIoU"), "teacher": ("teacher", "mIoU")},
    reported="student of the last iteration; the teacher reads the true labels",
    # python tools/reproduce.py configs/lad/toy.py --gate --seeds 10 11
    gates=[
        dict(
            title="mIoU of the teacher that reads labels above cross-entropy",
            row="ce",
            on="teacher",
            metric="mIoU",
            minus="ce",
            minus_on="test",
            at_least=0.10,
        )
    ],
)
walk = [
    *lengths(1, 1, 1),
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.dataset.indices=[0,1,2,3]",
    *few_scenes("train_dataloader.dataset.dataset"),
    *few_scenes(),
]
