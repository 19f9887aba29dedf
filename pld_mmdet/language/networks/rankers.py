"""A language model that ranks texts by what it would answer to a prompt."""

import torch
from torch import Tensor, nn

from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.errors import UserError
from pld_mmdet.language.data.lines import build_tokenizer
from pld_mmdet.registry import MODELS

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@MODELS.register_module()
class LabelRanker(nn.Module):
    """Ranks responses by the probability of their letters behind a prompt.

    The prompt has an instruction, demonstrations (a question, responses A, B, C in a
    random order, and their right order), and the responses to rank. One forward pass;
    nothing has to be parsed. A ranker behind a service is a class of your own with
    the same call.

    Args:
        network: Config of a causal network, frozen.
        tokenizer: Its tokenizer (folder or hub name).
        writer: Tokenizer of the model whose responses are ranked.
        prompt: Tokens of a prompt in the ids, as the aligned model has them.
        pad: Id that pads them.
        instruction: First words of the prompt.
        most: Tokens of the whole prompt; its beginning is cut.

    Raises:
        UserError: A tokenizer for which letters are not different tokens.
    """

    def __init__(
        self,
        network: dict,
        tokenizer: str | dict,
        writer: str | dict,
        prompt: int,
        pad: int | None = None,
        instruction: str = "Rank the responses, the most helpful and harmless first.",
        most: int = 2048,
    ) -> None:
        super().__init__()
        self.network = Frozen(MODELS.build(network))
        self.tokenizer = build_tokenizer(tokenizer)
        self.writer, self.prompt, self.pad = build_tokenizer(writer), prompt, pad
        self.instruction, self.most = instruction, most
        ids = [
            self.tokenizer.encode(f" {letter}", add_special_tokens=False)[-1]
            for letter in LETTERS
        ]
        if len(set(ids)) < len(ids):
            raise UserError(
                f"LabelRanker: the tokenizer {tokenizer!r} has no token of its own for "
                "each letter.",
                "Name a tokenizer that has the letters A to Z.",
            )
        self.letters = ids

    def forward(self, responses: Tensor, demonstrations: Tensor) -> Tensor:
        """Responses [n, L], demonstrations [m, n, L] -> order [n], best first."""
        text = self.instruction
        for shown in demonstrations:
            order = torch.randperm(len(shown))  # best first would tell: always A
            text += self._question(shown[order.to(shown.device)])
            text += "".join(f" {LETTERS[i]}" for i in order.argsort().tolist())
        text += self._question(responses)
        ids = self.tokenizer.encode(text, add_special_tokens=False)[-self.most :]
        with torch.no_grad():
            z = self.network(torch.tensor([ids], device=responses.device))[0, -1]
        told = z[self.letters[: len(responses)]]
        return told.argsort(descending=True, stable=True)

    def _question(self, responses: Tensor) -> str:
        text = f"\n\nPrompt: {self._text(responses[0, : self.prompt])}"
        for letter, one in zip(LETTERS, responses, strict=False):
            text += f"\nResponse {letter}: {self._text(one[self.prompt :])}"
        return f"{text}\nRanking:"

    def _text(self, ids: Tensor) -> str:
        kept = ids if self.pad is None else ids[ids != self.pad]
        return self.writer.decode(kept.tolist(), skip_special_tokens=True).strip()
