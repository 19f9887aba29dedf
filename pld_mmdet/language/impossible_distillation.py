"""Impossible Distillation: paraphrases from a weak language model, filtered, taught."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from torch import Tensor
from torch.utils.data import DataLoader

from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.lines import build_tokenizer, encoded, padded
from pld_mmdet.language.decoding.sampling import sample
from pld_mmdet.language.learners.causal import IGNORE, next_token_loss, trimmed
from pld_mmdet.language.scores.pair_filters import (
    Pair,
    PairFilter,
    duplicate_groups,
    full_sentence,
    rouge_l,
    sentences,
)
from pld_mmdet.registry import MODELS

__all__ = ["ImpossibleDistillation", "duplicate_groups", "rouge_l"]


@MODELS.register_module()
class ImpossibleDistillation(Method):
    r"""A paraphraser out of a model that cannot paraphrase (Jung et al., NAACL 2024).

    Continuations of one informative context lie close to each other, so that some pairs
    of them say the same in other words; a critic finds these::

        context    texts are sampled from M behind prefixes; each full sentence y with
                   what stands before it, x, is kept
        student_0  100 continuations of each x, the first sentence of each; all pairs
                   i < j through the filters of :class:`PairFilter`; a student learns
                   target from source
        student_1  the student writes 10 candidates for each y; the same filters, and of
                   those that pass the one with the least ROUGE-L; it learns these, ...
        L = -mean over the target's tokens of log p(target | source)

    Stages of ``StagedLoop``, each with a ``work_dataloader`` of ``text`` (prefixes,
    read in order): ``lm`` trains M where it has no weights yet (its batches are
    ``text``), ``context`` has no iteration and writes ``stages/contexts.jsonl``, a
    ``student_<n>`` writes ``{folder}/pairs.jsonl`` and trains on it (``source``,
    ``target``, ``context``). The pairs are the product of the method, too. A stage
    without a ``work_dataloader`` writes nothing: its pairs were made before.

    Deviations from the released code (jaehunjung1/impossible-distillation, b2d3ba7,
    which has paraphrasing only and no training): the number filter asks that both
    sides have the same numbers (the code tests the target's twice), written in digits
    (the code also reads words); sentences end at ". ? !" (the code: spaCy); the prefix
    stays in the context (the code: for its biomedical domain); the student's prompt
    is ``template``. Each student goes on from the last one's
    weights; whether the authors begin anew was not found.

    Args:
        lm: Config of M, a causal network with a ``reader``.
        student: Config of an encoder-decoder.
        critic: Config of the entailment model: (premises, hypotheses) -> probabilities
            [n, classes]; its ``entailment`` is the class.
        lm_words: M's tokenizer (``build_tokenizer``).
        student_words: The student's.
        filters: For :class:`PairFilter` [the code's]; None keeps every pair of
            texts, full sentences or not: the ablation.
        contexts: Of ``sample`` for the contexts, with ``count`` texts of a prefix.
        bootstrap: Of ``sample`` for M's continuations.
        refine: The same for the student's.
        template: The student's input from ``{context}`` and ``{source}`` [both].
        lengths: Most tokens of M's prompt, and of the student's input and output.
        banned: Tokens that M never writes [a line break].
        predict_on: ``student``, or ``input`` for the rival that copies.

    Raises:
        UserError: Unknown words.
    """

    default_stage = "student_0"

    def __init__(
        self,
        lm: dict,
        student: dict,
        critic: dict,
        lm_words: str | dict,
        student_words: str | dict,
        filters: dict | None = {},  # noqa: B006 - only read
        contexts: dict = dict(new_tokens=150, count=100, top_p=0.9),  # noqa: B006
        bootstrap: dict = dict(  # noqa: B006
            new_tokens=100, count=100, top_p=0.9, temperature=0.5, no_repeat=3
        ),
        refine: dict = dict(  # noqa: B006
            new_tokens=100, count=10, top_p=0.9, temperature=0.7, no_repeat=3
        ),
        template: str = "Context: {context}\nSentence: {source}",
        lengths: tuple[int, int, int] = (874, 512, 128),
        banned: Sequence[str] = ("\n", "\n\n"),
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("ImpossibleDistillation", predict_on=(predict_on, ("student", "input")))
        self.student, self.lm = MODELS.build(student), MODELS.build(lm)
        made = MODELS.build(critic)
        self.critic = Frozen(made) if isinstance(made, torch.nn.Module) else made
        self.entailment = made.entailment
        self.lm_words = build_tokenizer(lm_words)
        self.student_words = build_tokenizer(student_words)
        self.filters = None if filters is None else PairFilter(**filters)
        self.contexts, self.bootstrap = dict(contexts), dict(bootstrap)
        self.refine, self.template, self.lengths = dict(refine), template, lengths
        ids = [self.lm_words.encode(b, add_special_tokens=False) for b in banned]
        self.banned = sorted({one[0] for one in ids if len(one) == 1})
        self.predict_on = predict_on

    def enter_stage(self, name: str) -> None:
        """M learns in its own stage only."""
        of_lm = name == "lm"
        self.lm.requires_grad_(of_lm)
        self.student.requires_grad_(not of_lm)
        self.zero_grad(set_to_none=True)

    # -- the offline work of a stage

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Write the contexts, or a student's pairs; nothing without a loader."""
        if name == "lm" or loader is None:
            return
        kept = folder.parent / "contexts.jsonl"
        if name == "context":
            found = [c for batch in loader for c in self._contexts(batch)]
            _write(kept, found, "no full sentence was sampled", "Train M for longer.")
            return
        if not kept.is_file():
            raise UserError(
                f"ImpossibleDistillation: stage {name} found no contexts ({kept}).",
                "Put a stage context with a work_dataloader before it.",
            )
        number = int(name.rpartition("_")[2] or 0)
        rows = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
        rows = rows[get_rank() :: get_world_size()]
        counts: Counter = Counter()
        make = self._refined if number else self._bootstrapped
        pairs = make(rows, (number, get_rank()), counts)
        reason = ", ".join(f"{k} {v}" for k, v in counts.items())
        _write(
            folder / "pairs.jsonl",
            [pair.as_dict() for pair in pairs],
            f"no pair of stage {name} passed the filters (left: {reason})",
            "Look at stages/contexts.jsonl: M's texts may be too poor, or all alike.",
        )

    def _contexts(self, batch: dict) -> list[dict]:
        """{context, sentence} of every full sentence of the texts of a batch."""
        how = {k: v for k, v in self.contexts.items() if k != "count"}
        prefixes = batch["text"]
        seed = (7, int(batch["index"][0]), get_rank())
        texts = self._continued(prefixes, self.contexts["count"], how, seed)
        found = []
        for row, text in enumerate(texts):
            told = sentences(text)
            prefix = prefixes[row // self.contexts["count"]]
            for i, sentence in enumerate(told):
                if self._usable(sentence):
                    before = " ".join(one for one in (prefix, *told[:i]) if one)
                    found.append(dict(context=before, sentence=sentence))
        return found

    def _continued(
        self, prompts: Sequence[str], count: int, how: dict, seed: tuple
    ) -> list[str]:
        """``count`` continuations by M of each prompt, side by side."""
        words, most = self.lm_words, self.lengths[0]
        start = words.bos_token_id
        start = words.eos_token_id if start is None else start
        rows = [
            [start, *encoded(words, [text], 10**9, end=False)[0][1 - most :]]
            for text in prompts
        ]
        ids, mask = padded([r for r in rows for _ in range(count)], start, left=True)
        return self._texts(self.lm, words, ids, mask, how, seed, self.banned)

    def _texts(self, network, words, ids, mask, how, seed, banned=()) -> list[str]:
        device = next(network.parameters()).device
        drawn = sample(
            network,
            ids.to(device),
            mask=mask.to(device),
            stop=words.eos_token_id,
            banned=banned,
            seed=seed,
            **how,
        )
        told = zip(drawn.ids.tolist(), drawn.lengths.tolist(), strict=True)
        return [
            words.decode(row[:length], skip_special_tokens=True).strip()
            for row, length in told
        ]

    def _bootstrapped(
        self, rows: list[dict], seed: tuple, counts: Counter, batch: int = 64
    ) -> list[Pair]:
        """Pairs of M's continuations of each context."""
        how = {k: v for k, v in self.bootstrap.items() if k != "count"}
        count, pairs = self.bootstrap["count"], []
        at_once = max(batch * 8 // count, 1)
        for place in range(0, len(rows), at_once):
            part = rows[place : place + at_once]
            texts = self._continued(
                [row["context"] for row in part], count, how, (*seed, place)
            )
            for i, row in enumerate(part):
                told = [sentences(t) for t in texts[i * count : (i + 1) * count]]
                own = [t[0] for t in told if t and self._usable(t[0])]
                pairs += self._filtered(row, own, None, counts)
        return pairs

    def _refined(
        self, rows: list[dict], seed: tuple, counts: Counter, batch: int = 64
    ) -> list[Pair]:
        """One pair at most of each sentence and the student's versions of it."""
        how = {k: v for k, v in self.refine.items() if k != "count"}
        count, pairs = self.refine["count"], []
        at_once = max(batch * 8 // count, 1)
        for place in range(0, len(rows), at_once):
            part = rows[place : place + at_once]
            texts = self.write(
                [row["sentence"] for row in part],
                [row["context"] for row in part],
                how,
                (*seed, place),
                count,
            )
            for i, row in enumerate(part):
                told = texts[i * count : (i + 1) * count]
                own = [text for text in told if self._usable(text)]
                pairs += self._filtered(row, own, row["sentence"], counts)
        return pairs

    def _usable(self, text: str) -> bool:
        return full_sentence(text) if self.filters is not None else bool(text)

    def _filtered(self, row, texts, source, counts) -> list[Pair]:
        if self.filters is None:
            found = PairFilter.candidates(texts, source)
        elif source is None:
            found = self.filters.bootstrap(texts, self._entails, counts)
        else:
            found = self.filters.refine(source, texts, self._entails, counts)
        for pair in found:
            pair.context = row["context"]
        return found

    @torch.no_grad()
    def _entails(self, premises: list[str], hypotheses: list[str]) -> Tensor:
        """(P(entailment) [n], whether it is the arg max [n]) as one [n, 2]."""
        p = self.critic(premises, hypotheses).float().cpu()
        most = (p.argmax(-1) == self.entailment).float()
        return torch.stack([p[:, self.entailment], most], 1)

    # -- learning and answering

    def loss_lm(self, text: Sequence[str], **_) -> dict[str, Tensor]:
        """Next-token cross-entropy of M, mean over tokens."""
        words = self.lm_words
        start = words.bos_token_id
        start = words.eos_token_id if start is None else start
        rows = [[start, *r] for r in encoded(words, text, self.lengths[0], end=True)]
        ids, mask = self._on_device(padded(rows, words.eos_token_id))
        labels = ids.masked_fill(mask == 0, IGNORE)
        ids, mask, targets = trimmed(ids, labels, mask)
        return {"loss_lm": next_token_loss(self.lm(ids, mask), targets)}

    def loss_student(
        self,
        source: Sequence[str],
        target: Sequence[str],
        context: Sequence[str] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Negative log-likelihood of the targets, mean over their tokens."""
        ids, mask = self._read(source, context)
        rows = encoded(self.student_words, target, self.lengths[2], end=True)
        wanted, real = self._on_device(padded(rows, self.student_words.pad_token_id))
        z = self.student(ids, mask, wanted)
        labels = wanted.masked_fill(real == 0, IGNORE)
        return {"loss_student": next_token_loss(z, labels)}

    def _read(self, source: Sequence[str], context: Sequence[str] | None):
        before = [""] * len(source) if context is None else context
        texts = [
            self.template.format(context=x, source=y)
            for x, y in zip(before, source, strict=True)
        ]
        rows = encoded(self.student_words, texts, self.lengths[1], end=True)
        return self._on_device(padded(rows, self.student_words.pad_token_id))

    def _on_device(self, tensors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        device = next(self.student.parameters()).device
        return tensors[0].to(device), tensors[1].to(device)

    def write(
        self,
        source: Sequence[str],
        context: Sequence[str] | None,
        how: dict,
        seed: tuple,
        count: int = 1,
    ) -> list[str]:
        """``count`` versions of each source by the student, side by side."""
        ids, mask = self._read(source, context)
        ids, mask = ids.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)
        return self._texts(self.student, self.student_words, ids, mask, how, seed)

    def predict(self, text: Sequence[str], index: Tensor, **_) -> list[dict]:
        """``sources`` and ``outputs``, texts; sampled as for a later student."""
        outputs = list(text)
        if self.predict_on == "student":
            how = {k: v for k, v in self.refine.items() if k != "count"}
            outputs = self.write(text, None, how, (9, int(index[0])))
        return [{"sources": list(text), "outputs": outputs}]


def _write(path: Path, rows: list[dict], what: str, fix: str) -> None:
    rows = [row for part in all_gather_object(rows) for row in part]
    if not rows:
        raise UserError(f"ImpossibleDistillation: {what}.", fix)
    if is_main_process():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        write_atomic(path, lambda file: file.write(text.encode()))
