"""Audio: pseudo-labels for speech representations. Importing registers it."""

from pld_mmdet.audio.data.clips import Chirps, WaveFolder
from pld_mmdet.audio.data.speech import TopicSpeech, WaveFiles
from pld_mmdet.audio.hubertopic import HuBERTopic
from pld_mmdet.audio.networks.audio_ntt import AudioNTT
from pld_mmdet.audio.scores.metrics import SpeechProbeMetric
from pld_mmdet.audio.unfused import UnFuSeD

__all__ = [
    "AudioNTT",
    "Chirps",
    "HuBERTopic",
    "SpeechProbeMetric",
    "TopicSpeech",
    "UnFuSeD",
    "WaveFiles",
    "WaveFolder",
]
