# FST-D as its authors' code runs it: a virtual step takes the weights back, but leaves
# its trace in AdamW's moments and in the batch-norm statistics. From clear to foggy
# streets, 100 iterations on the labelled clear scenes, 200 on both at a constant rate.
# The rest is weak_start.py, whose virtual steps leave no trace.
_base_ = ["./weak_start.py"]
from pld_mmdet.recipes import stage
from pld_mmdet.recipes.segmentation import pixelwise

model = dict(restore_optimizer=False, restore_buffers=False)
labelled_first = dict(_base_.labelled_first, max_iters=100)
train_cfg = dict(stages=[labelled_first, stage("self_training", 200)])
_here = dict(
    config="configs/fst/released.py",
    evaluate=dict(test=None, teacher="configs/fst/released_teacher.py"),
)
_plain, _fst, _fast = (dict(row, **_here) for row in _base_.experiment.rows[1:])


# A row whose options are another row's and more.
def _more(row, name, title, options):
    return dict(row, name=name, title=title, options=[*row["options"], *options])


experiment = dict(
    name="fst_released",
    rows=[
        dict(
            name="start",
            title="Source only: where all start",
            config="configs/fst/released_start.py",
            trivial=True,
        ),
        _plain,
        _fst,
        _more(
            _fst,
            "no_trace",
            "FST-D, K = 3, virtual steps leave no trace",
            ["model.restore_optimizer=True", "model.restore_buffers=True"],
        ),
        _fast,
        _more(
            _fast,
            "fast_all",
            "... and AdamW's betas to the fourth power",
            [f"optim_wrapper.optimizer.betas=({0.9**4},{0.999**4})"],
        ),
        _more(
            _fast,
            "long",
            "Self-training, decay 0.99^4, four times as long",
            ["train_cfg.stages.1.max_iters=800"],
        ),
        # both columns hold its one number
        dict(_here, **pixelwise(train="train_dataloader.dataset.dataset.datasets.0")),
    ],
)
