"""A generated object that moves, seen by a camera and by a careless labeller.

``MovingObject`` is one scene: a body and two arms of 40 Gaussians, one arm turns. View
0 is the video; the pseudo views of a multi-view model are imitated by the true ones
with an error of their own in every frame: a shift of a pixel, another colour, blur.
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.diffusion.rendering.splatting import Gaussians, orbit, render
from pld_mmdet.engine.data.arrays import read_array
from pld_mmdet.engine.data.images import read_image
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.reading import read_json
from pld_mmdet.registry import DATASETS

FOV, RADIUS = 40.0, 2.5
FRAMES = 8
# Elevation and azimuth of the video, three pseudo views, and two that nobody trains on.
VIEWS = ((0, 0), (30, 60), (30, 180), (30, 300), (15, 120), (15, 240))
HELD_OUT = dict(val=(4,), test=(5,))


class Puppet:
    """A body and two arms; the second arm turns with time.

    Args:
        number: Which one: colours, lengths, and how far the arm turns.
    """

    def __init__(self, number: int) -> None:
        dice = torch.Generator().manual_seed(7919 + number)
        body = 0.16 * torch.randn(12, 3, generator=dice)
        along = torch.linspace(0.15, 0.65, 14)[:, None]
        thin = 0.03 * torch.randn(2, 14, 3, generator=dice)
        sides = torch.tensor([[-1.0, 0.3, 0.0], [1.0, 0.0, 0.0]])
        arms = along * F.normalize(sides, dim=1)[:, None] + thin
        self.means = torch.cat([body, arms[0], arms[1]])
        tint = torch.rand(3, 3, generator=dice)
        colours = tint[torch.tensor([0] * 12 + [1] * 14 + [2] * 14)]
        noise = 0.1 * torch.randn(40, 3, generator=dice)
        self.colours = (0.8 * colours + noise).clamp(0, 1)
        self.scales = torch.tensor([0.12] * 12 + [0.06] * 28)[:, None].repeat(1, 3)
        low, high = math.radians(60), math.radians(120)
        self.turn = low + (high - low) * torch.rand((), generator=dice)

    def at(self, time: float) -> Gaussians:
        """At a time in [0, 1)."""
        angle = self.turn * time
        c, s = torch.cos(angle), torch.sin(angle)
        zero, one = torch.zeros(()), torch.ones(())
        # about the y axis and up: seen from everywhere
        turn = torch.stack(
            [
                torch.stack([c, zero, s]),
                torch.stack([0.6 * s, one, zero]),
                torch.stack([-s, zero, c]),
            ]
        )
        means = torch.cat([self.means[:26], self.means[26:] @ turn.T])
        turns = torch.tensor([[1.0, 0, 0, 0]]).expand(40, -1)
        return Gaussians(
            means, turns, self.scales, torch.full((40,), 0.9), self.colours
        )

    def pictures(self, time: float, angles: Tensor, size: int) -> Tensor:
        """Colour on white, and alpha, from (elevation, azimuth) [V, 2]: [V, 4, ...]."""
        cameras = orbit(angles[:, 0], angles[:, 1], RADIUS)
        return render(self.at(time), cameras, size, FOV)


def careless(pictures: Tensor, dice: torch.Generator) -> Tensor:
    """Each picture [V, 4, H, W] with its own shift of a pixel, tint and blur."""
    spoilt = []
    for picture in pictures:
        shift = torch.randint(-1, 2, (2,), generator=dice).tolist()
        moved = picture.roll(shift, (1, 2))
        tint = 1 + 0.15 * torch.randn(3, 1, 1, generator=dice)
        paint = (1 - (1 - moved[:3]) * tint).clamp(0, 1)
        moved = torch.cat([paint, moved[3:]])
        padded = F.pad(moved[None], (1, 1, 1, 1), mode="replicate")
        spoilt.append(F.avg_pool2d(padded, 3, stride=1)[0])
    return torch.stack(spoilt)


@DATASETS.register_module()
class MovingObject(Dataset):
    """Views of one scene: dicts of ``inputs`` [4, H, W] and where they belong.

    ``camera`` [3, 4], ``angles`` [2] in degrees, ``time`` in [0, 1), ``video`` (view 0
    or a pseudo view), ``reference`` [4, H, W]: view 0 of the same time, ``points``
    [40, 3]: the labeller's point cloud of the frame, ``space`` and ``between``: whether
    the view, or the frame, is one that nobody trains on.

    Args:
        part: ``train``: even frames of the video and of three spoilt views. ``val`` and
            ``test``: true pictures of one view each that is not trained on, at all
            frames up to the last even one, and of the training views at odd frames.
        scene: Which object.
        size: Of the pictures [24].
        first_only: Of ``train`` only the first frame.
        views: Of ``train``: ``all``, or ``video`` for view 0 alone.
    """

    def __init__(
        self,
        part: str,
        scene: int = 0,
        size: int = 24,
        first_only: bool = False,
        views: str = "all",
    ) -> None:
        one_of("MovingObject", part=(part, ("train", *HELD_OUT)))
        puppet, angles = Puppet(scene), torch.tensor(VIEWS, dtype=torch.float)
        dice = torch.Generator().manual_seed(104729 + scene)
        cameras = orbit(angles[:, 0], angles[:, 1], RADIUS)
        self.items: list[dict] = []
        for frame in range(FRAMES - 1):
            time, odd = frame / FRAMES, frame % 2 == 1
            true = puppet.pictures(time, angles, size)
            drift = 0.03 * torch.randn(1, 3, generator=dice)
            noise = 0.02 * torch.randn(40, 3, generator=dice)
            points = puppet.at(time).means + drift + noise
            spoilt = torch.cat([true[:1], careless(true[1:4], dice)])
            if part == "train":
                shown = [] if odd or (first_only and frame) else range(4)
                shown = [view for view in shown if views == "all" or view == 0]
            else:
                shown = [*(range(4) if odd else ()), *HELD_OUT[part]]
            for view in shown:
                picture = spoilt[view] if part == "train" else true[view]
                self.items.append(
                    {
                        "inputs": picture,
                        "camera": cameras[view],
                        "angles": angles[view],
                        "time": torch.tensor(time),
                        "video": torch.tensor(view == 0),
                        "reference": true[0],
                        "points": points,
                        "space": torch.tensor(view > 3 and not odd),
                        "between": torch.tensor(odd and view <= 3),
                        "index": len(self.items),
                    }
                )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return self.items[index]


@DATASETS.register_module()
class SceneViews(Dataset):
    """A user's own scene, with the entries of :class:`MovingObject`.

    ``views/<frame>_<view>.png`` with transparency, square, numbers from 0; view 0 is
    the video. ``views.json``: a list of each view's [elevation, azimuth] in degrees.
    ``points/<frame>.npy``: [P, 3], the same P in all frames; where there are none, set
    ``model.chamfer=0``.

    Args:
        data_root: The folder.
        first_only: Only the first frame.
        radius: Of the cameras [2.5].
    """

    def __init__(
        self, data_root: str, first_only: bool = False, radius: float = RADIUS
    ) -> None:
        root = Path(data_root)
        self.files = sorted(root.glob("views/*_*.png"), key=_numbers)
        angles = root / "views.json"
        if not self.files or not angles.is_file():
            raise UserError(
                f"{root} holds no views/<frame>_<view>.png, or no views.json.",
                "Put the scene there as configs/gen4d/paper.py says (how_to_get).",
            )
        views = read_json(angles, [[float]], "list of views")
        if any(len(view) != 2 for view in views):
            raise UserError(
                f"{angles}: a view is not [elevation, azimuth].",
                "Give every view two angles in degrees.",
            )
        self.angles = torch.tensor(views).reshape(-1, 2)
        self.cameras = orbit(self.angles[:, 0], self.angles[:, 1], radius)
        numbers = [_numbers(file) for file in self.files]
        self.frames = 1 + max(frame for frame, _ in numbers)
        if max(view for _, view in numbers) >= len(self.angles):
            raise UserError(
                f"{angles} has {len(self.angles)} views, the pictures have more.",
                "Give every view of views/<frame>_<view>.png its two angles.",
            )
        self.root = root
        if first_only:
            self.files = [file for file in self.files if _numbers(file)[0] == 0]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        frame, view = _numbers(self.files[index])
        cloud = self.root / f"points/{frame}.npy"
        points = read_array(cloud) if cloud.exists() else np.zeros((0, 3))
        reference = self.files[index].with_name(f"{frame}_0.png")
        return {
            "inputs": _on_white(self.files[index]),
            "camera": self.cameras[view],
            "angles": self.angles[view],
            "time": torch.tensor(frame / self.frames),
            "video": torch.tensor(view == 0),
            "reference": _on_white(reference),
            "points": torch.from_numpy(points.astype(np.float32)),
            "index": index,
        }


def _numbers(file: Path) -> tuple[int, int]:
    frame, _, view = file.stem.partition("_")
    if not (frame.isdigit() and view.isdigit()):
        raise UserError(f"{file}: no <frame>_<view>.png.", "Use numbers from 0.")
    return int(frame), int(view)


def _on_white(file: Path) -> Tensor:
    """Colour on white, and alpha [4, H, W] in [0, 1]."""
    found = read_image(file, colours=False)
    if found.dtype != np.uint8:  # 16 bits
        found = (found // 257).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(found).convert("RGBA"), dtype=np.float32) / 255
    picture = torch.from_numpy(pixels).permute(2, 0, 1)
    alpha = picture[3:]
    return torch.cat([picture[:3] * alpha + 1 - alpha, alpha])


@DATASETS.register_module()
class OtherObjects(Dataset):
    """Pairs of views of other objects, for a prior: ``inputs``, ``reference``,
    ``angles``.

    Args:
        size: How many pairs.
        pixels: Of the pictures [24].
        first: Number of the first object; scenes have small numbers [10 000].
    """

    def __init__(self, size: int = 256, pixels: int = 24, first: int = 10_000) -> None:
        self.pixels, self.first = pixels, first
        dice = torch.Generator().manual_seed(first)
        self.places = torch.rand(size, 3, generator=dice).tolist()
        self.made: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        if index not in self.made:  # drawn when it is first asked for
            up, side, time = self.places[index]
            angles = torch.tensor([[0.0, 0.0], [60 * up - 30, 360 * side]])
            puppet = Puppet(self.first + index)
            front, other = puppet.pictures(time, angles, self.pixels)
            item = {"inputs": other, "reference": front, "angles": angles[1]}
            self.made[index] = item
        return self.made[index]
