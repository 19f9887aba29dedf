"""Registries of pld_mmdet: children of mmengine's roots, scope ``pld_mmdet``.

mmengine imports this module by itself when a config of any mm* project says
``type='pld_mmdet.<Name>'``; the ``locations`` are imported at the first look-up. So
no ``custom_imports`` is needed, and no optional library is imported before a config
asks for it.
"""

from mmengine import registry as root

_ENGINE = ["pld_mmdet.engine"]
_DETECTION = ["pld_mmdet.detection"]


def _child(name: str, parent: root.Registry, locations: list[str]) -> root.Registry:
    return root.Registry(name, parent=parent, scope="pld_mmdet", locations=locations)


MODELS = _child("model", root.MODELS, _DETECTION)
TRANSFORMS = _child("transform", root.TRANSFORMS, _DETECTION)
METRICS = _child("metric", root.METRICS, _DETECTION)
HOOKS = _child("hook", root.HOOKS, ["pld_mmdet.engine.hooks"])
LOOPS = _child("loop", root.LOOPS, ["pld_mmdet.engine.loops"])
RUNNERS = _child("runner", root.RUNNERS, _ENGINE)
DATA_SAMPLERS = _child("data sampler", root.DATA_SAMPLERS, _ENGINE)
DATASETS = _child("dataset", root.DATASETS, _ENGINE + _DETECTION)
OPTIM_WRAPPERS = _child("optim_wrapper", root.OPTIM_WRAPPERS, _ENGINE)
