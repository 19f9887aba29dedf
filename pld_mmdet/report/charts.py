"""Small SVG charts. Colours and fonts come from the page's style sheet."""

import math
from html import escape

Point = tuple[float, float]


def dot_chart(
    rows: list[tuple[str, str, list[float]]], marks: list[tuple[str, float]] = ()
) -> str:
    """One line per row: a dot per seed on a common axis, a bar up to the mean.

    Args:
        rows: (title, CSS colour class, values in percent).
        marks: (name, percent): vertical reference lines.
    """
    left, right, top, step = 172, 64, 26, 34
    width = 760
    height = top + step * len(rows) + 30
    span = max([v for _, _, values in rows for v in values] + [m for _, m in marks])
    high = max(10, 10 * math.ceil(span / 10))

    def x(value: float) -> float:
        return left + (width - left - right) * value / high

    bottom = height - 26
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{top - 6}"'
        f' y2="{bottom}"/><text class="tick" x="{x(t):.1f}" y="{bottom + 16}"'
        f' text-anchor="middle">{t}</text>'
        for t in range(0, high + 1, 10)
    ]
    for name, value in marks:
        anchor = "end" if x(value) > width * 0.7 else "middle"
        parts.append(
            f'<line class="mark" x1="{x(value):.1f}" x2="{x(value):.1f}"'
            f' y1="{top - 6}" y2="{bottom}"/><text class="tick strong"'
            f' x="{x(value):.1f}" y="{top - 12}" text-anchor="{anchor}">'
            f"{escape(name)} {value:.1f}</text>"
        )
    for i, (title, colour, values) in enumerate(rows):
        y = top + step * i + step / 2
        mean = sum(values) / len(values)
        parts.append(
            f'<text class="label" x="{left - 12}" y="{y + 4.5:.1f}"'
            f' text-anchor="end">{escape(title)}</text>'
            f'<rect class="fill {colour}" x="{left}" y="{y - 9:.1f}"'
            f' width="{max(x(mean) - left, 0.5):.1f}" height="18" rx="3"/>'
        )
        parts += [
            f'<circle class="dot" cx="{x(v):.1f}" cy="{y:.1f}" r="3.6"/>'
            for v in values
            if len(values) > 1
        ]
        parts.append(
            f'<text class="value" x="{x(max(values)) + 9:.1f}" y="{y + 4.5:.1f}">'
            f"{mean:.1f}</text>"
        )
    return _svg(width, height, parts, "AP50 of each row")


def bar_groups(
    groups: list[str], series: list[tuple[str, str, list[float | None]]]
) -> str:
    """Vertical bars in groups, one colour per series; None leaves a gap.

    Args:
        groups: Names under the groups.
        series: (title, CSS colour class, one percent value per group).
    """
    bar, gap, left, top = 18, 26, 34, 18
    group = bar * len(series) + gap
    width = max(left + group * len(groups) + 10, 300)
    height, bottom = 230, 196
    numbers = [v for _, _, values in series for v in values if v is not None]
    high = max(20, 20 * math.ceil(max(numbers, default=0) / 20))

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / high

    parts = [
        f'<line class="grid" x1="{left}" x2="{width}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y(t) + 4:.1f}"'
        f' text-anchor="end">{t}</text>'
        for t in range(0, high + 1, 20)
    ]
    for g, name in enumerate(groups):
        start = left + gap / 2 + group * g
        middle = start + bar * len(series) / 2
        parts.append(
            f'<text class="label" x="{middle:.1f}" y="{bottom + 20}"'
            f' text-anchor="middle">{escape(name)}</text>'
        )
        for s, (title, colour, values) in enumerate(series):
            value = values[g]
            if value is None:
                continue
            parts.append(
                f"<g><title>{escape(name)}, {escape(title)}: {value:.1f}</title>"
                f'<rect class="fill {colour}" x="{start + bar * s + 1:.1f}"'
                f' y="{y(value):.1f}" width="{bar - 2}"'
                f' height="{max(bottom - y(value), 0.8):.1f}" rx="2"/>'
                f'<text class="tiny" x="{start + bar * (s + 0.5):.1f}"'
                f' y="{y(value) - 4:.1f}" text-anchor="middle">{value:.0f}</text></g>'
            )
    return _svg(width, height, parts, "AP50 in groups")


def line_chart(
    title: str,
    series: list[tuple[str, list[Point], bool]],
    floor: float | None = 0.0,
    high: float | None = None,
) -> str:
    """A small line chart.

    Args:
        title: Written above it.
        series: (CSS colour class, points, dashed).
        floor: Lowest value of the axis; None takes the smallest value.
        high: Highest value of the axis; None takes the largest value.
    """
    width, height, left, right, top, bottom = 300, 158, 40, 10, 28, 132
    xs = [x for _, points, _ in series for x, _ in points]
    ys = [y for _, points, _ in series for _, y in points]
    low = min(ys) if floor is None else floor
    ticks = nice_ticks(low, max(ys) if high is None else high)
    low, top_value = ticks[0], ticks[-1]
    last = max(xs) or 1

    def px(x: float) -> float:
        return left + (width - left - right) * x / last

    def py(y: float) -> float:
        return bottom - (bottom - top) * (y - low) / (top_value - low)

    parts = [f'<text class="label strong" x="0" y="13">{escape(title)}</text>']
    for tick in ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(tick):.1f}"'
            f' y2="{py(tick):.1f}"/><text class="tick" x="{left - 6}"'
            f' y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for value, anchor in ((0, "start"), (last, "end")):
        parts.append(
            f'<text class="tick" x="{px(value):.1f}" y="{bottom + 17}"'
            f' text-anchor="{anchor}">{value:g}{" it" if value else ""}</text>'
        )
    for colour, points, dashed in series:
        kind = "dashed " if dashed else ""
        if len(points) == 1:
            (x, y), *_ = points
            parts.append(
                f'<circle class="fill {colour}" cx="{px(x):.1f}"'
                f' cy="{py(y):.1f}" r="3"/>'
            )
            continue
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line {kind}{colour}" points="{path}"/>')
    return _svg(width, height, parts, title)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers from below ``low`` to above ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough)
    first, last = math.floor(low / step), math.ceil(round(high / step, 9))
    return [round(i * step, 12) for i in range(first, last + 1)]


def legend(entries: list[tuple[str, str]]) -> str:
    """HTML legend from (CSS colour class, text)."""
    items = "".join(
        f'<li><span class="key {colour}"></span>{escape(text)}</li>'
        for colour, text in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _svg(width: float, height: float, parts: list[str], name: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="--w:{width}px"'
        f' role="img" aria-label="{escape(name)}">{"".join(parts)}</svg>'
    )
