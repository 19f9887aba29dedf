"""Denoising networks ``(x, time, condition) -> x`` and discriminator heads."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class TimeMLP(nn.Module):
    """Denoiser of vectors: layers that all see the time's Fourier features.

    Args:
        dim: Length of x.
        width: Of the hidden layers.
        depth: Number of hidden layers.
        num_classes: Entries of the condition; 0 for none [0].
        frequencies: Fourier features of the time, at 1, 2, 4, ... [4].
        guided: A condition may be ``(classes, guidance [N])``, whose embedding begins
            at 0.
    """

    def __init__(
        self,
        dim: int = 2,
        width: int = 128,
        depth: int = 3,
        num_classes: int = 0,
        frequencies: int = 4,
        guided: bool = False,
    ) -> None:
        super().__init__()
        octaves = 2.0 ** torch.arange(frequencies)
        self.register_buffer("octaves", octaves, persistent=False)
        self.embed = nn.Linear(2 * frequencies + 1, width)
        self.classes = nn.Embedding(num_classes, width) if num_classes else None
        self.first = nn.Linear(dim, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(depth - 1)
        )
        self.features = nn.SiLU()  # what a discriminator head looks at
        self.last = nn.Linear(width, dim)
        self.guide = None
        if guided:
            self.guide = nn.Linear(2 * frequencies + 1, width)
            nn.init.zeros_(self.guide.weight)
            nn.init.zeros_(self.guide.bias)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """N x D, N, N class numbers or None -> N x D."""
        embedded = self.embed(self._waves(time))
        if isinstance(condition, tuple):
            condition, guidance = condition
            embedded = embedded + self.guide(self._waves(guidance))
        if self.classes is not None:
            embedded = embedded + self.classes(condition)
        hidden = self.first(x) + embedded
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.last(self.features(hidden))

    def _waves(self, values: Tensor) -> Tensor:
        values = values.float()[:, None]
        waves = values * self.octaves
        return torch.cat([values, waves.sin(), waves.cos()], 1)


@MODELS.register_module()
class DiffusersUNet(nn.Module):
    """diffusers' ``UNet2DModel`` with class numbers as its condition.

    Args:
        pretrained: Folder or hub name of saved weights; ``subfolder='unet'`` and the
            like go into ``kwargs``. None builds random weights from ``kwargs``.
        kwargs: Of ``UNet2DModel`` (``sample_size``, ``block_out_channels``, ...), or of
            its ``from_pretrained``.
    """

    def __init__(self, pretrained: str | None = None, **kwargs) -> None:
        super().__init__()
        model = require("diffusers", "diffusion").UNet2DModel
        self.unet = (
            model(**kwargs)
            if pretrained is None
            else model.from_pretrained(pretrained, **kwargs)
        )

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """N x C x H x W, N, N class numbers or None -> N x C x H x W."""
        return self.unet(x, time, class_labels=condition, return_dict=False)[0]


@MODELS.register_module()
class Beside(nn.Module):
    """A denoiser whose condition is an image of x's size, put into its channels.

    Args:
        network: Config of ``(x, time, None) -> x`` with the channels of both.
    """

    def __init__(self, network: dict) -> None:
        super().__init__()
        self.network = MODELS.build(network)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """N x C x H x W, N, N x c x H x W -> N x C x H x W."""
        return self.network(torch.cat([x, condition], 1), time, None)


@MODELS.register_module()
class ConvDenoiser(nn.Module):
    """A small denoiser of images at full resolution: residual blocks that see the time.

    Args:
        channels: Of its input.
        out_channels: Of its output.
        width: Of the blocks [24].
        depth: Blocks [4].
        frequencies: Fourier features of the time [4].
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        width: int = 24,
        depth: int = 4,
        frequencies: int = 4,
    ) -> None:
        super().__init__()
        octaves = 2.0 ** torch.arange(frequencies)
        self.register_buffer("octaves", octaves, persistent=False)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.embed = nn.Linear(2 * frequencies + 1, width * depth)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(depth)
        )
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, condition: None = None) -> Tensor:
        """N x C x H x W, N -> N x c x H x W."""
        time = time.float()[:, None]
        waves = time * self.octaves
        told = self.embed(torch.cat([time, waves.sin(), waves.cos()], 1))
        hidden = self.first(x)
        parts = told.chunk(len(self.blocks), 1)
        for block, part in zip(self.blocks, parts, strict=True):
            hidden = hidden + block(hidden + part[..., None, None])
        return self.last(hidden)


@MODELS.register_module()
class PatchLogits(nn.Sequential):
    """A discriminator of patches: one logit for each 7 x 7 pixels around a place.

    Args:
        channels: Of the images [3].
        width: Of its layers [32].
    """

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3),
        )


@MODELS.register_module()
class ConvHead(nn.Sequential):
    """DMD2's discriminator head on an 8 x 8 bottleneck: one logit an image.

    conv 4x4 stride 2 -> group norm, SiLU -> conv over all that is left -> group norm,
    SiLU -> conv 1x1 (official EDM code: 768 channels, 8 -> 4 -> 1).

    Args:
        channels: Of the bottleneck.
        size: Its height and width [8].
        groups: Of the group norms [32].
    """

    def __init__(self, channels: int, size: int = 8, groups: int = 32) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, size // 2),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, 1, 1),
        )


@MODELS.register_module()
class MLPHead(nn.Sequential):
    """A logit from a vector of features.

    Args:
        sizes: Widths from the features to the last hidden layer.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], 1))


class Critic(nn.Module):
    """The fake score network and the discriminator head on its bottleneck.

    Args:
        network: Denoiser.
        head: From the bottleneck's output to N x 1 (x 1 x 1) logits.
        bottleneck: Dotted name of the submodule of ``network`` that ``head`` looks at;
            of several outputs (a down block's: features, skips) the first.
    """

    def __init__(self, network: nn.Module, head: nn.Module, bottleneck: str) -> None:
        super().__init__()
        self.network, self.head, self.bottleneck = network, head, bottleneck
        network.get_submodule(bottleneck)  # a wrong name fails while building

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """The network's raw output."""
        return self.network(x, time, condition)

    def logits(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """N logits: large for real data. Layers behind the bottleneck don't run."""
        module = self.network.get_submodule(self.bottleneck)
        handle = module.register_forward_hook(_stop)
        try:
            self.network(x, time, condition)
        except _Reached as reached:
            return self.head(reached.features).flatten()
        finally:
            handle.remove()
        raise RuntimeError(f"{self.bottleneck} did not run in the forward pass.")


class _Reached(Exception):
    def __init__(self, features: Tensor) -> None:
        self.features = features


def _stop(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)


def check_classes(owner: nn.Module, dataset: object) -> None:
    """Refuse training data of other classes than a conditional model's.

    Args:
        owner: A method with ``num_classes``; 0: it has no conditions.
        dataset: Of training; one that names no classes passes.

    Raises:
        UserError: Their numbers differ.
    """
    names = (getattr(dataset, "metainfo", None) or {}).get("classes")
    count = owner.num_classes
    if count and names is not None and len(names) != count:
        shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        raise UserError(
            f"{type(owner).__name__}: model.num_classes is {count}, and the training "
            f"data have {len(names)} classes ({shown}).",
            f"Give it data of the teacher's {count} classes; for others set "
            "model.num_classes, with a teacher that was trained on them.",
        )


def start_from(teacher: nn.Module, *networks: nn.Module, owner: str, name: str) -> None:
    """Give networks the teacher's weights.

    Args:
        teacher: Whose weights.
        networks: Who gets them.
        owner: The method, for the sentence.
        name: The networks' place in the config.

    Raises:
        UserError: One is of another architecture.
    """
    try:
        for network in networks:
            network.load_state_dict(teacher.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()
        raise UserError(
            f"{owner}: the teacher's weights do not fit {name} "
            f"({len(reason) - 1} differences; {reason[1].strip()[:200]}).",
            f"Give {name} the architecture of model.teacher.",
        ) from error
