"""dParallel: a masked-diffusion model learns to be certain of many tokens at once."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill._checks import positive, wide
from pld_mmdet.distill.losses import entropy, masked_mean
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.language.decoding.masked_diffusion import complementary_views, decode
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class DParallel(Method):
    r"""Certainty-forcing distillation (Chen et al., ICLR 2026).

    A masked-diffusion model writes answers one token a call; the same model then learns
    to write these answers with many tokens a call. Of each answer one block is masked
    by halves, and the other half is a second view of it::

        CE_v = mean over masked tokens of the block of -log p(token)
        H_v  = mean over those whose arg max is right of the entropy at temperature 0.5
        L    = CE_1 + CE_2 + w (H_1 + H_2)

    Blocks before it are shown, blocks behind it are masked without a loss. Which
    tokens are right carries no gradient.

    Stages: ``base`` trains the mask predictor (each answer's tokens are masked with a
    probability that is drawn for it, loss divided by that probability, as LLaDA);
    ``distill``, whose ``work_dataloader`` holds the training prompts in order, writes
    the answers first and keeps them in a buffer. Without ``samples`` the batch's own
    answers are learnt: they were written before. A batch is ``input_ids`` [B, L],
    ``prompt_lengths`` [B] and ``index`` [B].

    Deviations from the released code (czg1225/dParallel, 2ca4d14): it draws one block
    for the whole batch, of which it has one sample; here each sample has its own.
    Answers are not filtered by an answer key.

    Args:
        network: Config of a mask predictor, [B, L] ids -> [B, L, V] logits.
        mask_id: Of the mask token [126336, LLaDA].
        block: Tokens of one [32, code].
        weight: w [2, code's LLaDA; 1 for its Dream].
        share: Of a block that the first view masks [0.5005, code: 0.5 (1 - 1e-3) +
            1e-3].
        samples: (number of training samples, L): answers are written and kept [none].
        thresholds: Of the entropy when ``predict`` decodes, one after the other [0.5,
            code].
        lora: Arguments of peft's LoraConfig; the rest of the network is frozen [all of
            it learns].

    Raises:
        UserError: A negative weight.
    """

    default_stage = "distill"
    work = {"distill": "the training data in order"}
    answers: Tensor

    def __init__(
        self,
        network: dict,
        mask_id: int = 126336,
        block: int = 32,
        weight: float = 2.0,
        share: float = 0.5005,
        samples: tuple[int, int] | None = None,
        thresholds: Sequence[float] = (0.5,),
        lora: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if weight < 0:
            raise UserError(
                f"DParallel: weight={weight} would reward doubt.",
                "Choose 0 (consistency only) or more.",
            )
        self.network = MODELS.build(network)
        if lora is not None:
            peft = require("peft", "language")
            config = peft.LoraConfig(**lora)
            self.network.model = peft.get_peft_model(self.network.model, config)
        self.mask_id, self.block, self.weight = mask_id, block, weight
        self.share, self.thresholds = share, tuple(thresholds)
        if samples is not None:
            written = torch.full(tuple(samples), -1)
            self.register_buffer("answers", written)
        self.writes = samples is not None

    def wants_work(self, stage: str) -> str | None:
        """Nothing where the data's own answers are the model's."""
        return super().wants_work(stage) if self.writes else None

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Write the answers, one token a call, before ``distill`` begins."""
        if name != "distill" or not self.writes:
            return
        self.check_work(name, loader)
        self.train(False)
        for batch in loader:
            batch = self.data_preprocessor(batch, False)
            written, _ = decode(
                self.network,
                batch["input_ids"],
                batch["prompt_lengths"],
                self.mask_id,
                self.block,
                threshold=-1.0,
            )
            self.answers[batch["index"]] = written
        all_reduce(self.answers, op="max")  # each process wrote its part; -1 elsewhere

    def loss_base(
        self, input_ids: Tensor, prompt_lengths: Tensor, **_
    ) -> dict[str, Tensor]:
        """Bound on the likelihood of a masked-diffusion model (LLaDA, eq. 5)."""
        share = torch.rand(len(input_ids), 1, device=input_ids.device)
        share = 1e-3 + (1 - 1e-3) * share
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        answer = place >= prompt_lengths[:, None]
        masked = answer & (torch.rand(input_ids.shape, device=share.device) < share)
        z = self.network(input_ids.masked_fill(masked, self.mask_id))
        nll = F.cross_entropy(z[masked].float(), input_ids[masked], reduction="none")
        nll = nll / share.expand_as(masked)[masked]
        return {"loss_base": nll.sum() / answer.sum().clamp(min=1)}

    def loss_distill(
        self,
        input_ids: Tensor,
        prompt_lengths: Tensor,
        index: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Consistency and certainty of both views."""
        if self.writes:
            input_ids = self.answers[index]
            if bool((input_ids < 0).any()):
                raise UserError(
                    "DParallel: samples of this batch have no written answer.",
                    "Let stage distill's work_dataloader be all of its training data.",
                )
        *views, first, second = complementary_views(
            input_ids, prompt_lengths, self.block, self.share, self.mask_id
        )
        ce, certainty = 0, 0
        for view, masked in zip(views, (first, second), strict=True):
            z, targets = self.network(view)[masked].float(), input_ids[masked]
            total = F.cross_entropy(z, targets, reduction="sum")
            ce = ce + total / max(len(targets), 1)
            if self.weight:
                certainty = certainty + certainty_loss(z, targets)
        losses = {"loss_consistency": ce}
        if self.weight:
            losses["loss_certainty"] = self.weight * certainty
        return losses

    def predict(self, input_ids: Tensor, prompt_lengths: Tensor, **_) -> list[dict]:
        """By threshold the filled ids [B, L] and the network calls [B]; the batch."""
        decoded = {
            one: decode(
                self.network, input_ids, prompt_lengths, self.mask_id, self.block, one
            )
            for one in self.thresholds
        }
        return [{"input_ids": input_ids, "decoded": decoded}]

    def outputs(self, input_ids: Tensor, **_) -> Tensor:
        """Logits [B, L, V]."""
        return self.network(input_ids)


def certainty_loss(logits: Tensor, targets: Tensor, temperature: float = 0.5) -> Tensor:
    """Mean entropy of the rows whose arg max is right.

    Args:
        logits: [M, V].
        targets: [M].
        temperature: Divides the logits, > 0 [0.5, code; decoding has 1].

    Returns:
        A scalar; 0 with a gradient path (of zeros) if no row is right. Which rows are
        right has no gradient.

    Raises:
        UserError: No positive temperature, or other numbers of rows.
    """
    positive("certainty_loss", temperature=temperature)
    if logits.dim() != 2 or targets.shape != logits.shape[:1]:
        raise UserError(
            f"certainty_loss: logits {tuple(logits.shape)} and targets "
            f"{tuple(targets.shape)} are not [M, V] and [M].",
            "Give the masked positions only.",
        )
    right = logits.argmax(-1) == targets if len(targets) else targets.bool()
    return masked_mean(entropy(wide(logits) / temperature), right)
