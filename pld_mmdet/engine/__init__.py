"""What is about the run, not about the mathematics: loading, seeding, stepping."""

from importlib.util import find_spec

# Importing this package registers its classes. Without mmengine there is nothing to
# register, and pld_mmdet.engine.stack must still be there to say what to install.
if find_spec("mmengine") is not None:
    from pld_mmdet.engine.metrics import ClassificationMetric
    from pld_mmdet.engine.optim import FiniteAmpOptimWrapper, FiniteOptimWrapper
    from pld_mmdet.engine.optim_dict import PartsOptimConstructor
    from pld_mmdet.engine.param_groups import MergedGroups
    from pld_mmdet.engine.runner import SafeRunner
    from pld_mmdet.engine.sampler import ResumableSampler
    from pld_mmdet.engine.seeding import SeededDataset
    from pld_mmdet.engine.semi_sampler import SemiSampler

    __all__ = [
        "ClassificationMetric",
        "FiniteAmpOptimWrapper",
        "FiniteOptimWrapper",
        "MergedGroups",
        "PartsOptimConstructor",
        "ResumableSampler",
        "SafeRunner",
        "SeededDataset",
        "SemiSampler",
    ]
