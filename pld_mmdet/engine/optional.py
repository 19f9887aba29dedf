"""Optional libraries: imported where a config asks for them, or named when missing."""

from importlib import import_module
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
