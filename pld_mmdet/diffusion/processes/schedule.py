"""The schedules of diffusers' schedulers at continuous times."""

from pathlib import Path

import torch
from torch import Tensor

from pld_mmdet.diffusion.processes.levels import CosineProcess
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.reading import read_json
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class ScheduleProcess(CosineProcess):
    """The levels of a diffusers scheduler at continuous times: t = level / (T - 1).

    Between two levels log(alpha^2 / sigma^2) is linear. The raw network is told the
    level.

    Args:
        folder: Of a diffusers pipeline or scheduler: ``scheduler_config.json`` in it or
            in its ``scheduler`` folder says everything below.
        schedule: ``linear``, ``scaled_linear`` (square roots of the betas are evenly
            spaced) or ``squaredcos_cap_v2``.
        beta_start, beta_end: Variances of the first and last step; not read by the
            last schedule.
        num_levels: T.
        predicts: As in ``CosineProcess``.
        zero_snr: Nothing of x0 is left at the last level (Lin et al. 2024).
        last: Largest time that is used [1].

    Raises:
        UserError: No such file, or a schedule or prediction that is unknown here.
    """

    def __init__(
        self,
        folder: str | None = None,
        schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_levels: int = 1000,
        predicts: str = "eps",
        zero_snr: bool = False,
        last: float = 1.0,
    ) -> None:
        if folder is not None:
            found = _scheduler_config(folder)
            schedule = found.get("beta_schedule", "linear")
            beta_start = found.get("beta_start", 1e-4)
            beta_end = found.get("beta_end", 0.02)
            num_levels = found.get("num_train_timesteps", 1000)
            zero_snr = found.get("rescale_betas_zero_snr", False)
            says = found.get("prediction_type", "epsilon")
            words = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
            predicts = words.get(says, says)
        super().__init__(predicts, last)
        one_of(
            "ScheduleProcess",
            schedule=(schedule, ("linear", "scaled_linear", "squaredcos_cap_v2")),
        )
        if schedule == "squaredcos_cap_v2":
            ramp = torch.linspace(0, 1, num_levels + 1, dtype=torch.float64)
            bar = torch.cos((ramp + 0.008) / 1.008 * torch.pi / 2) ** 2
            betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
        else:
            power = 0.5 if schedule == "scaled_linear" else 1.0
            ends = beta_start**power, beta_end**power
            betas = torch.linspace(*ends, num_levels, dtype=torch.float64) ** (
                1 / power
            )
        alpha = torch.cumprod(1 - betas, 0).sqrt()
        if zero_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        ratio = 2 * (alpha.clamp(min=1e-8).log() - 0.5 * torch.log(1 - alpha**2))
        self.register_buffer("log_snr", ratio.float(), persistent=False)
        self.num_levels = num_levels

    def clock(self, t: Tensor) -> Tensor:
        """The level."""
        return t * (self.num_levels - 1)

    def _log_snr(self, t: Tensor) -> Tensor:
        place = self.clock(t).clamp(0, self.num_levels - 1)
        below = place.floor().long().clamp(max=self.num_levels - 2)
        low, high = self.log_snr[below], self.log_snr[below + 1]
        return torch.lerp(low, high, place - below)

    def alpha(self, t: Tensor) -> Tensor:
        """Signal at times [...]."""
        return torch.sigmoid(self._log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise at times [...]."""
        return torch.sigmoid(-self._log_snr(t)).sqrt()


def _scheduler_config(folder: str) -> dict:
    for file in ("scheduler/scheduler_config.json", "scheduler_config.json"):
        if (Path(folder) / file).is_file():
            return read_json(Path(folder) / file, what="scheduler's config")
    raise UserError(
        f"{folder} holds no scheduler_config.json.",
        "Name the folder of a diffusers pipeline, or set schedule, betas and predicts.",
    )
