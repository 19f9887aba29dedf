"""Learning from pseudo-labels and distillation on the OpenMMLab stack.

Importing this package imports neither torch nor any mm* library: mmengine finds
``pld_mmdet.registry`` by itself when a config says ``type='pld_mmdet.<Name>'``.
"""

__version__ = "0.1.0"
