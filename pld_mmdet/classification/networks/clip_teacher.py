"""CLIP as a zero-shot teacher and as a student's backbone, from a folder or the hub."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.reading import users_text
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.networks.clip import MEAN, STD, encode_names, load_clip

TEMPLATES = (
    "a photo of a {}.",
    "a photo of one small {}.",
    "a photo of one large {}.",
    "a poor photo of a {}.",
    "a drawing of a {}.",
)


@MODELS.register_module()
class CLIPImageEncoder(nn.Module):
    """The image half of a CLIP model; the text half only reads the class names once.

    Images are resized to the model's side (bicubic) and normalised here, so that a
    student and a teacher of other sizes can share a crop.

    Args:
        source: Folder or hub name of a CLIP model in transformers' format.
        names: Class names in the order of the labels, or a text file with one a line.
        templates: Sentences with ``{}`` for the name; their vectors are averaged.
        mean: Of the normalisation [CLIP's].
        std: Of the normalisation [CLIP's].
        text_length: Of the names' vectors, as in ``encode_names`` [``unit``; DHO's
            students ``raw``, its teacher ``mean``].

    Attributes:
        text_embeddings: [C, D].
        feat_dim: D.

    Raises:
        UserError: transformers is missing, nothing can be loaded, or no names.
    """

    def __init__(
        self,
        source: str,
        names: Sequence[str] | str,
        templates: Sequence[str] = TEMPLATES,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        text_length: str = "unit",
    ) -> None:
        super().__init__()
        model, tokenizer = load_clip(source)
        sentences = [[t.format(n) for t in templates] for n in read_names(names)]
        self.text_embeddings = encode_names(model, tokenizer, sentences, text_length)
        self.vision, self.projection = model.vision_model, model.visual_projection
        self.side = model.config.vision_config.image_size
        self.feat_dim = model.config.projection_dim
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(
                name, torch.tensor(value).view(3, 1, 1), persistent=False
            )

    def features(self, x: Tensor) -> Tensor:
        """RGB images in [0, 1], N x 3 x H x W -> N x D projected vectors."""
        if x.shape[-2:] != (self.side, self.side):
            size = (self.side, self.side)
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        pooled = self.vision(pixel_values=(x - self.mean) / self.std).pooler_output
        return self.projection(pooled)


@MODELS.register_module()
class CLIPZeroShot(nn.Module):
    """``scale * cos(image, text of class c)``: CLIP as a classifier without training.

    The text vectors are a buffer: a checkpoint tells which classes it was for.

    Args:
        source: As for ``CLIPImageEncoder``, like ``names``, ``templates`` and
            ``text_length``.
        scale: Of the cosines [100, CLIP's own].
    """

    text: Tensor

    def __init__(
        self,
        source: str,
        names: Sequence[str] | str,
        templates: Sequence[str] = TEMPLATES,
        scale: float = 100.0,
        text_length: str = "unit",
    ) -> None:
        super().__init__()
        self.encoder = CLIPImageEncoder(
            source, names, templates, text_length=text_length
        )
        self.register_buffer("text", self.encoder.text_embeddings)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """RGB images in [0, 1], N x 3 x H x W -> N x C logits."""
        return self.scale * F.normalize(self.encoder.features(x), dim=1) @ self.text.T


def read_names(names: Sequence[str] | str) -> list[str]:
    """Class names, from a list or from a text file with one a line.

    Raises:
        UserError: No such file, or a name is empty.
    """
    if isinstance(names, str):
        fix = "Write one name a line, in the order of the labels."
        names = users_text(names, "file of class names", fix).splitlines()
    names = [name.strip().replace("_", " ") for name in names]
    if not names or not all(names):
        raise UserError("A class name is empty, or there is none.", "Name each class.")
    return names
