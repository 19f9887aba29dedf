"""Optional libraries: imported where a config asks for them, or named when missing."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from pld_mmdet.errors import UserError


def require(name: str, extra: str) -> ModuleType:
    """Import an optional library.

    Args:
        name: Module, e.g. ``'transformers'`` or ``'sklearn.datasets'``.
        extra: The extra of setup.py that installs it, e.g. ``'language'``.

    Returns:
        The imported module.

    Raises:
        UserError: If the library is not installed; names the extra.
    """
    library = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        # A module that is missing inside an installed library is another problem.
        if error.name != library:
            raise
        raise UserError(
            f"This config needs {library}, which is not installed.",
            f"pip install 'pld-mmdet[{extra}]'  (in a checkout: '.[{extra}]')",
        ) from error


def import_optimizers() -> None:
    """Import ``mmengine.optim`` without transformers, of which it takes one class.

    transformers (and peft with it) is half of what a tool loads at its start.
    ``Adafactor`` stays a name of ``OPTIMIZERS``; building it imports the library.
    Without the library, or where somebody has imported either before, nothing changes.
    """
    library = "transformers"
    loaded = {"mmengine.optim", library} & sys.modules.keys()
    if loaded or find_spec(library) is None:
        import_module("mmengine.optim")
        return
    sys.modules[library] = None  # an import of it says that it is not installed
    try:
        optim = import_module("mmengine.optim")
    finally:
        del sys.modules[library]

    def adafactor(*args, **kwargs):
        """Adafactor of transformers."""
        return require(library, "language").Adafactor(*args, **kwargs)

    if "Adafactor" not in optim.OPTIMIZERS.module_dict:
        optim.OPTIMIZERS.register_module(name="Adafactor", module=adafactor)
