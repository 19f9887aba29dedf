"""Text as a condition: diffusers' U-Net, CLIP's words and scores, captioned images."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.registry import DATASETS, MODELS


@MODELS.register_module()
class TextUNet(nn.Module):
    """diffusers' ``UNet2DConditionModel``: words through cross attention.

    A condition is the words' vectors [N, L, D], or ``(words, guidance [N])``: the
    guidance goes in as sines and cosines of 1000 w (LCM), through a layer that only the
    student trains.

    Args:
        pretrained: Folder or hub name; ``subfolder='unet'`` goes into ``kwargs``. None
            builds random weights from ``kwargs``.
        guidance_dim: Numbers of the guidance's embedding [256].
        kwargs: Of ``UNet2DConditionModel``, or of its ``from_pretrained``.
    """

    def __init__(
        self, pretrained: str | None = None, guidance_dim: int = 256, **kwargs
    ) -> None:
        super().__init__()
        model = require("diffusers", "diffusion").UNet2DConditionModel
        self.unet = (
            model(**kwargs, time_cond_proj_dim=guidance_dim)
            if pretrained is None
            else model.from_pretrained(
                pretrained,
                time_cond_proj_dim=guidance_dim,
                low_cpu_mem_usage=False,
                **kwargs,
            )
        )
        # what guidance adds begins at 0: the student begins as the teacher
        nn.init.zeros_(self.unet.time_embedding.cond_proj.weight)
        self.dim = guidance_dim

    def forward(self, x: Tensor, time: Tensor, condition) -> Tensor:
        """N x C x H x W, N, words or (words, w) -> N x C x H x W."""
        words, w = condition if isinstance(condition, tuple) else (condition, None)
        told = None if w is None else waves(w, self.dim).to(x)
        return self.unet(x, time, words, timestep_cond=told, return_dict=False)[0]


def waves(values: Tensor, dim: int) -> Tensor:
    """Sines, then cosines of 1000 v at dim / 2 frequencies from 1 to 1 / 10000."""
    half = dim // 2
    step = torch.arange(half, device=values.device, dtype=torch.float) / (half - 1)
    angles = 1000.0 * values.float()[:, None] * 10_000.0**-step
    return torch.cat([angles.sin(), angles.cos()], 1)


@MODELS.register_module()
class ClipWords(nn.Module):
    """The vectors of words [N, L, D] of token numbers [N, L].

    Args:
        pretrained: Folder of a diffusers pipeline with ``text_encoder``. None builds
            random weights from ``kwargs``.
        empty: Token numbers of no text: start, then ends ... [49406, 49407, ...].
        kwargs: Of transformers' ``CLIPTextConfig``.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        empty: tuple[int, ...] = (49406, *[49407] * 76),
        **kwargs,
    ) -> None:
        super().__init__()
        library = require("transformers", "diffusion")
        self.encoder = (
            library.CLIPTextModel(library.CLIPTextConfig(**kwargs))
            if pretrained is None
            else library.CLIPTextModel.from_pretrained(
                pretrained, subfolder="text_encoder"
            )
        )
        self.register_buffer("empty", torch.tensor(empty), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L] -> [N, L, D]."""
        return self.encoder(tokens)[0]

    def nothing(self, count: int) -> Tensor:
        """Of no text, [count, L, D]."""
        return self(self.empty.expand(count, -1))


@MODELS.register_module()
class ClipScore(nn.Module):
    """The cosine of CLIP's two towers: an expert, (images in [0, 1], tokens) -> [N].

    Args:
        pretrained: Folder or hub name of a ``CLIPModel``. None builds random weights
            from ``kwargs``, the arguments of ``CLIPConfig``.
    """

    # of the pictures that CLIP was trained on
    MEAN = (0.48145466, 0.4578275, 0.40821073)
    STD = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, pretrained: str | None = None, **kwargs) -> None:
        super().__init__()
        library = require("transformers", "diffusion")
        self.clip = (
            library.CLIPModel(library.CLIPConfig(**kwargs))
            if pretrained is None
            else library.CLIPModel.from_pretrained(pretrained)
        )
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.MEAN, self.STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """N x 3 x H x W, [N, L] -> [N]."""
        side = self.clip.config.vision_config.image_size
        seen = F.interpolate(x, (side, side), mode="bicubic", antialias=True)
        found = self.clip(input_ids=targets, pixel_values=(seen - self.mean) / self.std)
        return F.cosine_similarity(found.image_embeds, found.text_embeds, dim=1)


@MODELS.register_module()
class LatentReward(nn.Module):
    """A proxy: the cosine of a tower on latents and one on tokens -> [N].

    The authors' towers come from CLIP, and their weights are not released; these are
    small and begin at random.

    Args:
        channels: Of the latents [4].
        vocabulary: Of the tokens [49408].
        width: Of the layers [256].
        dim: Of the common space [512].
        scale: Of the cosine [1].
    """

    def __init__(
        self,
        channels: int = 4,
        vocabulary: int = 49408,
        width: int = 256,
        dim: int = 512,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.looks = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=4),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, dim),
        )
        self.reads, self.scale = nn.EmbeddingBag(vocabulary, dim), scale

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """N x C x H x W, [N, L] -> [N]."""
        return self.scale * F.cosine_similarity(self.looks(x), self.reads(targets))


def _inside(root: Path, name: str) -> bool:
    """Whether a name stays below a folder; links are followed by nobody here."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


@DATASETS.register_module()
class CaptionedImages(Dataset):
    """A folder of images and captions.json, file name -> token numbers.

    ``tools`` make the numbers once: ``tokenizer(text, padding='max_length',
    truncation=True).input_ids``. A sample: ``inputs`` 3 x S x S in [0, 1] (the middle
    square), ``targets`` [L], ``index``.

    Args:
        data_root: The folder.
        size: S.

    Raises:
        UserError: No such file, an image that is missing or outside the folder, or
            captions of several lengths.
    """

    def __init__(self, data_root: str, size: int) -> None:
        root = Path(data_root)
        file = root / "captions.json"
        if not file.is_file():
            raise UserError(
                f"{root} holds no captions.json.",
                "Write {file name: token numbers} of its images there.",
            )
        found = read_json(file, {"*": [int]}, "list of captions")
        outside = [name for name in found if not _inside(root, name)]
        if outside:
            raise UserError(
                f"{file}: {outside[0]!r} is outside {root}.",
                "Name files of the folder itself, as paths relative to it.",
            )
        missing = [name for name in found if not (root / name).is_file()]
        if missing or len({*map(len, found.values())}) != 1:
            what = f"has no image {missing[0]!r}" if missing else "differs in length"
            raise UserError(
                f"{file}: a caption {what}.",
                "Give every image of the folder as many token numbers (padding="
                "'max_length').",
            )
        self.captions = list(found.items())
        self.root, self.size = root, size

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict:
        name, tokens = self.captions[index]
        image = Image.fromarray(read_image(self.root / name))
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        pixels = np.asarray(square.resize((self.size, self.size)), np.float32)
        return {
            "inputs": torch.from_numpy(pixels / 255).permute(2, 0, 1),
            "targets": torch.tensor(tokens),
            "index": index,
        }
