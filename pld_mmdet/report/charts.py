"""Small SVG charts. Colours and fonts come from the page's style sheet."""

import math
from collections.abc import Callable

from markupsafe import Markup

from pld_mmdet.report.markup import html, joined

Point = tuple[float, float]


def ladder(
    rows: list[tuple[str, str, list[float]]],
    mark: tuple[str, float] | None = None,
    write: Callable[[float], str] = "{:.1f}".format,
) -> Markup:
    """Horizontal bars up to the mean, a circle per seed; plain HTML, so it can narrow.

    Args:
        rows: (title, CSS colour class, values).
        mark: (name, value) of a reference line.
        write: A value as text.
    """
    tops = [value for _, _, values in rows for value in values]
    high = max([*tops, *([mark[1]] if mark else []), 0.0]) * 1.02 or 1.0

    def place(value: float) -> float:
        return 100 * max(value, 0.0) / high

    line = note = ""
    if mark:
        line = html('<i class="ref" style="left:{:.2f}%"></i>', place(mark[1]))
        note = html('<p class="soft refnote">{}: {}</p>', mark[0], write(mark[1]))
    parts = []
    for title, colour, values in rows:
        mean = sum(values) / len(values)
        dots = joined(
            html(
                '<i class="dot" style="left:{:.2f}%" title="{}"></i>',
                place(value),
                write(value),
            )
            for value in values
            if len(values) > 1
        )
        parts.append(
            html(
                '<div class="rung {}"><span>{}</span><div class="track">{}'
                '<i class="bar" style="width:{:.2f}%"></i>{}</div><b>{}</b></div>',
                colour,
                title,
                line,
                place(mean),
                dots,
                write(mean),
            )
        )
    return html('<div class="ladder">{}{}</div>', joined(parts), note)


def bar_groups(
    groups: list[str],
    series: list[tuple[str, str, list[float | None]]],
    notes: dict[str, int] | None = None,
) -> Markup:
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

    def below(middle: float, down: int, css: str, text: object) -> Markup:
        return html(
            '<text class="{}" x="{:.1f}" y="{}" text-anchor="middle">{}</text>',
            css,
            middle,
            bottom + down,
            text,
        )

    parts = [
        html(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>',
            *(left, width, y(t), left - 6, y(t) + 4, t),
        )
        for t in range(0, high + 1, 20)
    ]
    for g, name in enumerate(groups):
        start = left + gap / 2 + group * g
        middle = start + bar * len(series) / 2
        parts.append(below(middle, 20, "label", name))
        if notes and name in notes:
            parts.append(below(middle, 36, "tick", notes[name]))
        for s, (title, colour, values) in enumerate(series):
            value = values[g]
            if value is None:
                continue
            parts.append(
                html(
                    "<g><title>{name}, {title}: {value:.1f}</title>"
                    '<rect class="fill {colour}" x="{x:.1f}" y="{y:.1f}" width="{w}"'
                    ' height="{h:.1f}" rx="2"/><text class="tiny" x="{middle:.1f}"'
                    ' y="{above:.1f}" text-anchor="middle">{value:.0f}</text></g>',
                    name=name,
                    title=title,
                    value=value,
                    colour=colour,
                    x=start + bar * s + 1,
                    y=y(value),
                    w=bar - 2,
                    h=max(bottom - y(value), 0.8),
                    middle=start + bar * (s + 0.5),
                    above=y(value) - 4,
                )
            )
    return _svg(width, height, parts, "AP50 in groups")


def line_chart(
    title: str,
    series: list[tuple[str, list[Point], bool]],
    floor: float | None = 0.0,
    high: float | None = None,
) -> Markup:
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

    parts = [html('<text class="label strong" x="0" y="13">{}</text>', title)]
    parts += [
        html(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>',
            *(left, width - right, py(tick), left - 6, py(tick) + 4, tick_text(tick)),
        )
        for tick in ticks
    ]
    parts += [
        html(
            '<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{:g}{}</text>',
            *(px(value), bottom + 17, anchor, value, " it" if value else ""),
        )
        for value, anchor in ((0, "start"), (last, "end"))
    ]
    for colour, points, dashed in series:
        if len(points) == 1:
            (x, y), *_ = points
            dot = '<circle class="fill {}" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            parts.append(html(dot, colour, px(x), py(y)))
            continue
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        kind = "dashed " if dashed else ""
        line = '<polyline class="line {}{}" points="{}"/>'
        parts.append(html(line, kind, colour, path))
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


def legend(entries: list[tuple[str, str]]) -> Markup:
    """HTML legend from (CSS colour class, text)."""
    item = '<li><span class="key {}"></span>{}</li>'
    return html(
        '<ul class="legend">{}</ul>', joined(html(item, *entry) for entry in entries)
    )


def _svg(width: float, height: float, parts: list[Markup], name: str) -> Markup:
    return html(
        '<svg class="chart" viewBox="0 0 {0} {1}" style="--w:{0}px" role="img"'
        ' aria-label="{2}">{3}</svg>',
        *(width, height, name, joined(parts)),
    )
