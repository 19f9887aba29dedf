"""AutoDistil: one training for all student sizes, then a search without labels."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.dist import all_reduce, broadcast, is_main_process
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pld_mmdet.distill.relations import relation_kl, relation_mse, relation_scores
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.learners.stages import StagedEncoders
from pld_mmdet.language.networks.elastic import Size, parameters, sub_sizes
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class AutoDistil(StagedEncoders):
    """Few-shot task-agnostic architecture search (Xu et al., NeurIPS 2022).

        distill   each step: the largest, the smallest and two other sub-networks of one
                  set of weights, drawn by the step's number; their losses are added.
                  L = sum over Q, K, V of the last layer of
                      MSE(X_S X_S^T / sqrt d_S, X_T X_T^T / sqrt d_T)
        search    the loss of every sub-network on held-out text; the best one with at
                  most ``most_parameters`` is chosen
        alone     the chosen one goes on by itself (the same loss)
        finetune  cross-entropy of the chosen one with the labels

    Relations have the teacher's number of heads R on both sides: a student's queries
    are cut to R floor(A D / R) channels. What the mask hides is left out of the
    difference and stays in the divisor, as in the code, where both sides have the same
    large negative number there. The weights begin as the teacher's; ``mlm`` trains a
    teacher where none is given.

    Deviations from the released code (microsoft/autodistil, ea5cc7f): the four losses
    are added before one backward pass, which gives the same gradient; the terms that
    its configs weight by 0 (hidden states, logits) are left out. The paper's softmax
    and KL are ``relation='kl'``.

    Args:
        teacher: Config of the encoder with a head for masked words, a BERT.
        student: Config of an ``ElasticEncoder`` of the teacher's size.
        space: ``layers``, ``heads``, ``width``, ``ratio``: the values of each.
        most_parameters: Cap of the search [none].
        pick: ``best``, or ``random``: any sub-network under the cap (rival).
        relation: ``mse`` [code] or ``kl`` [paper].
        only: Train this sub-network alone in ``distill`` (baseline); it is chosen.
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.

    Raises:
        UserError: Unknown words, sizes that do not fit, or a cap below the smallest.
    """

    learns: ClassVar = {"mlm": ["teacher"]}
    origins: ClassVar = {"distill": ("teacher", "student")}
    losses: Tensor
    chosen: Tensor

    work = {"search": "text that no stage trains on"}

    def __init__(
        self,
        teacher: dict,
        student: dict,
        space: dict[str, Sequence[float]],
        most_parameters: float | None = None,
        pick: str = "best",
        relation: str = "mse",
        only: Sequence[float] | None = None,
        mask_id: int = 3,
        first_word: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(mask_id, first_word, init_cfg)
        one_of(
            "AutoDistil",
            pick=(pick, ("best", "random")),
            relation=(relation, ("mse", "kl")),
        )
        self.student = MODELS.build(student)
        self.teacher = MODELS.build(teacher)
        one_vocabulary("AutoDistil", student=self.student, teacher=self.teacher)
        self.heads = self.teacher.model.config.num_attention_heads
        shape = len(self.student.words.weight), len(self.student.places.weight)
        self.sizes = sorted(sub_sizes(**space), key=lambda s: parameters(s, self.heads))
        self.counts = [parameters(s, self.heads, *shape) for s in self.sizes]
        if only is not None:
            self.sizes, self.counts = [Size(*only)], [0.0]
        for size in self.sizes:
            self.student.become(size)  # refuses what does not fit
        cap = float("inf") if most_parameters is None else most_parameters
        self.allowed = [i for i, count in enumerate(self.counts) if count <= cap]
        if not self.allowed:
            raise UserError(
                f"AutoDistil: no sub-network has at most {cap:.0f} parameters.",
                f"The smallest has {min(self.counts):.0f}.",
            )
        self.pick, self.relation = pick, relation
        self.register_buffer("losses", torch.full((len(self.sizes),), -1.0))
        self.register_buffer("chosen", torch.tensor(self.allowed[-1]))

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """The student begins as the teacher; ``search`` chooses."""
        self.check_work(name, loader)
        if name == "distill":
            if not self.begun[0]:
                self.student.load_bert(self.teacher.body)
        elif name == "search":
            self.search(loader, folder)

    def check_stage(self, stage: str) -> None:
        """``search`` is a stage of offline work."""
        if stage != "search":
            super().check_stage(stage)

    def sampled(self, step: int) -> list[Size]:
        """The largest, the smallest and two others, the same on every process."""
        if len(self.sizes) < 4:
            return self.sizes[::-1]
        others = random.Random(step).sample(self.sizes[1:-1], 2)
        return [self.sizes[-1], self.sizes[0], *others]

    @torch.no_grad()
    def search(self, loader: DataLoader, folder: Path) -> None:
        """Loss of every sub-network on held-out text; choose under the cap."""
        self.train(False)
        total = torch.zeros(len(self.sizes) + 1)
        for batch in loader:
            batch = self.data_preprocessor(batch, False)
            ids, mask = batch["input_ids"], batch.get("attention_mask")
            theirs = self.teacher_relations(ids, mask)
            for place, size in enumerate(self.sizes):
                total[place] += len(ids) * float(self.apart(size, theirs, ids, mask))
            total[-1] += len(ids)
        all_reduce(total)
        self.losses.copy_(total[:-1] / total[-1])
        if self.pick == "best":
            self.chosen.fill_(min(self.allowed, key=lambda i: float(self.losses[i])))
        else:
            drawn = torch.randint(len(self.allowed), ()).item()
            self.chosen.fill_(self.allowed[drawn])
        broadcast(self.chosen)  # of one mind, whatever each has drawn
        if folder is not None and is_main_process():
            rows = ["layers,heads,width,ratio,parameters,loss,chosen"]
            rows += [
                f"{','.join(map(str, size))},{count:.0f},{loss:.6g},{i == self.chosen}"
                for i, (size, count, loss) in enumerate(
                    zip(self.sizes, self.counts, self.losses.tolist(), strict=True)
                )
            ]
            Path(folder, "search.csv").write_text("\n".join(rows) + "\n")

    @property
    def choice(self) -> Size:
        """The sub-network that was chosen (before a search: the largest allowed)."""
        return self.sizes[int(self.chosen)]

    def loss_mlm(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Masked words, the teacher."""
        loss = self.masked_words(self.teacher, input_ids, attention_mask)
        return {"loss_mlm": loss}

    def loss_distill(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """The loss of each sub-network of this step."""
        theirs = self.teacher_relations(input_ids, attention_mask)
        sizes = self.sampled(self.progress.step)
        names = ("largest", "smallest", "other_1", "other_2")
        return {
            f"loss_{name}": self.apart(size, theirs, input_ids, attention_mask)
            for name, size in zip(names, sizes, strict=False)
        }

    def loss_alone(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """The loss of the chosen sub-network."""
        theirs = self.teacher_relations(input_ids, attention_mask)
        found = self.apart(self.choice, theirs, input_ids, attention_mask)
        return {"loss_alone": found}

    def loss_finetune(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy of the chosen sub-network."""
        self.student.become(self.choice)
        found = self.labelled(self.student, input_ids, attention_mask, targets)
        return {"loss_finetune": found}

    @torch.no_grad()
    def teacher_relations(self, ids: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Relation scores [B, R, T, T] of the last layer's queries, keys, values."""
        asked = self.teacher.body.encoder.layer[-1].attention.self
        found = {}

        def keep(name: str):
            return lambda _, __, answer: found.update({name: answer})

        names = ("query", "key", "value")
        hooks = [getattr(asked, n).register_forward_hook(keep(n)) for n in names]
        try:
            self.teacher.body(input_ids=ids, attention_mask=mask)
        finally:
            for hook in hooks:
                hook.remove()
        return [relation_scores(found[name], self.heads) for name in names]

    def apart(
        self, size: Size, theirs: list[Tensor], ids: Tensor, mask: Tensor | None
    ) -> Tensor:
        """L of one sub-network."""
        self.student.become(size)
        _, parts = self.student.inside(ids, mask)
        return sum(
            relation_gap(t, relations(s, self.heads), mask, self.relation)
            for t, s in zip(theirs, parts, strict=True)
        )

    def outputs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> Tensor:
        """Logits [B, K] of the chosen sub-network."""
        self.student.become(self.choice)
        return self.student(input_ids, attention_mask)

    def extracted(self) -> nn.Module:
        """The chosen sub-network as a network of its own."""
        self.student.become(self.choice)
        return self.student.extracted()


def relations(x: Tensor, heads: int) -> Tensor:
    """Relation scores [B, R, T, T] of what is cut to R equal heads.

    Args:
        x: Queries, keys or values [B, T, C].
        heads: R; the first R floor(C / R) channels are used.
    """
    return relation_scores(x[..., : heads * (x.shape[-1] // heads)], heads)


def relation_gap(
    teacher: Tensor, student: Tensor, mask: Tensor | None, kind: str
) -> Tensor:
    """How far two relations are apart where the mask shows the key.

    Args:
        teacher: Scores [B, R, T, T].
        student: Of the same shape.
        mask: [B, T], 1 where a token is real [all].
        kind: ``mse`` of the scores, or ``kl`` of their softmax.
    """
    if mask is not None:
        hidden, value = mask[:, None, None] == 0, 0.0 if kind == "mse" else -1e4
        teacher, student = (x.masked_fill(hidden, value) for x in (teacher, student))
    return (relation_mse if kind == "mse" else relation_kl)(teacher, student)
