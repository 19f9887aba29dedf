"""Registries of pld_mmdet: children of mmengine's roots, scope ``pld_mmdet``.

mmengine imports this module by itself when a config of any mm* project says
``type='pld_mmdet.<Name>'``, so no ``custom_imports`` is needed. The rooms are then
imported one after the other until the name is found: a classifier's config does not
wait for the import of mmdet.
"""

from importlib import import_module
from importlib.util import find_spec

from mmengine import registry as root
from mmengine.config.utils import MODULE2PACKAGE

from pld_mmdet.quiet import quiet_imports

# So that ``get_config("pld_mmdet::lpld/foggy_cityscapes.py")`` and a ``_base_`` of that
# form find our configs; mmengine knows only its own family by itself.
MODULE2PACKAGE.setdefault("pld_mmdet", "pld_mmdet")

# Cheap ones first; detection imports mmdet.
FAMILIES = [
    f"pld_mmdet.{family}"
    for family in (
        "classification",
        "weak_supervision",
        "dataset_distillation",
        "masked_image_modeling",
        "diffusion",
        "language",
        "audio",
        "segmentation",
        "detection",
    )
]
_ENGINE, _SHARED = ["pld_mmdet.engine"], ["pld_mmdet.shared"]


class LazyRegistry(root.Registry):
    """A registry that imports its rooms one by one, until a name is found.

    Args:
        rooms: Modules whose import registers classes, in the order of looking.
    """

    def __init__(self, name: str, parent: root.Registry, rooms: list[str]) -> None:
        super().__init__(name, parent=parent, scope="pld_mmdet", locations=rooms)
        self._imported = True  # mmengine would import every location at once
        self._rooms = list(rooms)

    def get(self, key: str) -> type | None:
        """The class that is registered under a name, with or without our scope."""
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope):
            while name not in self._module_dict and self._rooms:
                with quiet_imports():
                    import_module(self._rooms.pop(0))
        return super().get(key) or (self._of_mmdet(name) if scope is None else None)

    def _of_mmdet(self, name: str) -> type | None:
        """A bare name that is not ours, as mmdet knows it.

        mmengine marks a config that came by ``_base_ = "pld_mmdet::..."`` with our
        scope, although its bare names (``DetDataPreprocessor``) are those of mmdet.
        """
        if find_spec("mmdet") is None:
            return None
        import_module("mmdet.registry")
        theirs = self.parent.children.get("mmdet") if self.parent else None
        return theirs.get(name) if theirs is not None else None


MODELS = LazyRegistry("model", root.MODELS, [*_ENGINE, *_SHARED, *FAMILIES])
TRANSFORMS = LazyRegistry("transform", root.TRANSFORMS, FAMILIES)
METRICS = LazyRegistry("metric", root.METRICS, [*_ENGINE, *_SHARED, *FAMILIES])
HOOKS = LazyRegistry("hook", root.HOOKS, ["pld_mmdet.engine.hooks", *FAMILIES])
LOOPS = LazyRegistry("loop", root.LOOPS, ["pld_mmdet.engine.loops", *FAMILIES])
RUNNERS = LazyRegistry("runner", root.RUNNERS, _ENGINE)
DATA_SAMPLERS = LazyRegistry("data sampler", root.DATA_SAMPLERS, _ENGINE)
DATASETS = LazyRegistry("dataset", root.DATASETS, [*_ENGINE, *_SHARED, *FAMILIES])
OPTIMIZERS = LazyRegistry("optimizer", root.OPTIMIZERS, _ENGINE)
OPTIM_WRAPPERS = LazyRegistry("optim_wrapper", root.OPTIM_WRAPPERS, _ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = LazyRegistry(
    "optim wrapper constructor",
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    [*_ENGINE, *FAMILIES],
)
