"""A BERT from which smaller ones are cut: first rows and columns, some layers."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.language.networks.transformers import fits
from pld_mmdet.registry import MODELS


class Size(NamedTuple):
    """One encoder: layers, heads, channels, and the FFN's width over the channels."""

    layers: int
    heads: int
    width: int
    ratio: float


def sub_sizes(
    layers: Sequence[int],
    heads: Sequence[int],
    width: Sequence[int],
    ratio: Sequence[float],
) -> list[Size]:
    """All combinations."""
    return [Size(*one) for one in product(layers, heads, width, ratio)]


def parameters(
    size: Size, heads: int, vocab_size: int = 30522, positions: int = 512
) -> float:
    """Parameters as AutoDistil's code counts them (with a pooler and two classes).

    Args:
        size: Of the encoder.
        heads: Of the largest one (it takes the channels of a head as width / heads).
        vocab_size: Words.
        positions: Longest text.
    """
    depth, a, h, r = size
    embeddings = h * (vocab_size + positions + 4)
    attention = h * h + 3 * h * h * a / heads + 6 * h
    ffn = 2 * h * h * r + h * r + 3 * h
    return embeddings + (attention + ffn) * depth + h * h + 2 * h


def kept_layers(layers: int, every: int) -> list[int]:
    """Which layers of the largest encoder a shallower one has.

    Examples:
        >>> kept_layers(9, 12)
        [0, 1, 2, 4, 5, 6, 8, 9, 10]
    """
    return [i * every // layers for i in range(layers)]


class _Layer(nn.Module):
    """A layer of BERT; sizes are those of the tensors that it is sliced to."""

    def __init__(self, width: int, inner: int, ffn: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out, self.out_norm = nn.Linear(inner, width), nn.LayerNorm(width, 1e-12)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.down_norm = nn.LayerNorm(width, 1e-12)


@MODELS.register_module()
class ElasticEncoder(nn.Module):
    """BERT's encoder, answering as any of its sub-networks.

    A sub-network has the first channels of every embedding, norm and matrix, the first
    heads, and evenly spread layers. Norms are over its own channels. Head size is
    fixed, so heads and channels vary freely (in transformers' BERT they are tied).

    Args:
        layers: Of the largest network.
        heads: Of it.
        width: Channels of it.
        ratio: Of its FFN.
        vocab_size: Words.
        positions: Longest text.
        head_size: Channels of a head [64].
        dropout: Of hidden states and attention [0.1].
        num_classes: Outputs of a classifier on tanh(W h_cls) [no head].
        initializer_range: Standard deviation of the weights.

    Attributes:
        size: What it answers as now; see :meth:`become`.
    """

    def __init__(
        self,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
        ratio: float = 4.0,
        vocab_size: int = 30522,
        positions: int = 512,
        head_size: int = 64,
        dropout: float = 0.1,
        num_classes: int | None = None,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        self.full = self.size = Size(layers, heads, width, ratio)
        self.head_size, self.dropout = head_size, dropout
        self.words = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(positions, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        inner, ffn = heads * head_size, int(width * ratio)
        self.layers = nn.ModuleList(_Layer(width, inner, ffn) for _ in range(layers))
        self.pooler = self.classifier = None
        if num_classes is not None:
            self.pooler = nn.Linear(width, width)
            self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=initializer_range)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @property
    def vocabulary(self) -> int:
        """Words V."""
        return self.words.num_embeddings

    def become(self, size: Size) -> None:
        """Answer as the sub-network of this size.

        Raises:
            UserError: It is larger than the largest in some way.
        """
        size = Size(*size)
        if any(one > most for one, most in zip(size, self.full, strict=True)):
            raise UserError(
                f"{size} does not fit into {self.full}.",
                "Choose sizes that are at most those of the largest network.",
            )
        self.size = size

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Ids and mask [B, T] -> logits [B, K] of the classifier.

        Raises:
            UserError: It was built without ``num_classes``.
        """
        if self.classifier is None:
            raise UserError(
                "This ElasticEncoder has no classifier.", "Build it with num_classes."
            )
        h, _ = self.inside(input_ids, attention_mask)
        width = self.size.width
        h = _linear(self.pooler, h[:, 0], width, width).tanh()
        return _linear(self.classifier, self._drop(h), width, None)

    def inside(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Last hidden state [B, T, W]; queries, keys, values [B, T, A D] of that layer.

        Raises:
            UserError: Texts that are longer than the positions.
        """
        fits(input_ids, len(self.places.weight))
        length = input_ids.shape[1]
        depth, heads, width, ratio = self.size
        inner, ffn = heads * self.head_size, int(width * ratio)
        h = F.embedding(input_ids, self.words.weight[:, :width])
        h = h + self.places.weight[:length, :width] + self.kinds.weight[0, :width]
        h = self._drop(_norm(self.norm, h, width))
        open_ = None if attention_mask is None else attention_mask[:, None, None].bool()
        found = (h, h, h)
        for place in kept_layers(depth, self.full.layers):
            layer = self.layers[place]
            found = tuple(
                _linear(part, h, width, inner)
                for part in (layer.query, layer.key, layer.value)
            )
            q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in found)
            dropout = self.dropout if self.training else 0.0
            seen = F.scaled_dot_product_attention(q, k, v, open_, dropout)
            seen = seen.transpose(1, 2).flatten(2)
            out = self._drop(_linear(layer.out, seen, inner, width))
            h = _norm(layer.out_norm, h + out, width)
            up = F.gelu(_linear(layer.up, h, width, ffn))
            h = _norm(
                layer.down_norm,
                h + self._drop(_linear(layer.down, up, ffn, width)),
                width,
            )
        return h, found

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    @torch.no_grad()
    def load_bert(self, body: nn.Module) -> None:
        """Begin as a BERT of transformers of the largest size.

        Raises:
            UserError: Another kind of network, or other sizes.
        """
        config = body.config
        theirs = (
            config.num_hidden_layers,
            config.num_attention_heads,
            config.hidden_size,
            config.intermediate_size / config.hidden_size,
        )
        head_size = config.hidden_size // config.num_attention_heads
        if config.model_type != "bert" or theirs != self.full:
            raise UserError(
                f"A {config.model_type} of {theirs} is not an encoder of {self.full}.",
                "Give both the same layers, heads, channels and FFN ratio.",
            )
        if head_size != self.head_size:
            raise UserError(
                f"The teacher's heads have {head_size} channels, not {self.head_size}.",
                "Set head_size to the teacher's.",
            )
        theirs = body.embeddings
        pairs = [
            (self.words, theirs.word_embeddings),
            (self.places, theirs.position_embeddings),
            (self.kinds, theirs.token_type_embeddings),
            (self.norm, theirs.LayerNorm),
        ]
        for ours, layer in zip(self.layers, body.encoder.layer, strict=True):
            asked = layer.attention.self
            pairs += [
                (ours.query, asked.query),
                (ours.key, asked.key),
                (ours.value, asked.value),
                (ours.out, layer.attention.output.dense),
                (ours.out_norm, layer.attention.output.LayerNorm),
                (ours.up, layer.intermediate.dense),
                (ours.down, layer.output.dense),
                (ours.down_norm, layer.output.LayerNorm),
            ]
        for ours, other in pairs:
            ours.load_state_dict(other.state_dict())

    @torch.no_grad()
    def extracted(self) -> "ElasticEncoder":
        """A network of the present size alone, with copies of its weights."""
        depth, heads, width, ratio = self.size
        made = ElasticEncoder(
            depth,
            heads,
            width,
            ratio,
            len(self.words.weight),
            len(self.places.weight),
            self.head_size,
            self.dropout,
            None if self.classifier is None else len(self.classifier.weight),
        )
        kept = kept_layers(depth, self.full.layers)
        ours = self.state_dict()
        for name, value in made.state_dict().items():
            if name.startswith("layers."):
                _, place, rest = name.split(".", 2)
                name = f"layers.{kept[int(place)]}.{rest}"
            value.copy_(ours[name][tuple(slice(n) for n in value.shape)])
        return made.train(self.training)


def _linear(layer: nn.Linear, x: Tensor, into: int, out: int | None) -> Tensor:
    bias = layer.bias[:out]
    return F.linear(x, layer.weight[:out, :into], bias)


def _norm(layer: nn.LayerNorm, x: Tensor, width: int) -> Tensor:
    return F.layer_norm(
        x, (width,), layer.weight[:width], layer.bias[:width], layer.eps
    )
