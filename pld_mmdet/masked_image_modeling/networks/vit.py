"""A plain vision transformer that sees chosen patches, and the decoder of an MAE.

Parameters are named as in timm and in the official MAE code (He et al. 2022), so their
checkpoints load.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


class Attention(nn.Module):
    """Multi-head self-attention, N x L x D -> N x L x D."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Every token looks at every token."""
        n, length, dim = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, length, dim))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """N x L x D -> N x L x D."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """N x L x D -> N x L x D."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches as vectors: N x C x H x W -> N x L x D."""

    def __init__(self, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Row by row."""
        return self.proj(x).flatten(2).transpose(1, 2)


@MODELS.register_module()
class MaskedViT(nn.Module):
    """ViT encoder with a class token and fixed sine-cosine positions.

    Args:
        image_size, patch_size, in_channels: Of the images, in pixels.
        dim, depth, heads: Of the transformer.
        checkpoint: File of trained weights, of this class or of the official MAE.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        side = image_size // patch_size
        self.patch_size, self.num_patches, self.dim = patch_size, side * side, dim
        self.heads = heads
        self.in_channels = in_channels
        self.patch_embed = PatchEmbed(patch_size, in_channels, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.normal_(self.cls_token, std=0.02)
        # A buffer: the positions are not learned, and travel in the checkpoint.
        self.register_buffer("pos_embed", sine_cosine_positions(side, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        _init_linear(self)
        weight = self.patch_embed.proj.weight
        nn.init.xavier_uniform_(weight.view(len(weight), -1))
        if checkpoint is not None:
            load_weights(self, checkpoint)

    def forward(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        until: int | None = None,
        more: Tensor | None = None,
    ) -> Tensor:
        """Tokens of the visible patches, the class token first.

        Args:
            x: N x C x H x W.
            keep: N x V numbers of the visible patches [all].
            until: Return what block number ``until`` (from 0) gives, without the final
                norm; later blocks don't run.
            more: 1 x M x D further tokens, which stand at the end [none].

        Returns:
            N x (1 + V + M) x D.
        """
        tokens = self.embed(x, keep, more)
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number == until:
                return tokens
        return self.norm(tokens)

    def embed(
        self, x: Tensor, keep: Tensor | None = None, more: Tensor | None = None
    ) -> Tensor:
        """What the first block sees; arguments and shape as of ``forward``."""
        tokens = self.patch_embed(x) + self.pos_embed[:, 1:]
        if keep is not None:
            tokens = take(tokens, keep)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        parts = [first, tokens]
        if more is not None:
            parts.append(more.expand(len(x), -1, -1))
        return torch.cat(parts, 1)

    def patches(self, x: Tensor) -> Tensor:
        """Pixels of the patches, N x C x H x W -> N x L x (p p C), as in MAE."""
        n, c, height, width = x.shape
        p = self.patch_size
        x = x.reshape(n, c, height // p, p, width // p, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, p * p * c)


@MODELS.register_module()
class MAEDecoder(nn.Module):
    """Predicts the pixels of all patches from the tokens of the visible ones.

    Args:
        encoder_dim: D of the encoder.
        num_patches: L, a square number.
        pixels: Numbers of one patch, p x p x C.
        dim, depth, heads: Of the decoder's transformer.
        checkpoint: File of trained weights, of this class or of the official MAE.
    """

    def __init__(
        self,
        encoder_dim: int,
        num_patches: int,
        pixels: int,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        self.decoder_embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.normal_(self.mask_token, std=0.02)
        positions = sine_cosine_positions(round(num_patches**0.5), dim)
        self.register_buffer("decoder_pos_embed", positions)
        self.decoder_blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, pixels)
        _init_linear(self)
        if checkpoint is not None:
            load_weights(self, checkpoint)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """N x (1 + V) x D tokens, N x V numbers -> N x L x pixels."""
        tokens = self.hidden(tokens, keep)
        return self.decoder_pred(self.decoder_norm(tokens))[:, 1:]

    def hidden(self, tokens: Tensor, keep: Tensor, until: int | None = None) -> Tensor:
        """Tokens of the whole image, the class token first, without the final norm.

        Args:
            tokens: N x (1 + V) x D.
            keep: N x V numbers of the visible patches.
            until: The last block that runs, from 0 [all].

        Returns:
            N x (1 + L) x dim.
        """
        tokens = self.decoder_embed(tokens)
        n, _, dim = tokens.shape
        length = self.decoder_pos_embed.shape[1] - 1
        patches = self.mask_token.expand(n, length, dim).to(tokens.dtype)
        places = keep[..., None].expand(-1, -1, dim)
        patches = patches.scatter(1, places, tokens[:, 1:])
        tokens = torch.cat([tokens[:, :1], patches], 1) + self.decoder_pos_embed
        for number, block in enumerate(self.decoder_blocks):
            tokens = block(tokens)
            if number == until:
                break
        return tokens


def random_visible(n: int, length: int, mask_ratio: float, device=None) -> Tensor:
    """N x V numbers of visible patches, V = int(length (1 - mask_ratio)), at random.

    Examples:
        >>> [random_visible(1, 196, r).shape[1] for r in (0.75, 0.9, 0.95, 0.98)]
        [49, 19, 9, 3]
    """
    # Rounded first: 196 (1 - 0.75) is 49, but 16 (1 - 0.9375) may be 0.99...
    visible = int(round(length * (1 - mask_ratio), 6))
    return torch.rand(n, length, device=device).argsort(1)[:, :visible]


def take(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Rows of each sample: N x L x D, N x V -> N x V x D."""
    return tokens.gather(1, numbers[..., None].expand(-1, -1, tokens.shape[-1]))


def sine_cosine_positions(side: int, dim: int) -> Tensor:
    """1 x (1 + side^2) x dim; zeros for the class token, then row by row (MAE)."""
    omega = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    place = torch.arange(side, dtype=torch.float64)
    angles = place[:, None] * omega
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # side x dim / 2
    columns = waves.repeat(side, 1)
    rows = waves.repeat_interleave(side, 0)
    grid = torch.cat([columns, rows], 1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), grid])[None].float()


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Weights of a file in our, timm's or the official MAE's layout.

    Args:
        network: An encoder or a decoder; the file may hold more than it has.
        path: Of the file.

    Raises:
        UserError: The file holds another architecture.
    """
    found = load_checkpoint_file(path)
    state = found.get("model", found.get("state_dict", found))
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    wrong = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    kind = "decoder" if isinstance(network, MAEDecoder) else "encoder"
    if missing or wrong:
        raise UserError(
            f"{path} is no {kind} of this size: {len(missing)} weights missing"
            f"{f' (first: {missing[0]})' if missing else ''}, {len(wrong)} of another "
            "shape.",
            "Give it a checkpoint of this project or of the official MAE, and set dim, "
            "depth and patch_size to its architecture.",
        )
    network.load_state_dict({name: state[name] for name in wanted})


def _init_linear(module: nn.Module) -> None:
    """Xavier weights, zero biases, as in MAE."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
