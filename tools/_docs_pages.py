"""What mkdocs adds to docs/: the pages of the top level, and one page a package."""

import ast
import os
import re
from collections import defaultdict
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": None, "CHANGELOG.md": None}
# A page of a few packages, for a quick look: PLD_DOCS_ONLY="distill engine"
ONLY = os.environ.get("PLD_DOCS_ONLY", "").split()

_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?(\))")


def packages() -> dict[str, list[str]]:
    """Modules with something public, by page: ``api/<package>.md``."""
    found = defaultdict(list)
    for path in sorted((ROOT / "pld_mmdet").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = parts[-1]
        if name == "__init__" or name.startswith("_") or ".mim" in parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and not node.name.startswith("_")
        ]
        if public:
            found["api/" + "/".join(parts[1:-1] or ("pld_mmdet",)) + ".md"].append(
                ".".join(parts)
            )
    return found


def on_files(files, config):
    """Add the pages of the top level and of the packages."""
    for name, page in TOP.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page or name, content=text))
    for page, modules in packages().items():
        package = page.removeprefix("api/").removesuffix(".md").replace("/", ".")
        if ONLY and package.split(".")[0] not in ONLY:
            body = "Left out of this build.\n"
        else:
            body = "\n".join(f"::: {module}\n" for module in modules)
        text = f"# {package}\n\n{body}"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links at the site's own pages; a link to nowhere stays and is an error."""
    source = page.file.src_uri
    if source.startswith("api/"):
        return markdown
    origin = ROOT if source in ("index.md", *TOP) else ROOT / "docs"

    def moved(match):
        begin, target, anchor, end = match.groups()
        path = Path(os.path.normpath(origin / target))
        if not path.exists():
            return match[0]
        inside = path.relative_to(ROOT).as_posix()
        if inside.startswith("docs/") and not inside.startswith("docs/results/"):
            inside = inside.removeprefix("docs/")
        elif inside in TOP:
            inside = TOP[inside] or inside
        elif inside.startswith("pld_mmdet/") and inside.endswith(".py"):
            module = inside.removesuffix(".py").replace("/", ".")
            page_of = {m: p for p, modules in packages().items() for m in modules}
            if module not in page_of:
                return match[0]
            inside, anchor = page_of[module], f"#{module}" if not ONLY else ""
        else:
            return match[0]
        return f"{begin}{inside}{anchor or ''}{end}"

    return _LINK.sub(moved, markdown)
