"""Audio: pseudo-labels for speech representations. Importing registers it."""

from pld_mmdet.audio.clips import Chirps, WaveFolder
from pld_mmdet.audio.hubertopic import HuBERTopic
from pld_mmdet.audio.metrics import SpeechProbeMetric
from pld_mmdet.audio.networks import AudioNTT
from pld_mmdet.audio.speech import TopicSpeech, WaveFiles
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
