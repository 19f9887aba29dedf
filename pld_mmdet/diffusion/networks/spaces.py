"""Spaces that images are diffused in: their own pixels, or an autoencoder's latents."""

import torch
from torch import Tensor, nn

from pld_mmdet.engine.run.optional import require
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class PixelSpace(nn.Module):
    """Pixels in [0, 1] as [-1, 1]; back through a residual decoder that begins as none.

    Args:
        channels: Of the images [3].
        width: Of the decoder's three layers; 0: no decoder.
    """

    same = True  # latents have the images' shape

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        super().__init__()
        self.decoder = None
        if width:
            self.decoder = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, channels, 3, padding=1),
            )
            nn.init.zeros_(self.decoder[-1].weight)
            nn.init.zeros_(self.decoder[-1].bias)

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W."""
        return 2 * images - 1

    def decode(self, z: Tensor) -> Tensor:
        """N x C x H x W."""
        if self.decoder is not None:
            z = z + self.decoder(z)
        return (z + 1) / 2


@MODELS.register_module()
class LatentSpace(nn.Module):
    """diffusers' ``AutoencoderKL``; its decoder learns, its encoder never does.

    Args:
        pretrained: Folder or hub name; ``subfolder='vae'`` goes into ``kwargs``. None
            builds random weights from ``kwargs``.
        drawn: Latents are drawn from the encoder's answer, as Stable Diffusion's were
            in training [False: the most probable ones].
        kwargs: Of ``AutoencoderKL``, or of its ``from_pretrained``.
    """

    same = False

    def __init__(
        self, pretrained: str | None = None, drawn: bool = False, **kwargs
    ) -> None:
        super().__init__()
        self.drawn = drawn
        model = require("diffusers", "diffusion").AutoencoderKL
        self.vae = (
            model(**kwargs)
            if pretrained is None
            else model.from_pretrained(pretrained, **kwargs)
        )
        for part in (self.vae.encoder, self.vae.quant_conv):
            if part is not None:
                part.requires_grad_(False)

    def encode(self, images: Tensor) -> Tensor:
        """Images [0, 1] -> latents, scaled, N x C x h x w; without gradient."""
        with torch.no_grad():
            answer = self.vae.encode(2 * images - 1).latent_dist
            found = answer.sample() if self.drawn else answer.mode()
        return found * self.vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """N x 3 x H x W."""
        return (self.vae.decode(z / self.vae.config.scaling_factor).sample + 1) / 2
