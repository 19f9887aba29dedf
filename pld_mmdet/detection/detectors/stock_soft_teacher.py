"""mmdet's stock ``SoftTeacher`` config on our Soft Teacher: only ``type`` changes."""

from difflib import get_close_matches

from pld_mmdet.detection.soft_teacher import BoxJitterSoftTeacher
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

# mmdet's ``semi_train_cfg`` -> argument of BoxJitterSoftTeacher
TRAIN_KEYS = dict(
    sup_weight="sup_weight",
    unsup_weight="unsup_weight",
    pseudo_label_initial_score_thr="min_score",
    rpn_pseudo_thr="rpn_threshold",
    cls_pseudo_thr="cls_threshold",
    reg_pseudo_thr="reg_threshold",
    jitter_times="jitter_times",
    jitter_scale="jitter_fraction",
    min_pseudo_bbox_wh="min_box_size",
)
# mmdet's network where ``semi_train_cfg`` or ``semi_test_cfg`` is silent
STOCK = dict(unsup_weight=1.0, predict_on="teacher")


@MODELS.register_module()
class SoftTeacher(BoxJitterSoftTeacher):
    """:class:`BoxJitterSoftTeacher` with the arguments of mmdet's ``SoftTeacher``.

    In a stock config write ``type="pld_mmdet.SoftTeacher"``; its pipelines (branches
    ``unsup_teacher`` and ``unsup_student``), ``MeanTeacherHook`` and
    ``TeacherStudentValLoop`` stay as they are. What then differs from mmdet's own class
    is in ``docs/soft_teacher.md``.

    Args:
        detector: Config of a Faster or Mask R-CNN.
        semi_train_cfg: As in mmdet; without it the authors' numbers count.
        semi_test_cfg: As in mmdet: ``predict_on`` [``teacher``, mmdet's].
        **kwargs: See :class:`BoxJitterSoftTeacher`; one that ``semi_train_cfg`` says
            too is refused.

    Raises:
        UserError: An unknown key, or one with a value that we would not honour.
    """

    default_result = STOCK["predict_on"]

    def __init__(
        self,
        detector: dict,
        semi_train_cfg: dict | None = None,
        semi_test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        translated = {
            **({} if semi_train_cfg is None else _train_arguments(semi_train_cfg)),
            **_test_arguments(semi_test_cfg or {}),
        }
        twice = sorted(set(translated) & set(kwargs))
        if twice:
            raise UserError(
                f"SoftTeacher: {twice[0]} is given twice, by itself and in "
                "semi_train_cfg or semi_test_cfg.",
                "Keep one of them.",
            )
        if "predict_on" not in kwargs:
            translated.setdefault("predict_on", STOCK["predict_on"])
        super().__init__(detector, **translated, **kwargs)


def _train_arguments(cfg: dict) -> dict:
    """Ours out of ``semi_train_cfg``."""
    cfg = dict(cfg)
    if cfg.pop("freeze_teacher", True) is not True:
        raise UserError(
            "SoftTeacher: semi_train_cfg.freeze_teacher is not True. The teacher is a "
            "running average; a gradient never moves it.",
            "Leave freeze_teacher out, or write True.",
        )
    _known("semi_train_cfg", cfg, [*TRAIN_KEYS, "freeze_teacher"])
    size = cfg.get("min_pseudo_bbox_wh")
    if size is not None:
        if len(set(size)) != 1:
            raise UserError(
                f"SoftTeacher: semi_train_cfg.min_pseudo_bbox_wh={tuple(size)} has two "
                "values; here one number bounds both sides.",
                "Write the same number twice.",
            )
        cfg["min_pseudo_bbox_wh"] = size[0]
    cfg.setdefault("unsup_weight", STOCK["unsup_weight"])
    return {TRAIN_KEYS[key]: value for key, value in cfg.items()}


def _test_arguments(cfg: dict) -> dict:
    cfg = dict(cfg)
    _known("semi_test_cfg", cfg, ["predict_on", "forward_on", "extract_feat_on"])
    result = cfg.get("predict_on", STOCK["predict_on"])
    for key in ("forward_on", "extract_feat_on"):
        if cfg.pop(key, result) != result:
            raise UserError(
                f"SoftTeacher: semi_test_cfg.{key} names another network than "
                f"predict_on={result!r}; here one network is the result.",
                f"Leave {key} out.",
            )
    return cfg


def _known(owner: str, cfg: dict, keys: list[str]) -> None:
    for key in cfg:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            raise UserError(
                f"SoftTeacher: {owner}.{key} is not known.",
                f"Did you mean {near[0]}?" if near else f"Known: {', '.join(keys)}.",
            )
