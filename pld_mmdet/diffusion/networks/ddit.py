"""The transformers of SEDD and RADD, read from their authors' folders."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.diffusion.processes.discrete import ScoreNetwork, odds
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.registry import MODELS

_SIZES = {"hidden_size": int, "n_blocks": int, "n_heads": int, "cond_dim?": int}


@MODELS.register_module()
class DDiTScore(ScoreNetwork):
    """Scores of a masked sequence from SEDD's or RADD's network.

    SEDD (Lou et al. 2024, louaaron/Score-Entropy-Discrete-Diffusion) is told the time
    and says the logarithm of the score; RADD (Ou et al. 2024, ML-GSAI/RADD) is not, and
    says probabilities, of which the score is a part by :func:`odds`. Both are read in
    float32 (the authors' run in half precision) and without dropout.

    Args:
        pretrained: Folder with ``config.json`` and ``model.safetensors`` (or
            ``pytorch_model.bin``), as the authors publish it; its config says
            everything below. None: random weights, which teach nothing.
        tokens: V; the mask is token V [50257].
        hidden_size, n_blocks, n_heads: Of the transformer [768, 12, 12: both small].
        cond_dim: Of SEDD's time [128]; 0: RADD.

    Raises:
        UserError: No such folder, a config of something else, or weights that do not
            fit it.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        tokens: int = 50257,
        hidden_size: int = 768,
        n_blocks: int = 12,
        n_heads: int = 12,
        cond_dim: int = 128,
    ) -> None:
        super().__init__()
        scaled = True
        if pretrained is not None:
            tokens, sizes = _read_config(Path(pretrained))
            hidden_size, n_blocks = sizes["hidden_size"], sizes["n_blocks"]
            n_heads, scaled = sizes["n_heads"], sizes.get("scale_by_sigma", True)
            cond_dim = 0 if _is_radd(sizes) else sizes["cond_dim"]
        self.tokens, self.cond_dim, self.scaled = tokens, cond_dim, scaled
        self.vocab_embed = nn.ParameterDict(
            {"embedding": 0.02 * torch.randn(tokens + 1, hidden_size)}
        )
        if cond_dim:
            self.sigma_map = _Clock(cond_dim)
        self.blocks = nn.ModuleList(
            _Block(hidden_size, n_heads, cond_dim) for _ in range(n_blocks)
        )
        self.output_layer = _Last(hidden_size, tokens + 1, cond_dim)
        if pretrained is not None:
            self._read_weights(Path(pretrained))
        self.untrained = pretrained is None
        self.eval()

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Scores [N, L, V] of [N, L] at time t in (0, 1]."""
        told = None
        if self.cond_dim:
            sbar = math.log1p(odds(t))
            told = F.silu(
                self.sigma_map(x.new_full((len(x),), sbar, dtype=torch.float))
            )
        hidden = self.vocab_embed["embedding"][x]
        angles = _angles(hidden.shape[1], hidden.shape[2] // self.blocks[0].heads)
        turn = (angles.cos().to(hidden), angles.sin().to(hidden))
        for block in self.blocks:
            hidden = block(hidden, turn, told)
        raw = self.output_layer(hidden, told)[..., :-1].float()
        if not self.cond_dim:
            return raw.softmax(-1) / odds(t)
        if self.scaled:
            raw = raw - math.log(odds(t)) - math.log(self.tokens)
        return raw.exp()

    def _read_weights(self, folder: Path) -> None:
        names = ("model.safetensors", "pytorch_model.bin")
        files = [folder / name for name in names if (folder / name).is_file()]
        if not files:
            raise UserError(
                f"{folder} holds neither {names[0]} nor {names[1]}.",
                "Get all files of the model's page.",
            )
        state = load_checkpoint_file(files[0])
        state = dict(state.get("state_dict", state))
        state.pop("rotary_emb.inv_freq", None)  # computed
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()
            raise UserError(
                f"{files[0]} does not fit {folder / 'config.json'} "
                f"({reason[min(1, len(reason) - 1)].strip()[:200]}).",
                "Keep both files of one model, SEDD or RADD, together.",
            ) from error


def _read_config(folder: Path) -> tuple[int, dict]:
    found = read_json(folder / "config.json", what="config of SEDD or RADD")
    sizes = found.get("model") if isinstance(found, dict) else None
    fits = isinstance(sizes, dict) and isinstance(found.get("tokens"), int)
    wanted = [name for name in _SIZES if not name.endswith("?")]
    if not fits or any(not isinstance(sizes.get(name), int) for name in wanted):
        raise UserError(
            f"{folder / 'config.json'} is no config of SEDD or RADD: tokens and model "
            f"({', '.join(wanted)}) are not in it.",
            "A folder of transformers is read by pld_mmdet.MaskedLMScore.",
        )
    kind = (found.get("graph") or {}).get("type", "absorb")
    if kind != "absorb":
        raise UserError(
            f"{folder} was trained with graph.type={kind!r}.",
            "LSD unmasks tokens: name a model of the graph 'absorb'.",
        )
    if not _is_radd(sizes) and not isinstance(sizes.get("cond_dim"), int):
        raise UserError(
            f"{folder / 'config.json'} has no model.cond_dim, which SEDD's time needs.",
            "Get the file again.",
        )
    return found["tokens"], sizes


def _is_radd(sizes: dict) -> bool:
    """Its transformer goes by `ddit_wot`: without time."""
    return sizes.get("type") == "ddit_wot"


class _Clock(nn.Module):
    """The noise's embedding: 128 cosines, then 128 sines, and two layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, sbar: Tensor) -> Tensor:
        """[N] -> [N, D]."""
        step = torch.arange(128, device=sbar.device, dtype=torch.float) / 128
        angles = sbar[:, None] * 10_000.0**-step
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))


class _Norm(nn.Module):
    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.ones(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, cond_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (_Norm(dim, bias=not cond_dim) for _ in range(2))
        self.attn_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attn_out = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * dim, dim),
        )
        self.adaLN_modulation = nn.Linear(cond_dim, 6 * dim) if cond_dim else None

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], told: Tensor | None
    ) -> Tensor:
        gates, moved, spread = (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)
        if told is not None:
            parts = self.adaLN_modulation(told)[:, None].chunk(6, 2)
            moved, spread, gates = parts[0::3], parts[1::3], parts[2::3]
        seen = self.norm1(x) * (1 + spread[0]) + moved[0]
        n, length, dim = x.shape
        qkv = self.attn_qkv(seen).view(n, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(_turned(q, turn), _turned(k, turn), v)
        x = x + gates[0] * self.attn_out(mixed.transpose(1, 2).flatten(2))
        seen = self.norm2(x) * (1 + spread[1]) + moved[1]
        return x + gates[1] * self.mlp(seen)


class _Last(nn.Module):
    def __init__(self, dim: int, out: int, cond_dim: int) -> None:
        super().__init__()
        self.norm_final = _Norm(dim, bias=not cond_dim)
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Linear(cond_dim, 2 * dim) if cond_dim else None

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        seen = self.norm_final(x)
        if told is not None:
            moved, spread = self.adaLN_modulation(told)[:, None].chunk(2, 2)
            seen = seen * (1 + spread) + moved
        return self.linear(seen)


def _angles(length: int, dim: int) -> Tensor:
    """Of rotary places, [L, D]: the frequencies stand twice."""
    speed = 10_000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float) / dim)
    return torch.outer(torch.arange(length, dtype=torch.float), speed).repeat(1, 2)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-second, first], -1) * turn[1]
