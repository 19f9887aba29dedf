# Mean Teacher on heads other than Faster R-CNN's, against AdaBN alone. Runs from
# configs/best/retinanet.py; docs/lab/heads.md.
_base_ = "../../best/foggy_streets.py"
from pld_mmdet.recipes.streets import FEW, FOG, quick_streets, source_row, tool_row
from pld_mmdet.recipes.tables import row

# The val images, for choosing.
_foggy = "annotations/val_foggy_beta_0.02.json"
_val = [
    f"test_dataloader.dataset.ann_file={_foggy}",
    f"test_evaluator.ann_file=data/foggy_streets/{_foggy}",
]


def _scored(of):
    return dict(fog=FOG.replace("_on_fog", f"{of}_on_fog"), val=_val)


def _source(of, title):
    return source_row(of=of, title=title, evaluate=_scored(of), seconds=900)


def _adapted(of, title, method, seconds):
    place = dict(of=of, evaluate=_scored(of), seconds=seconds)
    return tool_row(f"{method}{of}", title, f"--method {method}", **place)


def _retinanet(name, title):
    return row(
        name,
        title,
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
        _source("_retinanet", "RetinaNet"),
        _adapted("_retinanet", "AdaBN", "adabn", 40),
        _retinanet("hard", "Mean Teacher, boxes above 0.25"),
        _source("_cascade", "Cascade R-CNN"),
        _adapted("_cascade", "AdaBN", "adabn", 40),
        _adapted("_cascade", "AdaBN + Mean Teacher", "mean_teacher", 600),
    ],
)
