"""I2D2: a weak language model learns from its own statements, critically read."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.lines import build_tokenizer, encoded, padded
from pld_mmdet.language.decoding.neurologic import Constraints, neurologic
from pld_mmdet.language.decoding.sampling import sample
from pld_mmdet.language.learners.causal import IGNORE, next_token_loss, trimmed
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class I2D2(Method):
    r"""Inductive distillation with NeuroLogic and self-imitation (ACL 2023).

    Each round, for every prompt ("birds can")::

        candidates   NeuroLogic decoding by the generator as it is: no negation, no
                     connective, no second mention of the concept, ...
        kept         p(valid) of the critic >= threshold, each statement once
        L            = -mean over the kept one's tokens of log p(token), the generator's

    The critic is trained once and does not change over the rounds; self-imitation
    without it is the ablation (``threshold=0``).

    Stages of ``StagedLoop``: ``corpus`` trains the generator where it has no weights
    (batches of ``text``), ``critic`` (``text``, ``targets``: 1 for valid), ``round_1``,
    ``round_2``, ...: their ``work_dataloader`` holds the prompts (``text``, perhaps
    ``concept``) in order, they write ``{folder}/statements.jsonl`` and train on it
    (``prompt``, ``text``). A round's file has only its own statements; with
    ``accumulate`` those of the earlier rounds too. A round without a
    ``work_dataloader`` writes nothing.

    No code of the method was found. The constraint lists, the threshold, whether the
    prompt's tokens are learnt (they are here) and the number of rounds (2) are not
    known; the decoder is that of its authors (:func:`neurologic`). Candidates are
    not cut by likelihood beyond the beam.

    Args:
        generator: Config of a causal network.
        critic: Config of a classifier of two classes, the second is valid.
        words: The generator's tokenizer (``build_tokenizer``).
        critic_words: The critic's [the generator's].
        threshold: Of the critic [.5; not found]; 0 keeps all.
        forbidden: Words and phrases that a statement may not have.
        at_most: ((words, n), ...): at most n of these words [function words, 1].
        concept_once: Whether a prompt's ``concept`` (one word or more, apart by blanks)
            is forbidden behind it.
        decoder: For :func:`neurologic`.
        new_tokens: Of a statement behind its prompt, with the end token.
        accumulate: See above [no].
        predict_on: ``sample`` (the generator alone), ``sample_critic`` (and what the
            critic lets pass), ``constrained_critic``.

    Raises:
        UserError: Unknown words.
    """

    default_stage = "round_1"

    def __init__(
        self,
        generator: dict,
        critic: dict,
        words: str | dict,
        critic_words: str | dict | None = None,
        threshold: float = 0.5,
        forbidden: Sequence[str] = (),
        at_most: Sequence[tuple[Sequence[str], int]] = (),
        concept_once: bool = True,
        decoder: dict | None = None,
        new_tokens: int = 32,
        accumulate: bool = False,
        predict_on: str = "sample",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        ways = ("sample", "sample_critic", "constrained_critic")
        one_of("I2D2", predict_on=(predict_on, ways))
        self.generator, self.critic = MODELS.build(generator), MODELS.build(critic)
        self.words = build_tokenizer(words)
        self.critic_words = build_tokenizer(
            words if critic_words is None else critic_words
        )
        self.threshold, self.concept_once = threshold, concept_once
        self.forbidden = tuple(p for word in forbidden for p in self._phrases(word))
        self.at_most = tuple(
            (frozenset(p[0] for word in counted for p in self._phrases(word)), most)
            for counted, most in at_most
        )
        self.decoder, self.new_tokens = dict(decoder or {}), new_tokens
        self.accumulate, self.predict_on = accumulate, predict_on
        self.enter_stage(self.default_stage)

    def _phrases(self, word: str) -> list[tuple[int, ...]]:
        """A word as ids: at a text's beginning and behind a blank."""
        forms = (word, f" {word}")
        ids = [tuple(self.words.encode(f, add_special_tokens=False)) for f in forms]
        return list(dict.fromkeys(one for one in ids if one))

    def enter_stage(self, name: str) -> None:
        """The critic learns in its own stage only, the generator in all others."""
        self.critic.requires_grad_(name == "critic")
        self.generator.requires_grad_(name != "critic")
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "I2D2":
        """The critic stays in evaluation mode outside its stage."""
        super().train(mode)
        self.critic.train(mode and self.progress.stage == "critic")
        return self

    # -- a round's offline work

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Write what the critic lets pass."""
        if not name.startswith("round") or loader is None:
            return
        self.train(False)
        found: dict[tuple[str, str], float] = {}
        seen = 0
        for batch in loader:
            concepts = batch.get("concept", [""] * len(batch["text"]))
            for prompt, concept in zip(batch["text"], concepts, strict=True):
                told = self.constrained(prompt, concept)
                seen += len(told)
                for text, p in zip(told, self.valid(told), strict=True):
                    if p >= self.threshold:
                        found[prompt, text] = p
        parts = all_gather_object((list(found.items()), seen))
        rows = {key: p for part, _ in parts for key, p in part}
        text = "".join(
            f"{json.dumps(dict(prompt=a, text=b, valid=p))}\n"
            for (a, b), p in rows.items()
        )
        if self.accumulate:
            text = (
                "".join(
                    path.read_text("utf-8")
                    for path in sorted(folder.parent.glob("*_round_*/statements.jsonl"))
                    if path.parent != folder
                )
                + text
            )
        if not text:
            raise UserError(
                f"I2D2: the critic lets none of {sum(n for _, n in parts)} statements "
                f"of stage {name} pass.",
                f"Lower model.threshold ({self.threshold}), or train the generator or "
                "the critic for longer.",
            )
        if is_main_process():
            path = folder / "statements.jsonl"
            write_atomic(path, lambda file: file.write(text.encode()))

    def constrained(self, prompt: str, concept: str = "") -> list[str]:
        """Statements that begin with a prompt and keep to the constraints."""
        own = concept.split() if self.concept_once else []
        forbidden = tuple(p for word in own for p in self._phrases(word))
        ids = torch.tensor(self._begun([prompt])[0], device=self._device)
        told = neurologic(
            self.generator,
            ids,
            Constraints(forbidden=self.forbidden + forbidden, at_most=self.at_most),
            self.new_tokens,
            self.words.eos_token_id,
            **self.decoder,
        )
        texts = [self.words.decode(h.ids, skip_special_tokens=True) for h in told]
        texts = [f"{prompt} {text.strip()}" for text in texts if text.strip()]
        return list(dict.fromkeys(texts))

    @torch.no_grad()
    def valid(self, texts: Sequence[str]) -> list[float]:
        """The critic's p(valid) of each text."""
        if not texts:
            return []
        z = self.critic(*self._read(texts))
        return z.float().softmax(-1)[:, 1].tolist()

    # -- learning

    def loss_corpus(self, text: Sequence[str], **_) -> dict[str, Tensor]:
        """Next-token cross-entropy of the generator, mean over tokens."""
        words = self.words
        rows = [[*ids, words.eos_token_id] for ids in self._begun(text)]
        ids, mask = (t.to(self._device) for t in padded(rows, words.eos_token_id))
        labels = ids.masked_fill(mask == 0, IGNORE)
        ids, mask, targets = trimmed(ids, labels, mask)
        return {"loss_lm": next_token_loss(self.generator(ids, mask), targets)}

    loss_round = loss_corpus

    def loss_critic(
        self, text: Sequence[str], targets: Tensor, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy of the critic."""
        return {"loss_critic": F.cross_entropy(self.critic(*self._read(text)), targets)}

    @property
    def _device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def _begun(self, texts: Sequence[str]) -> list[list[int]]:
        start = self.words.bos_token_id
        start = self.words.eos_token_id if start is None else start
        return [[start, *ids] for ids in encoded(self.words, texts, 10**6, end=False)]

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        words = self.critic_words
        start = getattr(words, "cls_token_id", None) or words.bos_token_id
        rows = encoded(words, texts, 256, end=True)
        rows = rows if start is None else [[start, *ids] for ids in rows]
        ids, mask = padded(rows, words.pad_token_id or 0)
        return ids.to(self._device), mask.to(self._device)

    # -- answering

    def predict(
        self,
        text: Sequence[str],
        index: Tensor,
        concept: Sequence[str] | None = None,
        **_,
    ) -> list[dict]:
        """``texts``: statements that begin with the prompts, as ``predict_on`` says."""
        if self.predict_on == "constrained_critic":
            concepts = [""] * len(text) if concept is None else concept
            asked = dict.fromkeys(zip(text, concepts, strict=True))
            texts = [one for two in asked for one in self.constrained(*two)]
        else:
            texts = self.sampled(text, (8, int(index[0]), get_rank()))
        if self.predict_on != "sample":
            told = zip(texts, self.valid(texts), strict=True)
            texts = [one for one, p in told if p >= self.threshold]
        return [{"texts": texts}]

    def sampled(self, prompts: Sequence[str], seed: tuple[int, ...]) -> list[str]:
        """One continuation of each prompt by the generator alone."""
        fill = self.words.eos_token_id
        ids, mask = padded(self._begun(prompts), fill, left=True)
        drawn = sample(
            self.generator,
            ids.to(self._device),
            self.new_tokens,
            seed=seed,
            mask=mask.to(self._device),
            stop=fill,
        )
        return [
            f"{prompt} {self.words.decode(row, skip_special_tokens=True).strip()}"
            for prompt, row in zip(prompts, drawn.ids, strict=True)
        ]
