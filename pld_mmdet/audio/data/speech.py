"""Waveforms: synthetic speech whose units and topics are known, and WAV files."""

import io
import struct
import wave
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.reading import read_bytes, users_text
from pld_mmdet.registry import DATASETS

# Each part has its own random stream; the language itself is another one.
_PARTS = {"train": 1, "val": 2, "test": 3}


@DATASETS.register_module()
class TopicSpeech(Dataset):
    """Synthetic "speech": twelve voiced units, spoken in four topics.

    A unit is a harmonic sound with two formants. An utterance has a topic, which is a
    distribution over all units (they overlap), and a speaker, which is a pitch. A
    sample is ``dict(inputs=[S] wave, index=number, topics=topic, units=[T] unit of
    each frame)``; the two last ones are truth that only a probe may see.

    Args:
        part: ``train``, ``val`` or ``test``.
        size: Utterances.
        length: Units of one.
        unit_samples: Samples of a unit.
        sample_rate: In Hz.
        window: Receptive field of a frame in samples.
        hop: Samples between frames. A frame's unit is the one at its middle.
        units: Sounds.
        topics: Topics.
        focus: Dirichlet parameter of a topic's units: small is easy to tell apart.
        noise: Standard deviation of the white noise; the waves have about 1.
        language_seed: Which units and topics.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        length: int = 12,
        unit_samples: int = 400,
        sample_rate: int = 4000,
        window: int = 110,
        hop: int = 80,
        units: int = 12,
        topics: int = 4,
        focus: float = 1.0,
        noise: float = 0.3,
        language_seed: int = 5,
    ) -> None:
        one_of("TopicSpeech", part=(part, _PARTS))
        language = np.random.default_rng(language_seed)
        formants = language.uniform([200, 700], [700, 1800], (units, 2))
        by_topic = language.dirichlet([focus] * units, topics)
        rng = np.random.default_rng((language_seed, _PARTS[part]))
        self.topics = rng.integers(topics, size=size)
        sums = by_topic[self.topics].cumsum(1)
        draws = rng.random((size, length, 1))
        spoken = (draws > sums[:, None, :-1]).sum(-1)  # [size, length]
        pitch = rng.uniform(80, 220, size)
        self.waves = np.stack(
            [
                _speak(formants[u], f0, unit_samples, sample_rate, noise, rng)
                for u, f0 in zip(spoken, pitch, strict=True)
            ]
        )
        frames = (length * unit_samples - window) // hop + 1
        middle = np.arange(frames) * hop + window // 2
        self.units = spoken[:, middle // unit_samples]
        self.metainfo = {"classes": tuple(f"topic {i}" for i in range(topics))}

    def __len__(self) -> int:
        return len(self.waves)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": torch.from_numpy(self.waves[index]),
            "index": int(index),
            "topics": int(self.topics[index]),
            "units": torch.from_numpy(self.units[index]),
        }


def _speak(formants, f0, unit_samples, sample_rate, noise, rng) -> np.ndarray:
    """One utterance [length * unit_samples]; formants [length, 2] in Hz."""
    harmonics = np.arange(1, int(sample_rate / 2 / f0) + 1) * f0
    away = (harmonics - formants[:, :, None]) / np.array([80.0, 120.0])[:, None]
    amplitude = np.exp(-0.5 * away**2).sum(1) + 0.02  # [length, harmonics]
    amplitude /= np.sqrt((amplitude**2).sum(1, keepdims=True) / 2)
    time = np.arange(len(formants) * unit_samples) / sample_rate
    phase = rng.uniform(0, 2 * np.pi, len(harmonics))
    tones = np.sin(2 * np.pi * harmonics[:, None] * time + phase[:, None])
    sound = (amplitude.repeat(unit_samples, 0).T * tones).sum(0)
    return (sound + noise * rng.standard_normal(len(sound))).astype(np.float32)


@DATASETS.register_module()
class WaveFiles(Dataset):
    """Mono 16-bit WAV files that a list names, a path a line.

    A sample is ``dict(inputs=[size], index, offset, lengths)``: a crop that begins
    ``offset`` samples into the file, a multiple of ``hop`` so that frames and their
    labels stay together; shorter files are padded, ``lengths`` counts real samples.

    Args:
        ann_file: The list; paths are relative to ``data_root``.
        data_root: Folder of the list and the files.
        sample_rate: That all files must have, in Hz.
        size: Samples of a crop; None: the whole file (batches of one, for labelling).
        hop: Samples between frames.
        normalise: Waves to mean 0 and variance 1 [True; HuBERT base: False].

    Raises:
        UserError: The list names nothing, or a file is broken (:func:`read_wave`).
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        sample_rate: int = 16000,
        size: int | None = 250000,
        hop: int = 320,
        normalise: bool = True,
    ) -> None:
        self.normalise = normalise
        self.root = Path(data_root)
        fix = "Write one file name a line, relative to data_root."
        listed = users_text(Path(self.root, ann_file), "list of sounds", fix)
        self.names = [name for name in listed.splitlines() if name.strip()]
        if not self.names:
            raise UserError(f"{Path(self.root, ann_file)} names no sound.", fix)
        self.sample_rate, self.size, self.hop = sample_rate, size, hop
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        samples = read_wave(self.root / self.names[index], self.sample_rate)
        samples = torch.from_numpy(samples)
        if self.normalise:
            samples = (samples - samples.mean()) / (samples.std() + 1e-7)
        size, offset = self.size or len(samples), 0
        if len(samples) > size:
            # torch's stream: SeededDataset seeds it by draw
            places = (len(samples) - size) // self.hop + 1
            offset = int(torch.randint(places, ())) * self.hop
        crop = samples[offset : offset + size]
        return {
            "inputs": torch.nn.functional.pad(crop, (0, size - len(crop))),
            "index": int(index),
            "offset": offset,
            "lengths": len(crop),
        }


def read_wave(path: Path, sample_rate: int) -> np.ndarray:
    """A file's samples, float32 in [-1, 1).

    Raises:
        UserError: It cannot be read, was cut short, has fewer than two samples, is not
            mono, not 16-bit, or of another rate. Names the file.
    """
    try:
        # the bytes first: a pipe would block, and a folder has no header
        with wave.open(io.BytesIO(read_bytes(path))) as file:
            kind = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            stated = file.getnframes()
            data = file.readframes(stated)
    except (wave.Error, EOFError, OSError, struct.error, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it is empty"
        raise UserError(
            f"The sound {path} cannot be read: {reason}.",
            "Give WAV files; ffmpeg -i IN.flac -ac 1 -ar 16000 OUT.wav makes them.",
        ) from error
    if kind != (1, 16, sample_rate):
        raise UserError(
            f"{path} has {kind[0]} channels of {kind[1]} bits at {kind[2]} Hz.",
            f"Convert it: ffmpeg -i IN -ac 1 -ar {sample_rate} -sample_fmt s16 OUT.wav",
        )
    found = len(data) // 2
    if found < max(stated, 2):
        few = f"it has {found} of {stated} samples" if found < stated else "it is empty"
        few = f"it has {found} sample" if found == stated == 1 else few
        raise UserError(
            f"The sound {path} cannot be read: {few}.",
            "Replace the file, or remove it and what names it.",
        )
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768
