"""What is about the run, not about the mathematics: loading, seeding, stepping."""

from importlib.util import find_spec

# Importing this package registers its classes. Without mmengine there is nothing to
# register, and pld_mmdet.engine.run.stack must still be there to say what to install.
if find_spec("mmengine") is not None:
    from pld_mmdet.engine.run.optional import import_optimizers

    import_optimizers()  # before anything else imports mmengine.optim

    from pld_mmdet.engine.data.in_turn import InTurnSampler
    from pld_mmdet.engine.data.sampler import ResumableSampler
    from pld_mmdet.engine.data.seeding import SeededDataset
    from pld_mmdet.engine.data.semi_sampler import SemiSampler
    from pld_mmdet.engine.optim.finite import FiniteAmpOptimWrapper, FiniteOptimWrapper
    from pld_mmdet.engine.optim.groups import MergedGroups
    from pld_mmdet.engine.optim.lars import LARS
    from pld_mmdet.engine.optim.parts import PartsOptimConstructor
    from pld_mmdet.engine.run.metrics import ClassificationMetric
    from pld_mmdet.engine.run.runner import SafeRunner

    __all__ = [
        "LARS",
        "ClassificationMetric",
        "FiniteAmpOptimWrapper",
        "FiniteOptimWrapper",
        "InTurnSampler",
        "MergedGroups",
        "PartsOptimConstructor",
        "ResumableSampler",
        "SafeRunner",
        "SeededDataset",
        "SemiSampler",
    ]
