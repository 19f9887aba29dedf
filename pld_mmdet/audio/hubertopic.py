"""HuBERTopic: masked units and utterance topics (Maekaku et al., 2023)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from pld_mmdet.audio.data.labels import FrameSample, Units, topic_model
from pld_mmdet.audio.data.masks import pooled, span_mask
from pld_mmdet.audio.networks.features import frame_geometry, mfcc
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

LABELS = ("units", "starts", "topics")


@MODELS.register_module()
class HuBERTopic(Method):
    """HuBERT with one more task: the topic of the utterance.

        units   = k-means of frame features, once, offline
        topics  = argmax of LDA's mixture of each utterance's bag of units, offline
        L       = L_hubert + lambda L_topic (+ feature penalty)
        L_hubert = CE(softmax(cos(W h_t, e_c) / temperature), unit_t), mean over
                   masked frames
        L_topic  = CE(V mean_t h_t, topic), mean over utterances

    Stages of ``StagedLoop``: ``labels`` (no iterations; its ``work_dataloader`` gives
    all training utterances whole, in order), ``pretrain``, and optionally ``probe``,
    which trains linear readers of the frozen encoder on true labels, to measure it.
    Labels are buffers of the checkpoint, so resuming needs no other file.

    No code was found. Open points, here arguments or stated: the utterance's vector is
    the mean over frames of the last layer, from the masked pass; units are counted
    frame by frame (no collapsing); lambda and K are not given in any source. HuBERT's
    masks also have at least two spans and as many frames in all utterances of a batch.

    Args:
        config: Fields of transformers' ``HubertConfig``.
        clusters: Units C (HuBERT: 100 from MFCC, then 500).
        num_topics: K of LDA.
        topic_weight: lambda; 0 is HuBERT.
        unit_weight: Of L_hubert; 0 learns topics alone.
        feature_penalty: Of the mean squared output of the convolutions (HuBERT: 10).
        feature_grad_scale: Their gradient's factor (HuBERT: 0.1).
        temperature: Of the unit logits (HuBERT: 0.1).
        projection: Channels in which frames and units meet (HuBERT: 256).
        mask_prob: Share of frames under masks, before overlaps (HuBERT: 0.8).
        mask_length: Frames of a mask (HuBERT: 10).
        sample_rate: In Hz, for the MFCC.
        labeller: Folder or hub name of a HuBERT whose layer gives the features to
            cluster [none: MFCC, the first iteration].
        labeller_layer: Its layer (HuBERT: 6).
        labels_seed: Of k-means and LDA.
        kmeans: ``fit_frames``, most frames to fit on [200 000]; ``standardise`` [True];
            and options of scikit-learn's ``MiniBatchKMeans``.
        probe: ``(units, topics)``: sizes of the two readers [none].
    """

    units: Tensor
    starts: Tensor
    topics: Tensor

    default_stage = "pretrain"
    work = {"labels": "the training set, unshuffled and uncropped"}

    def __init__(
        self,
        config: dict,
        clusters: int = 100,
        num_topics: int = 10,
        topic_weight: float = 0.1,
        unit_weight: float = 1.0,
        feature_penalty: float = 10.0,
        feature_grad_scale: float = 0.1,
        temperature: float = 0.1,
        projection: int = 256,
        mask_prob: float = 0.8,
        mask_length: int = 10,
        sample_rate: int = 16000,
        labeller: str | None = None,
        labeller_layer: int = 6,
        labels_seed: int = 0,
        kmeans: dict | None = None,
        probe: tuple[int, int] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        transformers = require("transformers", "audio")
        self.encoder = transformers.HubertModel(transformers.HubertConfig(**config))
        settings = self.encoder.config
        width = settings.hidden_size
        self.window, self.hop = frame_geometry(
            settings.conv_kernel, settings.conv_stride
        )
        self.to_units = nn.Linear(width, projection)
        self.codes = nn.Parameter(torch.empty(clusters, projection).uniform_())
        self.to_topics = nn.Linear(width, num_topics)
        self.clusters, self.num_topics = clusters, num_topics
        self.topic_weight, self.unit_weight = topic_weight, unit_weight
        self.feature_penalty = feature_penalty
        self.feature_grad_scale = feature_grad_scale
        self.temperature = temperature
        self.mask_prob, self.mask_length = mask_prob, mask_length
        self.sample_rate = sample_rate
        self.labeller, self.labeller_layer = labeller, labeller_layer
        self.labels_seed = labels_seed
        self.kmeans = {"fit_frames": 200_000, **(kmeans or {})}
        # units of all frames of all utterances, one after the other
        self.register_buffer("units", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("starts", torch.zeros(1, dtype=torch.long))
        self.register_buffer("topics", torch.zeros(0, dtype=torch.long))
        # every process makes the same labels: nothing to send around
        self._ddp_params_and_buffers_to_ignore = set(LABELS)
        sizes = () if probe is None else probe
        self.readers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, size))
            for size in sizes
        )

    def enter_stage(self, name: str) -> None:
        """Choose what learns: all but the readers, or the readers alone."""
        if name == "probe" and not self.readers:
            raise UserError(
                "There is nothing to train in stage probe.",
                "Set model.probe=(number of units, number of topics).",
            )
        self.requires_grad_(name != "probe")
        self.readers.requires_grad_(name == "probe")
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "HuBERTopic":
        """While the readers learn, the encoder stays as it is evaluated."""
        super().train(mode)
        if self.progress.stage == "probe":
            self.encoder.train(False)
        return self

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Stage ``labels``: features, k-means, LDA; all of it into buffers."""
        if name != "labels":
            return
        self.check_work(name, loader)
        # Each process goes through its share of the utterances, in the data set's own
        # order, twice: to draw the frames that k-means is fitted on, and to label. A
        # whole corpus of features would be hundreds of gigabytes.
        share = range(get_rank(), len(loader.dataset), get_world_size())
        extract, options = self._features(), dict(self.kmeans)
        sample = FrameSample(options.pop("fit_frames"), self.labels_seed)
        for number, frames in self._utterances(loader, share, extract):
            sample.add(number, frames)
        frames, seen = sample.joined(all_gather_object)
        made = [None]
        if is_main_process():
            made = [Units(frames, self.clusters, self.labels_seed, **options)]
        broadcast_object_list(made)
        fitted, (units_of,) = len(frames), made
        del frames, sample
        mine = [
            (number, units_of(frames))
            for number, frames in self._utterances(loader, share, extract)
        ]
        parts = all_gather_object(mine)
        units = [u for _, u in sorted(chain(*parts), key=lambda pair: pair[0])]
        made = [None]
        if is_main_process():
            made = [
                topic_model(units, self.clusters, self.num_topics, self.labels_seed)
            ]
        broadcast_object_list(made)
        ((topics, mixtures),) = made
        where = self.starts.device
        counts = torch.tensor([len(u) for u in units])
        self.units = torch.from_numpy(np.concatenate(units)).to(where)
        self.starts = F.pad(counts.cumsum(0), (1, 0)).to(where)
        self.topics = torch.from_numpy(topics).to(where)
        # near-uniform mixtures make the argmax noise
        spread = -(mixtures * np.log(mixtures)).sum(1).mean() / np.log(self.num_topics)
        sizes = np.bincount(topics, minlength=self.num_topics).tolist()
        print_log(
            f"{len(units)} utterances, {seen} frames, {self.clusters} units fitted on "
            f"{fitted} of them; topics {sizes}, "
            f"mean entropy of the mixtures {spread:.2f} of 1",
            logger="current",
            level=logging.INFO,
        )

    def _utterances(
        self, loader: DataLoader, share: Sequence[int], extract: Callable
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers and frames [T, D] of some utterances, a batch at a time."""
        some = DataLoader(
            Subset(loader.dataset, share),
            loader.batch_size,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )
        numbers = iter(share)
        for batch in some:
            batch = self.data_preprocessor(batch)
            waves = batch["inputs"]
            with torch.autocast(waves.device.type, enabled=False):
                found = extract(waves).float().cpu().numpy()
            lengths = batch.get("lengths")
            counts = [None] * len(found)
            if lengths is not None:
                counts = self.frames(lengths).tolist()
            for frames, count in zip(found, counts, strict=True):
                yield next(numbers), frames[:count]

    def _features(self):
        """Waves [B, S] -> features [B, T, D] that k-means sees."""
        if self.labeller is None:
            return lambda waves: mfcc(waves, self.sample_rate, self.window, self.hop)
        transformers = require("transformers", "audio")
        try:
            network = transformers.HubertModel.from_pretrained(
                self.labeller, weights_only=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"The labeller {self.labeller!r} cannot be loaded: "
                f"{str(error).strip().splitlines()[0]}",
                "Name a folder with config.json and model.safetensors, or a hub name.",
            ) from error
        network = network.eval().to(self.starts.device)

        def layer(waves: Tensor) -> Tensor:
            answer = network(waves, output_hidden_states=True)
            return answer.hidden_states[self.labeller_layer]

        return layer

    def frames(self, samples):
        """How many frames that many samples have."""
        return (samples - self.window) // self.hop + 1

    def encode(self, waves: Tensor, mask: Tensor | None = None, real=None):
        """Waves [B, S] -> frames [B, T, D] and the penalty on the convolutions.

        Args:
            waves: [B, S].
            mask: [B, T], True where the frame is hidden from the transformer.
            real: [B, T], True where a frame is no padding.
        """
        net, scale = self.encoder, self.feature_grad_scale
        features = net.feature_extractor(waves).transpose(1, 2)
        features = scale * features + (1 - scale) * features.detach()
        penalty = features.float().square().mean()
        hidden = net.feature_projection(features)
        if mask is not None:
            hidden = torch.where(
                mask[..., None], net.masked_spec_embed.to(hidden.dtype), hidden
            )
        return net.encoder(hidden, attention_mask=real).last_hidden_state, penalty

    def loss_pretrain(
        self,
        inputs: Tensor,
        index: Tensor,
        offset: Tensor | None = None,
        lengths: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """HuBERT's losses and the topic's.

        Args:
            inputs: Waves [B, S].
            index: [B] numbers of the utterances.
            offset: [B] samples that were cut away before, multiples of the hop [0].
            lengths: [B] samples that are no padding [S].
        """
        frames = self.frames(inputs.shape[1])
        real = self._real(lengths, frames)
        if len(self.starts) == 1:
            raise UserError(
                "There are no labels to learn from yet.",
                "Begin train_cfg.stages with a stage `labels`.",
            )
        mask = span_mask(inputs, frames, self.mask_prob, self.mask_length, real)
        hidden, penalty = self.encode(inputs, mask, real)
        losses = {"loss_penalty": self.feature_penalty * penalty}
        if self.unit_weight:
            wanted = self._units_of(index, offset, frames)
            logits = self.unit_logits(hidden[mask])
            # no masked frame, no loss
            ce = F.cross_entropy(logits, wanted[mask], reduction="sum")
            losses["loss_hubert"] = self.unit_weight * ce / mask.sum().clamp(min=1)
        if self.topic_weight:
            z = self.to_topics(pooled(hidden, real)).float()
            ce = F.cross_entropy(z, self.topics[index])
            losses["loss_topic"] = self.topic_weight * ce
        return losses

    def _real(self, lengths: Tensor | None, frames: int) -> Tensor | None:
        if lengths is None:
            return None
        place = torch.arange(frames, device=lengths.device)
        return place < self.frames(lengths)[:, None]

    def _units_of(self, index: Tensor, offset: Tensor | None, frames: int) -> Tensor:
        """Labels [B, T]; those behind an utterance's end are never asked for."""
        begin = self.starts[index]
        if offset is not None:
            begin = begin + offset // self.hop
        place = begin[:, None] + torch.arange(frames, device=begin.device)
        return self.units[place.clamp(max=len(self.units) - 1)].long()

    def unit_logits(self, hidden: Tensor) -> Tensor:
        """Cosine of frames [n, D] with every code over the temperature, [n, C]."""
        ours = F.normalize(self.to_units(hidden).float(), dim=-1)
        return ours @ F.normalize(self.codes.float(), dim=-1).T / self.temperature

    def loss_probe(
        self,
        inputs: Tensor,
        topics: Tensor,
        units: Tensor,
        lengths: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropies of the readers with the truth.

        Args:
            inputs: Waves [B, S].
            topics: [B].
            units: [B, T].
            lengths: [B] samples that are no padding [S].
        """
        real = self._real(lengths, self.frames(inputs.shape[1]))
        of_units, of_topics = self._read(inputs, real)
        return {
            "loss_unit_probe": F.cross_entropy(of_units, units.flatten()),
            "loss_topic_probe": F.cross_entropy(of_topics, topics),
        }

    def _read(self, waves: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits of the readers: [B T, units] and [B, topics]."""
        with torch.no_grad():
            hidden, _ = self.encode(waves, None, real)
        units, topics = self.readers
        return units(hidden.flatten(0, 1)), topics(pooled(hidden, real))

    def predict(
        self, inputs: Tensor, topics: Tensor, units: Tensor, **batch
    ) -> list[dict]:
        """What the readers find: logits and truth of topics and of units."""
        real = self._real(batch.get("lengths"), self.frames(inputs.shape[1]))
        of_units, of_topics = self._read(inputs, real)
        correct = (of_units.argmax(-1) == units.flatten()).float()
        return [{"logits": of_topics, "targets": topics, "unit_correct": correct}]

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        for name in LABELS:  # their size is the data's, known to the checkpoint
            found = state_dict.get(prefix + name)
            if found is not None:
                setattr(self, name, found.to(getattr(self, name).device, copy=True))
        super()._load_from_state_dict(state_dict, prefix, *args)
