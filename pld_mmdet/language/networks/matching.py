"""Which layer of a teacher each layer of a student imitates, and how far it is."""

from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.errors import UserError


def layer_map(student_layers: int, teacher_layers: int) -> list[int]:
    """Hidden state of the teacher for each of the student, embeddings first.

    Examples:
        >>> layer_map(4, 12)
        [0, 3, 6, 9, 12]
    """
    step = teacher_layers // student_layers
    return [m * step for m in range(student_layers + 1)]


def last_layers(student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's last hidden states, as many as the student has, none for its own.

    Raises:
        UserError: The student has more layers.

    Examples:
        >>> last_layers(2, 4)
        [2, 3, 4]
    """
    if student_layers > teacher_layers:
        raise UserError(
            f"A student of {student_layers} layers cannot imitate the last ones of "
            f"{teacher_layers}.",
            "Give the teacher at least as many layers.",
        )
    return list(range(teacher_layers - student_layers, teacher_layers + 1))


def matched(student, teacher, places: list[int]) -> Tensor:
    """Sum over student layers of the mean squared error to the layer it imitates.

    Args:
        student: Tensors of the student's layers.
        teacher: Tensors of the teacher's layers.
        places: The teacher's layer for each of the student's.
    """
    return sum(
        F.mse_loss(ours.float(), teacher[place].float())
        for ours, place in zip(student, places, strict=True)
    )
