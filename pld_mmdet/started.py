"""Commands in the words of the way this program was started.

Texts and errors name ``python tools/NAME.py``, as typed at the root of a checkout. From
another folder, or installed, that line would not work; there it is written anew.
"""

import os
import re
import sys

from pld_mmdet.places import TOOLS, home

INSTALLED = ("pld-mmdet ", "python -m pld_mmdet ")  # argv[0], see __main__
_COMMAND = re.compile(r"(?:python )?(?<![\w/])tools/(\w+)\.(py|sh)\b")


def program() -> str | None:
    """What was typed to start this tool; None where it is no tool of ours."""
    if sys.argv[0].startswith(INSTALLED):
        return sys.argv[0]
    folder = os.path.dirname(sys.argv[0])
    if os.path.realpath(folder) == str(home() / "tools"):
        return f"python {sys.argv[0]}"
    return None


def as_typed(text: str) -> str:
    """A text whose commands work here.

    Args:
        text: With commands of a checkout, such as ``python tools/train.py CONFIG``.
    """
    typed = program()
    if typed is None or os.path.dirname(typed.partition(" ")[2]) == "tools":
        return text
    if typed.startswith(INSTALLED):
        folder = str(home() / "tools")
        prefix = next(one for one in INSTALLED if typed.startswith(one))
        names = {file: prefix + name for name, (file, _) in TOOLS.items()}
    else:
        folder, names = os.path.dirname(sys.argv[0]), {}

    def written(match: re.Match) -> str:
        name, kind = match.groups()
        if kind == "sh":  # "bash" stands before it
            return os.path.join(folder, f"{name}.sh")
        return names.get(name) or f"python {os.path.join(folder, f'{name}.py')}"

    return _COMMAND.sub(written, text)
