"""Several encoders, of which each stage of ``StagedLoop`` trains some."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill.memory import SampleBank
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.language.data.grammar import mask_words
from pld_mmdet.language.data.kept_answers import is_kept, load_answers, save_answers
from pld_mmdet.language.learners.causal import next_token_loss


class StagedEncoders(Method):
    """A method whose stages each train one or several of its networks.

    A subclass says which in ``learns`` and where a network begins in ``origins``; it
    writes ``loss_<stage>`` with :meth:`masked_words` and :meth:`labelled`. All other
    networks are in evaluation mode and without gradient.

    A network takes the weights of its origin until it has been trained: a run that
    begins from a checkpoint in which it was keeps it, also where its stage has no
    iteration.

    Args:
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.
    """

    #: Stage -> names of the modules that it trains.
    learns: ClassVar[Mapping[str, Sequence[str]]] = {}
    #: What every other stage trains.
    otherwise_learns: Sequence[str] = ("student",)
    #: Stage -> (from, to): ``to`` begins it with the body of ``from``.
    origins: ClassVar[Mapping[str, tuple[str, str]]] = {}
    begun: Tensor

    def __init__(
        self, mask_id: int = 3, first_word: int = 4, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.mask_id, self.first_word = mask_id, first_word
        if self.origins:
            self.register_buffer("begun", torch.zeros(len(self.origins)).byte())

    @property
    def learner(self) -> nn.ModuleList:
        """What the current stage trains."""
        names = self.learns.get(self.progress.stage, self.otherwise_learns)
        return nn.ModuleList([getattr(self, name) for name in names])

    def enter_stage(self, name: str) -> None:
        """Freeze everything but the stage's learner."""
        self.requires_grad_(False)
        self.learner.requires_grad_(True)
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """A network that begins as another one does so here."""
        if name not in self.origins:
            return
        source, target = self.origins[name]
        if not self.begun[list(self.origins).index(name)]:
            copy_body(getattr(self, source), getattr(self, target))

    def forward(self, mode: str = "tensor", **batch):
        """As :class:`Method`; a step of a stage remembers that its network is begun."""
        stage = self.progress.stage
        if mode == "loss" and stage in self.origins:
            self.begun[list(self.origins).index(stage)] = 1
        return super().forward(mode, **batch)

    def train(self, mode: bool = True) -> "StagedEncoders":
        """Teachers stay in evaluation mode while they teach."""
        super().train(False)
        self.training = mode
        self.learner.train(mode)
        return self

    def masked_words(
        self, network: nn.Module, ids: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Cross-entropy of a masked language model, mean over the chosen words."""
        ids, labels = self.spoilt(network, ids, mask)
        return self.told(network, ids, mask, labels)

    def spoilt(
        self, network: nn.Module, ids: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Ids with masked words and what stood there, [B, T] each."""
        mask = torch.ones_like(ids) if mask is None else mask
        size = network.model.config.vocab_size
        if max(self.mask_id, self.first_word) >= size:
            raise UserError(
                f"mask_id={self.mask_id} and first_word={self.first_word} do not lie "
                f"in a vocabulary of {size} words.",
                "Set both in `model` to those of your tokenizer (mask_token_id; ids "
                "below first_word are special).",
            )
        return mask_words(ids, mask, size, self.mask_id, self.first_word)

    def told(
        self, network: nn.Module, ids: Tensor, mask: Tensor | None, labels: Tensor
    ) -> Tensor:
        """Cross-entropy with ``labels`` [B, T], -100 where nothing is asked."""
        return next_token_loss(network(ids, mask), labels)

    @torch.no_grad()
    def keep_answers(
        self,
        network: nn.Module,
        loader: DataLoader | None,
        bank: SampleBank,
        path: str | None = None,
    ) -> None:
        """Write a teacher's logits of every sample, made in evaluation mode.

        Args:
            network: The teacher.
            loader: All samples in order, with ``index``.
            bank: Where they go.
            path: File that keeps them: read where it is there, else written [none].

        Raises:
            UserError: No data, data without ``index``, or a file that does not fit.
        """
        if is_kept(path):
            bank.rows.copy_(load_answers(path, bank.rows.shape, network))
            return
        self.train(False)
        for batch in loader:
            if "index" not in batch:
                raise UserError(
                    f"Stage {self.progress.stage} has no numbered texts to answer.",
                    "Give it a work_dataloader with all texts in order, whose data "
                    "set has indexed=True.",
                )
            if int(batch["index"].max()) >= len(bank.rows):
                raise UserError(
                    f"There are more than samples={len(bank.rows)} texts to answer.",
                    "Set model.samples to (texts of the work_dataloader, classes).",
                )
            batch = self.data_preprocessor(batch, False)
            logits = network(batch["input_ids"], batch.get("attention_mask"))
            bank.write(batch["index"], logits)
        if path is not None and is_main_process():
            save_answers(path, bank.rows, network)

    def labelled(
        self,
        network: nn.Module,
        ids: Tensor,
        mask: Tensor | None,
        targets: Tensor | None,
    ) -> Tensor:
        """Cross-entropy of a classifier.

        Raises:
            UserError: The stage was given data without labels.
        """
        if targets is None:
            raise UserError(
                f"Stage {self.progress.stage} was given data without labels.",
                "Give its entry in train_cfg.stages a dataloader whose samples have "
                "`targets`.",
            )
        return F.cross_entropy(network(ids, mask).float(), targets)

    def outputs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> Tensor:
        """Logits [B, K] of the network that ``predict_on`` names."""
        return getattr(self, self.predict_on)(input_ids, attention_mask)


def bank_for(
    who: str, samples: tuple[int, int] | None, answers: str | None
) -> SampleBank | None:
    """Memory for a teacher's logits, or none.

    Args:
        who: Name of the method, for messages.
        samples: (texts, classes) [none: no memory].
        answers: File that keeps them too.

    Raises:
        UserError: A file without ``samples`` would never be written.
    """
    if samples is None and answers is not None:
        raise UserError(
            f"{who}: answers={answers!r} would keep nothing, because samples is None.",
            "Set model.samples to (texts of the work_dataloader, classes).",
        )
    return None if samples is None else SampleBank(*samples)


def copy_body(source: nn.Module, target: nn.Module) -> None:
    """Give a network another one's weights, all but its head.

    Raises:
        UserError: The two differ in shape.
    """
    ours, theirs = target.body.state_dict(), source.body.state_dict()
    common = {k: v for k, v in theirs.items() if k in ours}
    wrong = [k for k, v in common.items() if v.shape != ours[k].shape]
    lacking = [k for k in ours if k not in theirs and "pooler" not in k]
    if wrong or lacking:
        raise UserError(
            f"A network cannot begin as another one: {(wrong + lacking)[0]} differs.",
            "Give both the same sizes.",
        )
    target.body.load_state_dict(common, strict=False)
