"""Diffusion priors of an object's other views, given one view and relative angles."""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.optional import require
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.registry import MODELS


def pose(angles: Tensor) -> Tensor:
    """Elevation and azimuth in degrees [N, 2], relative -> Zero123's four numbers.

    The difference of polar angles, sine and cosine of the azimuth, and that of the
    distances, which is 0 here.
    """
    up, side = torch.deg2rad(angles).unbind(-1)
    return torch.stack([-up, side.sin(), side.cos(), torch.zeros_like(up)], -1)


class Prior(nn.Module):
    """Interface: predicts the noise in (latents of) a view."""

    @abstractmethod
    def encode(self, pictures: Tensor) -> Tensor:
        """Colours in [0, 1], N x 3 x H x W -> what noise is added to."""

    @abstractmethod
    def noise(
        self, z: Tensor, level: Tensor, reference: Tensor | None, angles: Tensor
    ) -> Tensor:
        """The noise in z.

        Args:
            z: Noised latents N x C x H x W.
            level: [N].
            reference: View at angles (0, 0), N x 3 x H x W in [0, 1]; None: unknown.
            angles: Of the wanted view [N, 2], degrees.
        """

    def guided(
        self,
        z: Tensor,
        level: Tensor,
        reference: Tensor,
        angles: Tensor,
        scale: float,
    ) -> Tensor:
        """Classifier-free guidance: ``u + scale (c - u)``; 1 is one call."""
        guess = self.noise(z, level, reference, angles)
        if scale == 1.0:
            return guess
        plain = self.noise(z, level, None, angles)
        return plain + scale * (guess - plain)


@MODELS.register_module()
class ViewPrior(Prior):
    """On pixels: the reference beside the noised view, the pose beside the time.

    Args:
        unet: Config of ``DiffusersUNet`` with 6 input and 3 output channels and
            ``class_embed_type='identity'``.
        width: Of its time embedding: 4 times the first of ``block_out_channels``.
    """

    def __init__(self, unet: dict, width: int) -> None:
        super().__init__()
        self.unet = MODELS.build(unet)
        self.pose = nn.Linear(4, width)

    def encode(self, pictures: Tensor) -> Tensor:
        """To [-1, 1]."""
        return 2 * pictures - 1

    def noise(
        self, z: Tensor, level: Tensor, reference: Tensor | None, angles: Tensor
    ) -> Tensor:
        """One call of the network."""
        shown = torch.zeros_like(z) if reference is None else 2 * reference - 1
        place = self.pose(pose(angles).to(z))
        if reference is None:
            place = torch.zeros_like(place)
        return self.unet(torch.cat([z, shown], 1), level, place)


@MODELS.register_module()
class Zero123Prior(Prior):
    """Zero123 in diffusers' folders (Liu et al. 2023): 8-channel latents, CLIP, pose.

    Args:
        pretrained: Folder with ``unet``, ``vae``, ``image_encoder`` and
            ``cc_projection`` (``diffusion_pytorch_model.bin`` of a linear layer from
            768 + 4 numbers to 768).
        size: Of the pictures that the VAE sees [256].
    """

    # of the pictures that CLIP was trained on
    MEAN = (0.48145466, 0.4578275, 0.40821073)
    STD = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, pretrained: str, size: int = 256) -> None:
        super().__init__()
        diffusers = require("diffusers", "diffusion")
        clip = require("transformers", "diffusion").CLIPVisionModelWithProjection
        load = dict(pretrained_model_name_or_path=pretrained)
        unet = diffusers.UNet2DConditionModel
        self.unet = unet.from_pretrained(**load, subfolder="unet")
        self.vae = diffusers.AutoencoderKL.from_pretrained(**load, subfolder="vae")
        self.clip = clip.from_pretrained(pretrained, subfolder="image_encoder")
        width = self.clip.config.projection_dim
        self.mix = nn.Linear(width + 4, width)
        file = f"{pretrained}/cc_projection/diffusion_pytorch_model.bin"
        state = load_checkpoint_file(file)
        names = {"weight": "projection.weight", "bias": "projection.bias"}
        self.mix.load_state_dict({ours: state[name] for ours, name in names.items()})
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.MEAN, self.STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.size = size

    def _posterior(self, pictures: Tensor):
        resized = F.interpolate(pictures, (self.size, self.size), mode="bilinear")
        return self.vae.encode(2 * resized - 1).latent_dist

    def encode(self, pictures: Tensor) -> Tensor:
        """The VAE's latents, with gradient."""
        drawn = self._posterior(pictures).sample()
        return drawn * self.vae.config.scaling_factor

    def noise(
        self, z: Tensor, level: Tensor, reference: Tensor | None, angles: Tensor
    ) -> Tensor:
        """One call of the U-Net."""
        if reference is None:
            shown = torch.zeros_like(z)
            words = z.new_zeros(len(z), 1, self.mix.out_features)
        else:
            shown = self._posterior(reference).mode()
            side = self.clip.config.image_size
            seen = F.interpolate(reference, (side, side), mode="bicubic")
            embedding = self.clip((seen - self.mean) / self.std).image_embeds
            place = pose(angles).to(embedding)
            words = self.mix(torch.cat([embedding, place], 1))[:, None]
        joined = torch.cat([z, shown], 1)
        return self.unet(joined, level, words, return_dict=False)[0]
