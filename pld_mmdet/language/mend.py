"""MEND: demonstrations become a few vectors that a frozen language model reads."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill import divergences
from pld_mmdet.distill._checks import wide
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.kept_answers import KeptAnswers, ask_once, numbers_of
from pld_mmdet.language.learners.causal import IGNORE, next_token_loss
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class MEND(Method):
    r"""Meta demonstration distillation (Li et al., ICLR 2024).

    A hypernetwork, a small language model, reads the demonstrations D and l learnt
    embeddings behind them; its last states there take the place of D::

        S_D  = hypernet([emb(D); e_1 .. e_l]) at the last l places   (Linear, tanh where
                                                                      widths differ)
        z_T  = LLM([D; x]) at the places of x, no gradient
        z_S  = LLM([S_D; emb(x)]) at the places of x
        L    = KL(softmax z_T || softmax z_S)               stage pretrain
        L    = CE(answers) + lambda KL                      stage finetune

    KL at temperature 1, mean over the tokens of x, which both predict their next token
    from the same place on, the last one too. The LLM is frozen; gradients pass through
    it into S_D.

    Stages: ``llm`` trains the LLM where it has no weights (its batches as below, CE of
    the answers), ``pretrain``, ``finetune``. A batch is ``demo_ids`` [B, Td] with
    ``demo_mask`` (padding on the left), and of the query with its answer ``input_ids``
    [B, Tq], ``attention_mask`` (padding on the right) and ``labels``, -100 but at the
    answer. Stage ``pretrain`` also takes plain text, ``input_ids`` and
    ``attention_mask`` alone: the first ``beta`` of a row is D, the rest x.

    The LLM does not move and the data sets here show a query behind the same D each
    time, so z_T can be kept: with ``answers`` the ``work_dataloader`` of a stage is all
    its data in order, both with ``index``. Of each token of x the ``top_k`` largest
    probabilities are kept, exactly; all other tokens count as one, with the rest of the
    mass, so the divergence is a lower bound of the whole one and equal to it where
    ``top_k`` is the vocabulary. Demonstrations that are drawn anew each time (a data
    set of your own) have no answer to keep.

    Deviations from the released code (bigheiniu/MEND, 169e60d): it reads the LLM in 8
    bits, which is also what freezes it; here it is frozen in any precision. The code
    scores each candidate answer as a whole; ``predict`` gives the answers' tokens. The
    code loads stage 1 before stage 2 begins, so its ``virtual_demo_init='vocab'`` has
    no effect: embeddings are drawn once.

    Args:
        llm: Config of a causal network that takes ``inputs_embeds``.
        hypernet: Config of another one over the same vocabulary.
        vectors: l [100, code].
        beta: Share of a text that is D [.8, code].
        kl_weight: lambda [1, code; 0 leaves the CE].
        answers: File of the LLM's kept answers by stage, ``dict(pretrain=FILE,
            finetune=FILE)`` or one of them; one that is there is read, not written
            anew [none: the LLM is asked at each step].
        top_k: Tokens that are kept of each place [100 or the vocabulary].
        predict_on: What stands before the query: ``vectors`` (S_D), ``all`` (D itself),
            ``none``, or ``first_<n>``, the first n tokens of D.

    Raises:
        UserError: Unknown words or stages, or fewer than 1 vector or token.
    """

    default_stage = "finetune"

    def __init__(
        self,
        llm: dict,
        hypernet: dict,
        vectors: int = 100,
        beta: float = 0.8,
        kl_weight: float = 1.0,
        answers: dict[str, str] | None = None,
        top_k: int = 100,
        predict_on: str = "vectors",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not predict_on.removeprefix("first_").isdigit():
            one_of("MEND", predict_on=(predict_on, ("vectors", "all", "none")))
        if min(vectors, top_k) < 1 or not 0 < beta < 1:
            raise UserError(
                f"MEND: vectors={vectors}, beta={beta}, top_k={top_k} leave nothing to "
                "read.",
                "Choose 1 vector and token or more, and beta between 0 and 1.",
            )
        for stage in answers or {}:
            one_of("MEND", answers=(stage, ("pretrain", "finetune")))
        self.llm, self.hypernet = MODELS.build(llm), MODELS.build(hypernet)
        one_vocabulary("MEND", llm=self.llm, hypernet=self.hypernet)
        wide, narrow = self.llm.width, self.hypernet.width
        self.prompts = nn.Parameter(torch.empty(vectors, narrow))
        std = getattr(self.hypernet.model.config, "initializer_range", 0.02)
        nn.init.normal_(self.prompts, std=std)
        self.adapter: nn.Module | None = None
        if wide != narrow:
            self.adapter = nn.Sequential(nn.Linear(narrow, wide), nn.Tanh())
        self.vectors, self.beta, self.kl_weight = vectors, beta, kl_weight
        self.answers, self.top_k, self.predict_on = answers or {}, top_k, predict_on
        self.kept: dict[str, KeptAnswers] = {}
        self.enter_stage(self.default_stage)

    def enter_stage(self, name: str) -> None:
        """The LLM learns in stage ``llm``, all the rest in the others."""
        self.requires_grad_(name != "llm")
        self.llm.requires_grad_(name == "llm")
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def wants_work(self, stage: str) -> str | None:
        """The stage's data, where its answers are kept."""
        return "all samples in order" if stage in self.answers else None

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """The LLM answers before a stage whose answers are kept."""
        if name not in self.answers:
            return
        self.check_work(name, loader)
        self.train(False)
        ask_once("MEND", self.answers[name], self.llm, loader, self._ask)

    def _ask(self, batch: dict) -> tuple[Tensor, Tensor, list[int]]:
        """The LLM's likeliest tokens at the places of x, and how many places a row."""
        batch = self.data_preprocessor(batch, False)
        batch = batch if "demo_ids" in batch else self._split(**batch)
        before, mask, ids, own, _ = self._parts(**batch)
        z = wide(self.after_text(before, mask, ids, own)[own.bool()])
        found = z.softmax(-1).topk(min(self.top_k, z.shape[-1]))
        return found.values, found.indices, own.sum(1).tolist()

    def train(self, mode: bool = True) -> "MEND":
        """The LLM stays in evaluation mode while it is frozen."""
        super().train(mode)
        self.llm.train(mode and self.progress.stage == "llm")
        return self

    def distil(self, demo_ids: Tensor, demo_mask: Tensor | None = None) -> Tensor:
        """Demonstrations [B, Td] -> S_D [B, l, D of the LLM]."""
        mask = torch.ones_like(demo_ids) if demo_mask is None else demo_mask
        read = self.hypernet.embed(demo_ids)
        prompts = self.prompts.to(read.dtype).expand(len(read), -1, -1)
        mask = torch.cat([mask, mask.new_ones(prompts.shape[:2])], 1)
        states = self.hypernet.states(torch.cat([read, prompts], 1), mask)
        vectors = states[:, -self.vectors :]
        return vectors if self.adapter is None else self.adapter(vectors)

    def after_text(self, before: Tensor, mask: Tensor, ids: Tensor, own: Tensor):
        """The LLM's logits [B, Tq, V] of a query that stands behind tokens [B, Td]."""
        whole, seen = torch.cat([before, ids], 1), torch.cat([mask, own], 1)
        places = (seen.cumsum(1) - 1).clamp(min=0)
        return self.llm(whole, seen, places)[:, before.shape[1] :]

    def after_vectors(self, vectors: Tensor, ids: Tensor, own: Tensor) -> Tensor:
        """The LLM's logits [B, Tq, V] of a query that stands behind vectors."""
        read = torch.cat([vectors, self.llm.embed(ids)], 1)
        seen = torch.cat([own.new_ones(vectors.shape[:2]), own], 1)
        z = self.llm(attention_mask=seen, inputs_embeds=read)
        return z[:, vectors.shape[1] :]

    def loss_llm(self, **batch) -> dict[str, Tensor]:
        """Cross-entropy of the answers behind the demonstrations."""
        before, mask, ids, own, targets = self._parts(**batch)
        z = self.after_text(before, mask, ids, own)
        return {"loss_llm": next_token_loss(z, targets)}

    def loss_pretrain(self, **batch) -> dict[str, Tensor]:
        """The divergence alone."""
        if "demo_ids" not in batch:
            batch = self._split(**batch)
        return {"loss_kl": self._both(**batch)[0]}

    def loss_finetune(self, **batch) -> dict[str, Tensor]:
        """Cross-entropy of the answers, and the divergence."""
        kl, z, targets = self._both(kl=self.kl_weight > 0, **batch)
        losses = {"loss_ce": next_token_loss(z, targets)}
        return losses | ({"loss_kl": self.kl_weight * kl} if self.kl_weight else {})

    def _both(
        self, kl: bool = True, index: Tensor | None = None, **batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        before, mask, ids, own, targets = self._parts(**batch)
        z_s = self.after_vectors(self.distil(before, mask), ids, own)
        apart = z_s.new_zeros(())
        stage = self.progress.stage
        if kl and stage in self.answers:
            if stage not in self.kept:
                self.kept[stage] = KeptAnswers(self.answers[stage], self.llm)
            told = z_s[own.bool()]
            p, kept_ids = self.kept[stage].of(
                numbers_of("MEND", {"index": index}), len(told)
            )
            apart = kept_kl(p.to(told.device), kept_ids.to(told.device), told)
        elif kl:
            with torch.no_grad():
                z_t = self.after_text(before, mask, ids, own)
            apart = divergences.kl(z_t, z_s, reduction="none")
            apart = masked_mean(apart, own.bool())
        return apart, z_s, targets

    def _split(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others
    ) -> dict[str, Tensor]:
        """A text's first floor(beta T) tokens as demonstrations, the rest as query."""
        place = int(self.beta * input_ids.shape[1] + 1e-9)
        own = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if bool((own[:, : place + 1] == 0).any()):
            raise UserError(
                "MEND: a text is so short that nothing of it is left for the query.",
                "Cut the texts into rows of full length (PackedText does).",
            )
        return {
            "demo_ids": input_ids[:, :place],
            "demo_mask": own[:, :place],
            "input_ids": input_ids[:, place:],
            "attention_mask": own[:, place:],
            **{k: others[k] for k in ("index",) if k in others},
        }

    @staticmethod
    def _parts(
        demo_ids: Tensor,
        input_ids: Tensor,
        demo_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_,
    ) -> tuple[Tensor, ...]:
        mask = torch.ones_like(demo_ids) if demo_mask is None else demo_mask
        own = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if labels is None:
            labels = torch.full_like(input_ids, IGNORE)
        return (
            demo_ids,
            mask,
            input_ids,
            own,
            F.pad(labels[:, 1:], (0, 1), value=IGNORE),
        )

    def outputs(self, **batch) -> Tensor:
        """Logits [B, Tq, V] of the query behind what ``predict_on`` names."""
        before, mask, ids, own, _ = self._parts(**batch)
        if self.predict_on == "vectors":
            return self.after_vectors(self.distil(before, mask), ids, own)
        if self.predict_on != "all":
            count = self.predict_on.removeprefix("first_")
            count = int(count) if count.isdigit() else 0
            before, mask = before[:, :count], mask[:, :count]
        return self.after_text(before, mask, ids, own)

    def predict(self, **batch) -> list[dict]:
        """Logits [M, V] where an answer's tokens are predicted, and the tokens [M]."""
        targets = self._parts(**batch)[-1]
        counted = targets != IGNORE
        z = self.outputs(**batch)
        return [{"logits": z[counted], "targets": targets[counted]}]


def kept_kl(probabilities: Tensor, ids: Tensor, logits: Tensor) -> Tensor:
    """KL(teacher || student) where K tokens are told apart and all others are one.

    Args:
        probabilities: [M, K], the teacher's largest.
        ids: [M, K], their tokens.
        logits: [M, V], the student's.

    Returns:
        A scalar, the mean over rows; 0 with a gradient path where there is none. At
        most the divergence over all V tokens, and equal to it for K = V.
    """
    tiny = torch.finfo(torch.float32).tiny
    t, z = wide(probabilities), wide(logits)
    s = z.gather(-1, ids)
    if ids.shape[-1] < z.shape[-1]:
        t = torch.cat([t, 1 - t.sum(-1, keepdim=True)], -1)
        others = z.scatter(-1, ids, float("-inf")).logsumexp(-1, keepdim=True)
        s = torch.cat([s, others], -1)
    apart = divergences.kl(t.clamp(min=tiny).log(), s, reduction="none")
    return masked_mean(apart, torch.ones_like(apart))
