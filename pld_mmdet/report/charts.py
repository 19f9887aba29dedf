"""Small SVG charts. Colours and fonts come from the page's style sheet."""

import math
from html import escape

Point = tuple[float, float]


def ladder(
    rows: list[tuple[str, str, list[float]]], mark: tuple[str, float] | None = None
) -> str:
    """Horizontal bars up to the mean, a circle per seed; plain HTML, so it can narrow.

    Args:
        rows: (title, CSS colour class, values in percent).
        mark: (name, percent) of a reference line.
    """
    tops = [value for _, _, values in rows for value in values]
    high = max([10.0, *tops, *([mark[1]] if mark else [])]) * 1.02
    line = (
        f'<i class="ref" style="left:{100 * mark[1] / high:.2f}%"></i>' if mark else ""
    )
    parts = []
    for title, colour, values in rows:
        mean = sum(values) / len(values)
        dots = "".join(
            f'<i class="dot" style="left:{100 * value / high:.2f}%"'
            f' title="{value:.1f}"></i>'
            for value in values
            if len(values) > 1
        )
        parts.append(
            f'<div class="rung {colour}"><span>{escape(title)}</span>'
            f'<div class="track">{line}<i class="bar"'
            f' style="width:{100 * mean / high:.2f}%"></i>{dots}</div>'
            f"<b>{mean:.1f}</b></div>"
        )
    note = ""
    if mark:
        note = f'<p class="soft refnote">{escape(mark[0])}: {mark[1]:.1f}</p>'
    return f'<div class="ladder">{"".join(parts)}{note}</div>'


def bar_groups(
    groups: list[str],
    series: list[tuple[str, str, list[float | None]]],
    notes: dict[str, int] | None = None,
) -> str:
    """Vertical bars in groups, one colour per series; None leaves a gap.

    Args:
        groups: Names under the groups.
        series: (title, CSS colour class, one percent value per group).
        notes: A number under the name of a group.
    """
    bar, gap, left, top = 18, 26, 34, 18
    group = bar * len(series) + gap
    width = max(left + group * len(groups) + 10, 300)
    height, bottom = 236 if notes else 222, 192
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
        if notes and name in notes:
            parts.append(
                f'<text class="tick" x="{middle:.1f}" y="{bottom + 36}"'
                f' text-anchor="middle">{notes[name]}</text>'
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
    width, height, left, right, top, bottom = 300, 158, 46, 10, 28, 132
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
            f' y="{py(tick) + 4:.1f}" text-anchor="end">{tick_text(tick)}</text>'
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


def tick_text(value: float) -> str:
    """A tick in the shortest form, if it is long: 0.0025 stays, 0.00025 is 2.5e-4."""
    plain = f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    short = f"{float(mantissa):g}e{int(exponent)}"
    return short if len(plain) > 6 and len(short) < len(plain) else plain


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
