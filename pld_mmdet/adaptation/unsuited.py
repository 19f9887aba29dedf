"""Detectors that boxes of a teacher cannot train: refused in one sentence."""

from mmengine.config import ConfigDict

from pld_mmdet.errors import UserError

_OTHER = "Take a detector that learns from boxes; docs/adapt.md lists those that do."


def refuse_unsuited(model: ConfigDict) -> None:
    """Refuse, by its config alone, what has no boxes with a class to learn from.

    Nothing is built, so that a language model or a second network is not fetched first.

    Args:
        model: Model config.

    Raises:
        UserError: Why, and what works instead.
    """
    name = str(model.get("type", "")).rpartition(".")[2]
    if "detector" in model and "tracker" not in model:  # a wrapper: what is inside?
        refuse_unsuited(model.detector)
        return
    why = _reason(model, name)
    if why is not None:
        raise UserError(f"{name} cannot be adapted by boxes: {why[0]}.", why[1])


def _reason(model: ConfigDict, name: str) -> tuple[str, str] | None:
    if name == "CLRNet":
        return "it finds lanes, which are no boxes", _OTHER
    roi, rpn = model.get("roi_head"), model.get("rpn_head")
    if "tracker" in model:
        return (
            "it follows objects through videos with a detector inside",
            "Name the config of that detector (its own folder, for example yolox).",
        )
    if "language_model" in model:
        return "it is asked with text, and its classes are words of a prompt", _OTHER
    if "panoptic_fusion_head" in model or "panoptic_head" in model:
        return (
            "it learns from masks of all pixels (panoptic or mask queries), and a "
            "teacher's boxes say nothing about them",
            "Take a detector with a box head, for example MaskRCNN.",
        )
    if any(key.startswith("teacher_") for key in model):
        return (
            "it distils from a teacher of its own while it trains",
            "Name the plain config of its student, for example gfl or paa: their "
            "weights have the same names.",
        )
    preprocessor = str((model.get("data_preprocessor") or {}).get("type", ""))
    if preprocessor.endswith("BoxInstDataPreprocessor"):
        return (
            "it makes mask targets of ground-truth boxes when an image is loaded, "
            "before a teacher has said any",
            _OTHER,
        )
    if roi is not None and rpn is None:
        return (
            "it reads its proposals from a file instead of finding them",
            "Take the same detector with a region proposal network (FasterRCNN).",
        )
    if "bbox_head" not in model and roi is None:
        if rpn is not None:
            return (
                "it finds region proposals, which have no class",
                "Take the detector that is built on it, such as FasterRCNN.",
            )
        if "mask_head" in model:
            return (
                "it predicts masks without boxes",
                "Take a detector with a box head, for example MaskRCNN.",
            )
        return "it has no box head", _OTHER
    return None
