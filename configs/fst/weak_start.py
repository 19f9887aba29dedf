# FST-D from clear to foggy streets where the teacher lags: only 60 iterations on the
# labelled clear scenes, so that the student is still learning fast, then 160 on both at
# a constant rate. The rest is clear_to_fog.py.
_base_ = ["./clear_to_fog.py"]
from pld_mmdet.recipes import stage

labelled_first = stage(
    "labelled",
    60,
    optim=_base_.source_first.optim_wrapper,
    schedule=_base_.param_scheduler,  # falls to 0
)
train_cfg = dict(stages=[labelled_first, stage("self_training", 160)])
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = []


# The rows are those of clear_to_fog.py.
_here = dict(
    config="configs/fst/weak_start.py",
    evaluate=dict(test=None, teacher="configs/fst/weak_start_teacher.py"),
)
experiment = dict(
    name="fst_weak_start",
    rows=[
        dict(
            name="start",
            title="Source only: where all start",
            config="configs/fst/weak_start_start.py",
            trivial=True,
        ),
        *(dict(row, **_here) for row in _base_.experiment.rows[1:]),
    ],
)
