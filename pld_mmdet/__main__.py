"""``pld-mmdet TOOL ...``, also ``python -m pld_mmdet TOOL ...``: the tools by name.

Each one is the same file as in a checkout's ``tools/``, with the same options.
"""

import sys

from pld_mmdet.places import TOOLS, tool


def usage() -> str:
    """The list of tools, one a line."""
    lines = [f"  {name:<8} {what}" for name, (_, what) in TOOLS.items()]
    return "\n".join(
        [
            "usage: pld-mmdet TOOL ...    (pld-mmdet TOOL --help tells its options)",
            "",
            *lines,
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Run one tool as its script would run.

    Args:
        argv: Name of the tool and its arguments [those of the command line].

    Raises:
        SystemExit: With the tool's exit code; 2 if there is no such tool.
    """
    from pld_mmdet import __version__

    words = sys.argv[1:] if argv is None else argv
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(usage())
        sys.exit(0 if words else 2)
    if name == "--version":
        print(f"pld-mmdet {__version__}")
        sys.exit(0)
    if name not in TOOLS:
        from difflib import get_close_matches

        near = get_close_matches(name, TOOLS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Choose: {', '.join(TOOLS)}."
        print(f"error: There is no tool {name!r}.\nfix:   {hint}", file=sys.stderr)
        sys.exit(2)
    path = tool(TOOLS[name][0])
    module = sys.argv[0].endswith("__main__.py")  # python -m pld_mmdet
    program = "python -m pld_mmdet" if module else "pld-mmdet"
    sys.argv = [f"{program} {name}", *words[1:]]
    # Not runpy: it would put the file's path in place of the name that was typed.
    script = {"__name__": "__main__", "__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), script)


if __name__ == "__main__":
    main()
