"""CLIP from transformers: weights from a folder or the hub, and vectors of names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of

# Colours that CLIP models were trained with (OpenAI's, OpenCLIP's and DFN's alike).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def load_clip(source: str) -> tuple[nn.Module, object]:
    """CLIP in float32, in evaluation mode, and its tokenizer.

    Args:
        source: Folder or hub name of a CLIP model in transformers' format.

    Raises:
        UserError: transformers is not installed, or nothing can be loaded.
    """
    transformers = require("transformers", "language")
    try:
        model = transformers.CLIPModel.from_pretrained(source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No CLIP model can be loaded from {source}: {str(error)[:200]}",
            "Give a folder with config.json, model.safetensors and the tokenizer's "
            "files, or a hub name such as openai/clip-vit-base-patch16.",
        ) from error
    return model.float().eval(), tokenizer


@torch.no_grad()
def encode_names(
    model: nn.Module,
    tokenizer,
    sentences: Sequence[Sequence[str]],
    length: str = "unit",
) -> Tensor:
    """One vector a name, of its sentences.

    Args:
        model: CLIP.
        tokenizer: Its tokenizer.
        sentences: For each name the sentences that hold it.
        length: ``unit``: each sentence normalised, mean, normalised again. ``mean``:
            not normalised again. ``raw``: the mean of the sentences as they are.

    Returns:
        [names, D], on the model's device.
    """
    one_of("encode_names", length=(length, ("unit", "mean", "raw")))
    vectors = []
    for group in sentences:
        tokens = tokenizer(
            list(group), padding=True, truncation=True, return_tensors="pt"
        ).to(model.device)
        pooled = model.text_model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).pooler_output
        each = model.text_projection(pooled)
        vector = (each if length == "raw" else F.normalize(each, dim=1)).mean(0)
        vectors.append(F.normalize(vector, dim=0) if length == "unit" else vector)
    return torch.stack(vectors)
