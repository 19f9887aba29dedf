"""HTML that escapes every value by construction: templates and small pieces.

A value that is no :class:`markupsafe.Markup` is escaped where it enters, in a template
and in :func:`html` alike, so that no page can forget it.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not a gap
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    return environment


def render(template: str, **values) -> Markup:
    """Fill a file of ``templates/``; a name that it reads must be there."""
    return Markup(_environment().get_template(template).render(**values))


def encoded(page: str) -> bytes:
    """The bytes of a page; half letters of broken names and jsons become ``?``."""
    return page.encode("utf-8", "replace")


def macro(template: str, name: str, *values) -> Markup:
    """Call a macro of a file of ``templates/``."""
    return getattr(_environment().get_template(template).module, name)(*values)


def part(name: str, *values) -> Markup:
    """A section of the page of one run, from ``run_parts.html``."""
    return macro("run_parts.html", name, *values)


def asset(name: str) -> Markup:
    """A style sheet or script of ``templates/``, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def html(text: str, *values, **named) -> Markup:
    """``str.format`` whose values are escaped.

    Examples:
        >>> html("<b>{}</b> {:.1f}", "5 < 6", 1.25)
        Markup('<b>5 &lt; 6</b> 1.2')
    """
    return Markup(text).format(*values, **named)


def joined(parts: Iterable, between: str = "") -> Markup:
    """Pieces one after the other."""
    return Markup(between).join(parts)
