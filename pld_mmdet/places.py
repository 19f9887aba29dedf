"""Where the configs and the tools lie: in a checkout, or inside the installed package.

In a checkout they stand beside the package; an installation carries copies of them in
``pld_mmdet/.mim``, the place where ``mim`` and mmengine's ``get_config`` look.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# Tools of the installed command: name -> (file in tools/, what it does)
TOOLS = {
    "adapt": ("adapt", "adapt a detector to a folder of images without labels"),
    "train": ("train", "run a config"),
    "test": ("test", "evaluate a checkpoint"),
    "export": ("export", "teacher or student as a plain mmdet checkpoint"),
    "sample": ("sample", "pictures from a trained generator"),
    "prepare": ("prepare", "make or convert a data set"),
    "report": ("report", "one HTML page of a finished run"),
    "watch": ("watch", "the page of a run that is still going on"),
    "doctor": ("doctor", "what is installed, what is missing, what mends it"),
    "list": ("list_methods", "the methods and what they were measured to gain"),
}


def home(package: Path = PACKAGE) -> Path:
    """The folder that holds ``configs/`` and ``tools/``.

    Args:
        package: The folder of ``pld_mmdet``.

    Returns:
        The repository if this is a checkout, else the package's ``.mim``.
    """
    beside = package.parent
    if (beside / "setup.py").is_file() and (beside / "tools/train.py").is_file():
        return beside
    return package / ".mim"


def tool(name: str) -> Path:
    """The script of a tool, for example ``tool('train')``."""
    return home() / "tools" / f"{name}.py"


def shipped_config(name: str | Path) -> Path:
    """A config file, or the one of this package that has this name.

    Args:
        name: A path; one that is no file here may be ``configs/lpld/voc.py`` or
            ``pld_mmdet::lpld/voc.py`` of the package.

    Returns:
        The path itself where there is none either.
    """
    text = str(name)
    inner = text.removeprefix("pld_mmdet::").removeprefix("configs/")
    ours = home() / "configs" / inner
    named = inner != text and not Path(name).exists()
    return ours if named and ours.is_file() else Path(name)


def get_config(name: str):
    """Read a config of this package, wherever it is installed.

    Args:
        name: Its path below ``configs/``, such as ``lpld/foggy_cityscapes.py``;
            ``pld_mmdet::`` may stand before it.

    Returns:
        The resolved ``mmengine.Config``.

    Raises:
        UserError: There is no such config; the nearest name is said.
    """
    from difflib import get_close_matches

    from mmengine.config import Config

    from pld_mmdet.errors import UserError

    root = home() / "configs"
    wanted = name.removeprefix("pld_mmdet::").removeprefix("configs/")
    path = root / wanted
    if not path.is_file():
        known = [file.relative_to(root).as_posix() for file in root.rglob("*.py")]
        near = get_close_matches(wanted, known, n=1)
        raise UserError(
            f"There is no config {wanted} in {root}.",
            f"Did you mean {near[0]}?" if near else "pld-mmdet list names them.",
        )
    return Config.fromfile(path)
