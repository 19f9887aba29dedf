"""The one exponential moving average (EMA) of the project.

A teacher is the average of its student's past: ``teacher = keep * teacher +
(1 - keep) * student``. What a method chooses (keep rate, unit, moment, ramp) is policy
and lives in :class:`pld_mmdet.engine.hooks.TeacherEMAHook`; this file holds the
arithmetic and the pairing.
"""

import torch
from torch import Tensor, nn

from pld_mmdet.distill.teachers import Teacher

BUFFER_POLICIES = ("average", "copy", "keep")


def paired_tensors(
    teacher: nn.Module, student: nn.Module
) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """The tensors of two networks, paired by name and shape, as they are now.

    Args:
        teacher: A wrapper of ``pld_mmdet.distill.teachers`` stands for the network in
            it, here as everywhere in this file.
        student: The other network.

    Returns:
        Two lists of ``(teacher, student)`` tensors: parameters, then buffers. One that
        is shared under two names appears once.

    Raises:
        ValueError: Names or shapes differ; the message lists all of them.
    """
    parameters, buffers = (
        [(home[key], theirs[name][0][key]) for name, (home, key) in ours.items()]
        for ours, theirs in zip(*_fitting(teacher, student), strict=True)
    )
    return parameters, buffers


def ema_update(
    teacher: nn.Module, student: nn.Module, keep: float, buffers: str = "average"
) -> None:
    """Move ``teacher`` towards ``student`` in place.

    ``teacher = keep * teacher + (1 - keep) * student`` for every floating-point
    parameter. Integer tensors (batch counters) cannot be averaged and are copied.

    Args:
        teacher: The network that is averaged into, bare or in its wrapper
            (``Averaged``); its dtype and device stay.
        student: The network that is read; it is not changed.
        keep: The share of the teacher that stays, in [0, 1]. 1 changes nothing, 0
            makes an exact copy. (mmdet's ``MeanTeacherHook`` names the other share:
            its ``momentum`` is ``1 - keep``.)
        buffers: What happens to floating-point buffers (batch-norm statistics):
            ``'average'`` like parameters, ``'copy'`` from the student, ``'keep'``
            leaves the teacher's buffers, integer ones included, alone.

    Raises:
        ValueError: ``keep`` or ``buffers`` is out of range, or the networks do not
            have the same tensors; nothing has been changed then.

    Examples:
        >>> teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> _ = nn.init.constant_(teacher.weight, 1)
        >>> _ = nn.init.constant_(student.weight, 3)
        >>> ema_update(teacher, student, keep=0.75)
        >>> teacher.weight.item()
        1.5
    """
    Pairing(teacher, student, buffers).update(keep)


class Pairing:
    """The tensors of two networks, paired and checked once for many updates.

    They are paired by name and shape; one that is shared under two names counts once.
    It remembers *where* tensors are (a module and a name), so that one that a module
    replaces, as ``module.to`` does with buffers, is found at the next update.

    Args:
        teacher: As in :func:`ema_update`, likewise the others.
        student: The network that is read.
        buffers: What happens to floating-point buffers.

    Raises:
        ValueError: As :func:`ema_update`.
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, buffers: str = "average"
    ) -> None:
        if buffers not in BUFFER_POLICIES:
            raise ValueError(
                f"buffers must be one of {BUFFER_POLICIES}, got {buffers!r}"
            )
        self.networks = teacher, student
        pairs = _fitting(teacher, student)
        self._averaged: list[tuple[dict, dict, str]] = []
        self._copied: list[tuple[dict, dict, str]] = []
        for policy, ours, theirs in zip(("average", buffers), *pairs, strict=True):
            if policy == "keep":
                continue
            for name, (home, key) in ours.items():
                average = policy == "average" and home[key].is_floating_point()
                group = self._averaged if average else self._copied
                group.append((home, theirs[name][0], key))

    def fits(self, teacher: nn.Module, student: nn.Module) -> bool:
        """Whether these are the networks that were paired."""
        return self.networks[0] is teacher and self.networks[1] is student

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """One update; see :func:`ema_update`."""
        if not 0.0 <= keep <= 1.0:
            raise ValueError(f"keep must lie in [0, 1], got {keep}")
        for ours, theirs, name in self._copied:
            ours[name].copy_(theirs[name])
        weight = 1.0 - keep  # ours += weight (theirs - ours), in one call for all
        if weight == 0.0 or not self._averaged:
            return
        pairs = [(ours[name], theirs[name]) for ours, theirs, name in self._averaged]
        theirs = [
            b if b.dtype is a.dtype and b.device == a.device else b.to(a)
            for a, b in pairs
        ]
        torch._foreach_lerp_([ours for ours, _ in pairs], theirs, weight)


def _bare(network: nn.Module) -> nn.Module:
    return _bare(network.network) if isinstance(network, Teacher) else network


def _fitting(teacher: nn.Module, student: nn.Module) -> tuple[tuple, tuple]:
    """:func:`_places` of both; names or shapes that differ, all in one message."""
    pairs, problems = (_places(_bare(teacher)), _places(_bare(student))), []
    for pair in zip(*pairs, strict=True):
        ours, theirs = (
            {name: tuple(home[key].shape) for name, (home, key) in places.items()}
            for places in pair
        )
        problems += [f"{n}: only in the teacher" for n in ours.keys() - theirs.keys()]
        problems += [f"{n}: only in the student" for n in theirs.keys() - ours.keys()]
        problems += [
            f"{n}: teacher {shape}, student {theirs[n]}"
            for n, shape in ours.items()
            if theirs.get(n, shape) != shape
        ]
    if problems:
        raise ValueError(
            "teacher and student do not fit together:\n  "
            + "\n  ".join(sorted(problems))
        )
    return pairs


def _places(network: nn.Module) -> tuple[dict[str, tuple], dict[str, tuple]]:
    """Where each parameter and each buffer is, in one walk; a shared tensor once."""
    parameters, buffers, seen = {}, {}, set()
    for prefix, module in network.named_modules():
        dot = f"{prefix}." if prefix else ""
        for found, places in (
            (module._parameters, parameters),
            (module._buffers, buffers),
        ):
            for name, tensor in found.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    places[dot + name] = found, name
    return parameters, buffers


def ramped_keep(step: int, keep: float, warm_up: int = 0) -> float:
    """Keep rate of update number ``step`` (from 0) while the average warms up.

    ``min(keep, 1 - (1 + warm_up) / (step + 1 + warm_up))``: the first update copies
    the student, later ones are an equal-weight mean until ``keep`` is reached
    (Tarvainen and Valpola 2017; Soft Teacher's hook with its ``warm_up``).

    Examples:
        >>> [round(ramped_keep(s, 0.99), 4) for s in (0, 1, 9, 1000)]
        [0.0, 0.5, 0.9, 0.99]
    """
    return min(keep, 1.0 - (1 + warm_up) / (step + 1 + warm_up))
