"""Tiny weights in the file formats of published ones; no number occurs twice."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pld_mmdet.registry import MODELS


def scatter(state: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Other numbers in every floating tensor, such as a training leaves behind."""
    torch.manual_seed(seed)
    found = {}
    for name, value in state.items():
        if value.is_floating_point():
            drawn = 0.05 * torch.randn(value.shape)
            if name.endswith("running_var"):
                drawn = 0.5 + torch.rand(value.shape)
            elif value.dim() == 1 and name.endswith("weight"):
                drawn += 1.0
            value = drawn.to(value.dtype)
        found[name] = value.contiguous()
    return found


def at(cfg, place: str):
    """What stands at a dotted place of a config."""
    return functools.reduce(
        lambda node, part: node[int(part) if part.isdigit() else part],
        place.split("."),
        cfg,
    )


def state(
    path: Path, cfg, of: Sequence[str] | str, prefix: str | None = None, seed: int = 1
) -> dict[str, Tensor]:
    """A ``state_dict`` with networks of the config.

    Args:
        path: The file.
        cfg: The config.
        of: Places in it, such as ``model.teachers.0``.
        prefix: Of the names [the place without ``model.``]; for one place.
        seed: Of the numbers.
    """
    found: dict[str, Tensor] = {}
    for place in [of] if isinstance(of, str) else of:
        network = MODELS.build(at(cfg, place))
        assert isinstance(network, nn.Module)
        said = place.removeprefix("model.") + "." if prefix is None else prefix
        found |= {said + k: v for k, v in network.state_dict().items()}
    found = scatter(found, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": found}, path)
    return found


def clip(path: Path, cfg, size: int = 16, seed: int = 1) -> dict[str, Tensor]:
    """A transformers folder of a CLIP of a few thousand weights, words of letters."""
    from transformers import CLIPConfig, CLIPModel

    letters = "abcdefghijklmnopqrstuvwxyz."
    words = [*letters, *(f"{c}</w>" for c in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    path.mkdir(parents=True)
    (path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    (path / "tokenizer_config.json").write_text(
        json.dumps(dict(tokenizer_class="CLIPTokenizer", model_max_length=48))
    )
    small = dict(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    text = dict(
        small,
        vocab_size=len(words),
        max_position_embeddings=48,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    vision = dict(small, image_size=size, patch_size=8)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return scattered(CLIPModel(config), path, seed)


def scattered(model: nn.Module, path: Path, seed: int = 1, **more) -> dict[str, Tensor]:
    """Write a transformers or diffusers model with other numbers; what it then has."""
    model.load_state_dict(scatter(model.state_dict(), seed))
    model.save_pretrained(path, **more)
    return model.state_dict()


KINDS = dict(state=state, clip=clip)
