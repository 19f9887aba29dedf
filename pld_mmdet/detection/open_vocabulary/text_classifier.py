"""A class layer whose classes are words: text vectors that nothing trains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

ORTHONORMAL = "orthonormal"


@MODELS.register_module()
class TextEmbeddingClassifier(nn.Module):
    """``logits = (W x + b) T^T`` with frozen text vectors ``T`` (MarvelOVD).

    The last row of ``T`` is zero: the background logit is always 0. There is no
    normalisation of ``W x + b``, no temperature and no bias. Use it as
    ``cls_predictor_cfg`` of an mmdet box head.

    ``T`` is *not* in the checkpoint: it comes from the config, so the same checkpoint
    is tested on another vocabulary by naming another file (with ``fine_tune=True``,
    because class names differ) or by :meth:`set_vocabulary`.

    Args:
        in_features: Length of x.
        out_features: C + 1.
        path: ``.npz`` file with ``names`` [C] and ``embeddings`` [C, D], as
            ``tools/make_clip_candidates.py text`` writes it; or ``'orthonormal'``:
            fixed random orthonormal rows, for data whose words have no CLIP vectors.
        names: Class names in the order of the labels. None: the file's order.
        emb_dim: D; must be the file's (CLIP ViT-B/32: 512).
        seed: Of ``'orthonormal'``.

    Raises:
        UserError: The file or the vocabulary does not fit.
    """

    text: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        path: str,
        names: Sequence[str] | None = None,
        emb_dim: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.linear = nn.Linear(in_features, emb_dim)
        self.register_buffer(
            "text", torch.zeros(out_features, emb_dim), persistent=False
        )
        self.names: list[str] = []
        if path == ORTHONORMAL:
            names = names or [f"class {i}" for i in range(out_features - 1)]
            vectors = orthonormal_rows(len(names), emb_dim, seed)
        else:
            names, vectors = load_vocabulary(path, names)
        if len(names) != out_features - 1:
            raise UserError(
                f"The vocabulary of {path} has {len(names)} names, the box head "
                f"{out_features - 1} classes.",
                "Set num_classes of the box head to the number of names.",
            )
        self.set_vocabulary(names, vectors)

    @property
    def out_features(self) -> int:
        """C + 1 of the present vocabulary."""
        return len(self.text)

    def set_vocabulary(self, names: Sequence[str], embeddings: Tensor) -> None:
        """Replace the words.

        Args:
            names: C' names, none empty, none twice.
            embeddings: [C', D]; made unit length.

        Raises:
            UserError: Names or shapes do not fit; nothing has changed then.
        """
        check_names(names)
        embeddings = torch.as_tensor(embeddings, dtype=self.text.dtype)
        if embeddings.shape != (len(names), self.text.shape[1]):
            raise UserError(
                f"The text vectors have shape {tuple(embeddings.shape)}; "
                f"{len(names)} names and vectors of {self.text.shape[1]} numbers were "
                "expected.",
                "Make them with the CLIP model whose width emb_dim says.",
            )
        norm = embeddings.norm(dim=1, keepdim=True)
        if not torch.isfinite(norm).all() or (norm == 0).any():
            raise UserError(
                "A text vector is zero or not finite.", "Make the vectors again."
            )
        rows = torch.cat([embeddings / norm, torch.zeros_like(embeddings[:1])])
        self.text = rows.to(self.text.device)
        self.names = list(names)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> logits [N, C + 1]."""
        return self.linear(x) @ self.text.T


def check_names(names: Sequence[str]) -> None:
    """Refuse a vocabulary that is empty or has an empty or a repeated name.

    Args:
        names: Class names; case and outer blanks do not make a difference.

    Raises:
        UserError: Names the first offender.
    """
    if not names:
        raise UserError("The vocabulary is empty.", "Give at least one class name.")
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        key = str(name).strip().lower()
        if not key:
            raise UserError(f"Name {i} of the vocabulary is empty.", "Give it a name.")
        if key in seen:
            raise UserError(
                f"The vocabulary has {name!r} twice (numbers {seen[key]} and {i}).",
                "Remove one of them: two equal rows cannot be told apart.",
            )
        seen[key] = i


def load_vocabulary(
    path: str | Path, names: Sequence[str] | None = None
) -> tuple[list[str], Tensor]:
    """Read text vectors by name.

    Args:
        path: ``.npz`` with ``names`` and ``embeddings``.
        names: Names wanted, in this order; None: all, in the file's order.

    Returns:
        Names and [C, D] vectors.

    Raises:
        UserError: No file, not such a file, or a name is missing.
    """
    make = "python tools/make_clip_candidates.py text --help"
    if not Path(path).is_file():
        raise UserError(f"There is no file {path} with text vectors.", f"See {make}")
    try:
        with np.load(path, allow_pickle=False) as content:
            stored = [str(name) for name in content["names"]]
            vectors = torch.from_numpy(content["embeddings"].astype(np.float32))
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path} holds no arrays 'names' and 'embeddings' ({error}).", f"See {make}"
        ) from error
    check_names(stored)
    if names is None:
        return stored, vectors
    missing = [name for name in names if name not in stored]
    if missing:
        raise UserError(
            f"{path} has no text vector of {', '.join(map(repr, missing[:5]))}.",
            f"Make vectors for all class names: {make}",
        )
    return list(names), vectors[[stored.index(name) for name in names]]


def orthonormal_rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Fixed random orthonormal vectors, [count, width].

    Raises:
        UserError: More vectors than dimensions.
    """
    if count > width:
        raise UserError(
            f"{count} orthonormal vectors do not fit into {width} dimensions.",
            "Raise emb_dim of the TextEmbeddingClassifier.",
        )
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(width, count, generator=generator))
    return basis.T.contiguous()
