"""Image strips as HTML: one embedded photo, boxes drawn over it as SVG."""

from html import escape

from pld_mmdet.report import charts
from pld_mmdet.report.pictures import SHOWN_SCORE, Panel, Strip


def pictures(strips: list[Strip], rule: str) -> str:
    """Section with the detections; empty without strips."""
    if not strips:
        return ""
    key = charts.legend(
        [
            ("c-truth", "object (ground truth)"),
            ("c-right", "found"),
            ("c-wrong", "wrong or double"),
            ("c-missed", "missed"),
        ]
    )
    return (
        "<h2>What it looks like</h2>"
        f"<p class='soft'>{escape(rule)} Shown are detections with a score of at least"
        f" {SHOWN_SCORE:g}; found means the right class and an IoU above 0.5.</p>{key}"
        + "".join(_strip(strip, f"p{i}") for i, strip in enumerate(strips))
    )


def pseudo_pictures(strips: list[Strip], quality: str = "") -> str:
    """Section with the pseudo labels; empty without strips."""
    if not strips:
        return ""
    key = charts.legend(
        [
            ("c-truth", "object (never shown to the student)"),
            ("c-high", "kept: confident box (HPL)"),
            ("c-low", "mined: low-confidence proposal (LPL)"),
            ("c-dropped", "dropped proposal"),
        ]
    )
    return (
        "<h2>Which pseudo labels the teacher gives</h2><p class='soft'>LPLD's teacher"
        " after adaptation. Confident boxes supervise the student as if they were"
        " labels; mined proposals only pass on which class they would be; dropped ones"
        f" teach nothing.</p><p>{escape(quality)}</p>{key}"
        + "".join(_strip(strip, f"q{i}") for i, strip in enumerate(strips))
    )


def _strip(strip: Strip, name: str) -> str:
    photo = (
        f'<svg class="store" aria-hidden="true"><image id="{name}"'
        f' width="{strip.width}" height="{strip.height}" preserveAspectRatio="none"'
        f' href="data:image/jpeg;base64,{strip.jpeg}"/></svg>'
    )
    figures = "".join(
        _figure(panel, strip, name, k) for k, panel in enumerate(strip.panels)
    )
    odd = " odd" if len(strip.panels) % 2 else ""
    return (
        f'{photo}<p class="name" id="{name}-strip">Test image {strip.index}:'
        f' {escape(strip.file)}</p><div class="strip{odd}"'
        f' style="--n:{len(strip.panels)}">{figures}</div>'
    )


def _figure(panel: Panel, strip: Strip, name: str, k: int) -> str:
    size = strip.width / 70
    marks = []
    for box in panel.boxes:
        x1, y1, x2, y2 = box.xyxy
        frame = (
            f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}"'
            f' height="{max(y2 - y1, 0):.1f}"'
        )
        text = ""
        if box.kind not in ("dropped", "ignored", "low"):
            y = y1 - size * 0.3 if y1 > size * 1.3 else y2 + size
            text = (
                f'<text x="{x1:.1f}" y="{y:.1f}" style="font-size:{size:.1f}px">'
                f"{escape(box.text)}</text>"
            )
        marks.append(
            f'<g class="k-{box.kind}"><title>{escape(box.text)}</title>'
            f'<rect class="halo" {frame}/><rect class="edge" {frame}/>{text}</g>'
        )
    return (
        f'<figure><div class="photo" id="{name}-{k}"><svg viewBox="0 0 {strip.width}'
        f' {strip.height}" role="img" aria-label="{escape(panel.title)}">'
        f'<use href="#{name}"/>{"".join(marks)}</svg>'
        f'<a class="open" href="#{name}-{k}" title="enlarge" aria-label="enlarge">⤢</a>'
        f'<a class="shut" href="#{name}-strip">close ✕</a></div>'
        f"<figcaption><b>{escape(panel.title)}</b>{escape(panel.caption)}</figcaption>"
        "</figure>"
    )
