# Mean Teacher on heads other than Faster R-CNN's, against AdaBN alone. Runs from
# configs/best/retinanet.py; docs/lab/heads.md.
_base_ = "../../best/foggy_streets.py"
from pld_mmdet.recipes.streets import FEW, SHORT, quick_streets
from pld_mmdet.recipes.tables import row

_images = "data/foggy_streets/leftImg8bit_foggy/train/**/*beta_0.02.png"
# The val images, for choosing.
_foggy = "annotations/val_foggy_beta_0.02.json"
_val = [
    f"test_dataloader.dataset.ann_file={_foggy}",
    f"test_evaluator.ann_file=data/foggy_streets/{_foggy}",
]


def _source(name, title):
    return row(
        f"source_{name}",
        f"{title}, source only",
        config=f"configs/source/foggy_streets_{name}.py",
        evaluate=dict(fog=f"configs/source/foggy_streets_{name}_on_fog.py", val=_val),
        quick=list(SHORT),
        seconds=900,
    )


def _adapted(name, title, method, seconds):
    return row(
        f"{method}_{name}",
        title,
        config=f"configs/source/foggy_streets_{name}.py",
        init=f"source_{name}",
        command=f"python tools/adapt.py {{config}} {{init}} '{_images}' "
        f"--method {method} --seed {{seed}} --out {{out}}",
        checkpoint="adapted.pth",
        evaluate=dict(fog=f"configs/source/foggy_streets_{name}_on_fog.py", val=_val),
        quick=["--iterations", "12", "--evaluations", "1"],
        seconds=seconds,
    )


def _retinanet(name, title, *options):
    return row(
        name,
        title,
        *options,
        config="configs/best/retinanet.py",
        init="source_retinanet",
        evaluate=dict(fog=None, val=_val),
        quick=list(FEW),
        seconds=300,
    )


experiment = dict(
    _delete_=True,
    name="foggy_streets_heads",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        _source("retinanet", "RetinaNet"),
        _adapted("retinanet", "AdaBN", "adabn", 40),
        _retinanet("hard", "Mean Teacher, boxes above 0.25", "model.soft_dense=None"),
        _retinanet(
            "hard_skip",
            "... images without a box teach nothing",
            "model.soft_dense=None",
            "model.skip_empty=True",
        ),
        _retinanet("soft", "Scores of the surest, counted by their sum"),
        _retinanet(
            "soft_released",
            "Scores of the surest hundredth, as Dense Teacher",
            "model.soft_dense.region=0.01",
        ),
        _source("cascade", "Cascade R-CNN"),
        _adapted("cascade", "AdaBN", "adabn", 40),
        _adapted("cascade", "AdaBN + Mean Teacher", "mean_teacher", 600),
    ],
)
