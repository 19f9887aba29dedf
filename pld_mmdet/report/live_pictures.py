"""A few images of the running training with the teacher's boxes, for the live page."""

from markupsafe import Markup

from pld_mmdet.report import charts
from pld_mmdet.report.live_state import LiveRun
from pld_mmdet.report.markup import part

# What the student gets is drawn last, over the others.
KINDS = {"dropped": "dropped", "mined": "low", "kept": "high"}


def pictures(run: LiveRun) -> Markup:
    """The section with the images; empty before there are any."""
    images = run.examples.get("images") or []
    error = run.examples.get("error")
    if not images and not error:
        return Markup()
    names = [("c-high", "kept: a label for the student")]
    kinds = {box[0] for image in images for box in image["boxes"]}
    if kinds & {"mined", "dropped"}:
        names += [("c-low", "mined"), ("c-dropped", "dropped proposal")]
    legend = charts.legend(names) if images else ""
    drawn = [_photo(image) for image in images]
    return part("pictures", error, legend, drawn)


def _photo(image: dict) -> dict:
    order = list(KINDS)
    boxes = sorted(image["boxes"], key=lambda box: order.index(box[0]))
    return dict(
        width=float(image["width"]),
        height=float(image["height"]),
        file=image["file"],
        iter=image["iter"],
        jpeg=image["jpeg"],
        boxes=[
            (KINDS[kind], tuple(map(float, corners)), text)
            for kind, *corners, text in boxes
        ],
        counts=", ".join(f"{n} {kind}" for kind, n in image["counts"].items()),
    )
