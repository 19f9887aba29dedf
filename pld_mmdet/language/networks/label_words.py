"""A prompted language model as a classifier: the probabilities of its label words."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.lines import build_tokenizer, padded
from pld_mmdet.reading import users_text
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class LabelWordClassifier(nn.Module):
    """Texts -> logits of the first token of each label's word behind a prompt.

    Args:
        network: Config of a causal network.
        tokenizer: Folder or hub name.
        words: A word of each class, such as " positive".
        template: The prompt with ``{text}``.
        demonstrations: File whose text stands before every prompt [none: zero-shot].
        most: Tokens of a prompt; the text's end is cut.

    Raises:
        UserError: Two words begin with the same token, or a template without text.
    """

    def __init__(
        self,
        network: dict,
        tokenizer: str,
        words: Sequence[str],
        template: str = "Text: {text}\nLabel:",
        demonstrations: str | None = None,
        most: int = 1024,
    ) -> None:
        super().__init__()
        self.network = MODELS.build(network)
        self.tokenizer = build_tokenizer(tokenizer)
        self.words = [self._ids(word)[0] for word in words]
        if len(set(self.words)) < len(self.words) or "{text}" not in template:
            raise UserError(
                f"LabelWordClassifier: {list(words)} begin with equal tokens, or "
                f"{template!r} has no {{text}}.",
                "Choose words that differ in their first token, and a template.",
            )
        before, self.after = template.split("{text}", 1)
        shown = ""
        if demonstrations:
            fix = "Write the examples that shall stand before each text."
            shown = users_text(demonstrations, "file of demonstrations", fix)
        self.before, self.most = shown + before, most

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Logits [B, C]."""
        before, after = self._ids(self.before), self._ids(self.after)
        room = self.most - len(before) - len(after)
        rows = [[*before, *self._ids(text)[:room], *after] for text in texts]
        ids, mask = padded(rows, self.tokenizer.eos_token_id)
        device = next(self.network.parameters()).device
        z = self.network(ids.to(device), mask.to(device))
        last = mask.sum(1).to(device) - 1
        return z[torch.arange(len(z), device=device), last][:, self.words]
