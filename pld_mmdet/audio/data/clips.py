"""Short sounds with a class: generated chirps, and WAV files in folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from pld_mmdet.audio.data.speech import read_wave
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS

_PARTS = {"train": 1, "val": 2, "test": 3}


@DATASETS.register_module()
class Chirps(Dataset):
    """Gliding tones in noise: where they start and how fast they glide is the class.

    Four start frequencies, each rising or falling: eight classes. Onset, length,
    loudness, exact start and slope vary, and another, quieter chirp of any class
    disturbs. A sample is ``dict(inputs=[S] wave, targets=class, index=number)``.

    Args:
        part: ``train``, ``val`` or ``test``.
        size: Sounds, as many of each class.
        labelled: Only the first so many, as many of each class [all].
        samples: S.
        sample_rate: In Hz.
        noise: Standard deviation of white noise beside a tone of amplitude 0.4 to 1.
        disturbance: Largest amplitude of the other chirp.

    Raises:
        UserError: Unknown part, or sizes that are no multiples of eight.
    """

    def __init__(
        self,
        part: str,
        size: int,
        labelled: int | None = None,
        samples: int = 3800,
        sample_rate: int = 4000,
        noise: float = 0.5,
        disturbance: float = 0.4,
    ) -> None:
        count = size if labelled is None else labelled
        if part not in _PARTS or size % 8 or count % 8 or count > size:
            raise UserError(
                f"Chirps: part={part!r}, size={size}, labelled={labelled}.",
                "part is train, val or test; sizes are multiples of 8.",
            )
        self.samples, self.sample_rate = samples, sample_rate
        self.noise, self.disturbance = noise, disturbance
        self.targets = torch.arange(count) % 8
        waves = [self._wave(_PARTS[part], number) for number in range(count)]
        empty = np.zeros((0, samples), np.float32)
        self.waves = torch.from_numpy(
            np.concatenate([empty, *[w[None] for w in waves]])
        )
        self.metainfo = {
            "classes": tuple(
                f"{start} {way}" for start in range(4) for way in ("up", "down")
            )
        }

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": self.waves[int(index)],
            "targets": self.targets[int(index)],
            "index": int(index),
        }

    def _wave(self, stream: int, number: int) -> np.ndarray:
        rng, label = np.random.default_rng((stream, number)), number % 8
        wave = rng.uniform(0.4, 1.0) * self._chirp(label, rng)
        other = self._chirp(int(rng.integers(8)), rng)
        wave += rng.uniform(0.1, self.disturbance) * other
        wave += self.noise * rng.standard_normal(self.samples)
        return wave.astype(np.float32)

    def _chirp(self, label: int, rng: np.random.Generator) -> np.ndarray:
        start = (400, 650, 900, 1150)[label // 2] * rng.uniform(0.92, 1.08)
        slope = (500, -500)[label % 2] * rng.uniform(0.5, 1.3)  # Hz in a second
        seconds = np.arange(self.samples) / self.sample_rate
        onset = rng.uniform(0, 0.4) * seconds[-1]
        length = rng.uniform(0.35, 0.6) * seconds[-1]
        since = seconds - onset
        phase = 2 * np.pi * (start * since + slope * since**2 / 2)
        inside = (since >= 0) & (since < length)
        return np.sin(phase + rng.uniform(0, 2 * np.pi)) * inside


@DATASETS.register_module()
class WaveFolder(Dataset):
    """Mono 16-bit WAV files in one folder a class: ``<class>/<name>.wav``.

    A sample is ``dict(inputs=[size], targets=class, index=number)``: a random crop, or
    the file with zeros behind it.

    Args:
        data_root: The folder of the classes' folders.
        sample_rate: That all files must have, in Hz.
        size: Samples [15200: 0.95 s].
        classes: Names of the folders in the order of the labels [by name].

    Raises:
        UserError: There are no such files.
    """

    def __init__(
        self,
        data_root: str,
        sample_rate: int = 16000,
        size: int = 15200,
        classes: Sequence[str] | None = None,
    ) -> None:
        root = Path(data_root)
        names = sorted(p.name for p in root.glob("*") if p.is_dir())
        names = list(classes) if classes is not None else names
        found = [
            (f, i) for i, n in enumerate(names) for f in sorted(root.glob(f"{n}/*.wav"))
        ]
        if not found:
            raise UserError(
                f"{root} holds no WAV files in folders.",
                "Each class has a folder of its own: <class>/<name>.wav.",
            )
        self.files = [path for path, _ in found]
        self.targets = torch.tensor([label for _, label in found])
        self.sample_rate, self.size = sample_rate, size
        self.metainfo = {"classes": tuple(names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        samples = torch.from_numpy(read_wave(self.files[index], self.sample_rate))
        spare = max(len(samples) - self.size, 0)
        offset = int(torch.randint(spare + 1, ()))  # SeededDataset seeds it by draw
        crop = samples[offset : offset + self.size]
        return {
            "inputs": torch.nn.functional.pad(crop, (0, self.size - len(crop))),
            "targets": self.targets[index],
            "index": int(index),
        }
