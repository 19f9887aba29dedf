"""Registries of pld_mmdet: children of mmengine's roots, scope ``pld_mmdet``.

mmengine imports this module by itself when a config of any mm* project says
``type='pld_mmdet.<Name>'``, so no ``custom_imports`` is needed. The rooms are then
imported one after the other until the name is found: a classifier's config does not
wait for the import of mmdet.
"""

from importlib import import_module

from mmengine import registry as root

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
                import_module(self._rooms.pop(0))
        return super().get(key)


MODELS = LazyRegistry("model", root.MODELS, [*_ENGINE, *_SHARED, *FAMILIES])
TRANSFORMS = LazyRegistry("transform", root.TRANSFORMS, FAMILIES)
METRICS = LazyRegistry("metric", root.METRICS, [*_ENGINE, *_SHARED, *FAMILIES])
HOOKS = LazyRegistry("hook", root.HOOKS, ["pld_mmdet.engine.hooks", *FAMILIES])
LOOPS = LazyRegistry("loop", root.LOOPS, ["pld_mmdet.engine.loops", *FAMILIES])
RUNNERS = LazyRegistry("runner", root.RUNNERS, _ENGINE)
DATA_SAMPLERS = LazyRegistry("data sampler", root.DATA_SAMPLERS, _ENGINE)
DATASETS = LazyRegistry("dataset", root.DATASETS, [*_ENGINE, *_SHARED, *FAMILIES])
OPTIM_WRAPPERS = LazyRegistry("optim_wrapper", root.OPTIM_WRAPPERS, _ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = LazyRegistry(
    "optim wrapper constructor",
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    [*_ENGINE, *FAMILIES],
)
