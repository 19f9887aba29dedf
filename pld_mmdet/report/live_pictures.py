"""A few images of the running training with the teacher's boxes, for the live page."""

from html import escape

from pld_mmdet.report import charts
from pld_mmdet.report.live_state import LiveRun


def pictures(run: LiveRun) -> str:
    """The section with the images; empty before there are any."""
    images = run.examples.get("images") or []
    error = run.examples.get("error")
    said = f'<p class="note alarm">{escape(error)}</p>' if error else ""
    if not images:
        return f"<h2>What the teacher labels</h2>{said}" if said else ""
    names = [("c-high", "kept: a label for the student")]
    kinds = {box[0] for image in images for box in image["boxes"]}
    if kinds & {"mined", "dropped"}:
        names += [("c-low", "mined"), ("c-dropped", "dropped proposal")]
    return (
        "<h2>What the teacher labels</h2><p class='soft'>Images of training steps, as "
        "the teacher saw them; renewed seldom. The arrow enlarges.</p>"
        f'{said}{charts.legend(names)}<div class="photos">'
        + "".join(_photo(image, n) for n, image in enumerate(images))
        + "</div>"
    )


def _photo(image: dict, number: int) -> str:
    width, height = image["width"], image["height"]
    size = width / 40
    marks = []
    # what the student gets is drawn last, over the others
    order = {"dropped": 0, "mined": 1, "kept": 2}
    for kind, x1, y1, x2, y2, text in sorted(
        image["boxes"], key=lambda box: order[box[0]]
    ):
        css = {"kept": "high", "mined": "low", "dropped": "dropped"}[kind]
        frame = (
            f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}"'
            f' height="{max(y2 - y1, 0):.1f}"'
        )
        label = ""
        if kind == "kept":
            y = y1 - size * 0.3 if y1 > size * 1.3 else y2 + size
            label = (
                f'<text x="{x1:.1f}" y="{y:.1f}" style="font-size:{size:.1f}px">'
                f"{escape(text)}</text>"
            )
        marks.append(
            f'<g class="k-{css}"><title>{escape(text)}</title><rect class="halo"'
            f' {frame}/><rect class="edge" {frame}/>{label}</g>'
        )
    counts = ", ".join(f"{n} {kind}" for kind, n in image["counts"].items())
    name = f"x{number}"
    return (
        f'<figure id="{name}-figure"><div class="photo" id="{name}">'
        f'<svg viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(image["file"])}"><image width="{width}"'
        f' height="{height}" preserveAspectRatio="none"'
        f' href="data:image/jpeg;base64,{escape(image["jpeg"])}"/>'
        f"{''.join(marks)}</svg>"
        f'<a class="open" href="#{name}" title="enlarge" aria-label="enlarge">⤢</a>'
        '<a class="shut" href="#">close ✕</a></div>'
        f"<figcaption><b>{escape(image['file'])}</b> at iteration {image['iter']}: "
        f"{counts}</figcaption></figure>"
    )
