"""Audio: pseudo-labels for speech representations. Importing registers it."""

from pld_mmdet.audio.hubertopic import HuBERTopic
from pld_mmdet.audio.metrics import SpeechProbeMetric
from pld_mmdet.audio.speech import TopicSpeech, WaveFiles

__all__ = ["HuBERTopic", "SpeechProbeMetric", "TopicSpeech", "WaveFiles"]
