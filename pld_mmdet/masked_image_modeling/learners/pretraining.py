"""What the family shares: masks, pixel loss, fine-tuning, the encoder's file."""

from pathlib import Path

import torch
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.state.checkpoint import save_atomic
from pld_mmdet.masked_image_modeling.networks.vit import random_visible
from pld_mmdet.registry import MODELS

#: What the stage ``export`` writes into its folder.
ENCODER_FILE = "encoder.pth"


def masked_pixel_loss(
    guess: Tensor, patches: Tensor, keep: Tensor, normalise: bool = False
) -> Tensor:
    """Mean squared error, averaged over the patches that ``keep`` hides.

    Args:
        guess: N x L x P pixels.
        patches: N x L x P true pixels.
        keep: N x V numbers of the visible patches.
        normalise: Each true patch has mean 0 and (unbiased) variance 1, as MAE's
            ``norm_pix_loss``.
    """
    if normalise:
        patches = patches.float()
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6).sqrt()
    error = ((guess.float() - patches) ** 2).mean(-1)
    hidden = torch.ones_like(error).scatter(1, keep, 0.0)
    return (error * hidden).sum() / hidden.sum()


def decoder_for(encoder: nn.Module, config: dict) -> nn.Module:
    """A decoder that fits an encoder."""
    fits = dict(
        encoder_dim=encoder.dim,
        num_patches=encoder.num_patches,
        pixels=encoder.patch_size**2 * encoder.in_channels,
    )
    return MODELS.build({**fits, **config})


class MaskedPretraining(Method):
    """A student ViT that is pre-trained without labels, then fine-tuned with few.

    Stages of ``StagedLoop`` that every subclass has: ``mae`` (the student alone, as a
    masked autoencoder), ``export`` (no iterations: writes the encoder as a plain state
    dict ``stages/<number>_export/encoder.pth``, which ``MaskedViT(checkpoint=...)``
    reads) and ``finetune`` (whole, labelled images, a linear head on the mean patch
    token; all weights learn). A subclass makes ``self.head`` with its own last parts,
    by :meth:`add_head`.

    Args:
        student: Config of a ``MaskedViT``.
        decoder: Config of its ``MAEDecoder``; None: there is none, and no stage `mae`.
        mask_ratio: Share of hidden patches [0.75].
        normalise_pixels: MAE's ``norm_pix_loss`` [False].
        mean, std: Subtracted from and divided out of all inputs [0 and 1].
    """

    def __init__(
        self,
        student: dict,
        decoder: dict | None,
        mask_ratio: float = 0.75,
        normalise_pixels: bool = False,
        mean: float = 0.0,
        std: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student = MODELS.build(student)
        self.decoder = decoder and decoder_for(self.student, decoder)
        self.mask_ratio, self.normalise_pixels = mask_ratio, normalise_pixels
        self.mean, self.std = mean, std

    def add_head(self, num_classes: int) -> None:
        """The linear classifier of ``finetune``."""
        self.head = nn.Linear(self.student.dim, num_classes)

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """``export`` writes the student's weights."""
        if name == "export" and is_main_process():
            weights = {k: v.cpu() for k, v in self.student.state_dict().items()}
            save_atomic(weights, folder / ENCODER_FILE)

    def loss_mae(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The student as a masked autoencoder of images N x C x H x W."""
        return {"loss_rec": self.reconstruction(self.student, self.decoder, inputs)}

    def loss_finetune(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of whole images N x C x H x W, N labels."""
        logits = self.head(self.features(inputs))
        return {"loss_ce": F.cross_entropy(logits, targets)}

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Features N x D and the head's logits N x K beside the labels."""
        features = self.features(inputs)
        logits = self.head(features)
        return [{"features": features, "logits": logits, "targets": targets}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """The student's tokens of the whole image, N x (1 + L) x D."""
        return self.student(self.normalised(inputs))

    def features(self, inputs: Tensor) -> Tensor:
        """The student's mean patch token, N x D."""
        return self.outputs(inputs)[:, 1:].mean(1)

    def reconstruction(
        self, encoder: nn.Module, decoder: nn.Module, inputs: Tensor
    ) -> Tensor:
        """The pixel loss of an encoder and its decoder under a mask of its own."""
        inputs, keep = self.masked(inputs)
        guess = decoder(encoder(inputs, keep), keep)
        patches = encoder.patches(inputs)
        return masked_pixel_loss(guess, patches, keep, self.normalise_pixels)

    def masked(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images, and the numbers of the patches that stay visible."""
        length = self.student.num_patches
        keep = random_visible(len(inputs), length, self.mask_ratio, inputs.device)
        return self.normalised(inputs), keep

    def normalised(self, inputs: Tensor) -> Tensor:
        """Images as the networks see them."""
        return (inputs - self.mean) / self.std
