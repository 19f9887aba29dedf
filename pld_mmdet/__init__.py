"""Learning from pseudo-labels and distillation on the OpenMMLab stack.

Importing this package imports neither torch nor any mm* library: mmengine finds
``pld_mmdet.registry`` by itself when a config says ``type='pld_mmdet.<Name>'``.

``pld_mmdet.adapt(config, checkpoint, images)`` adapts a detector, as
``tools/adapt.py`` does; ``pld_mmdet.get_config("lpld/foggy_cityscapes.py")`` reads a
config of this package, wherever it is installed.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import ``adapt`` or ``get_config`` when asked for, and not before."""
    if name == "adapt":
        from pld_mmdet.adaptation import adapt

        return adapt
    if name == "get_config":
        from pld_mmdet.places import get_config

        return get_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
