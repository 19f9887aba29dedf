"""HuBERTopic: front end, labels, masks, losses, gradients, the runs."""

import math
import wave

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.audio.data.labels import FrameSample, Units, topic_model
from pld_mmdet.audio.data.masks import pooled, span_mask
from pld_mmdet.audio.data.speech import TopicSpeech, WaveFiles, read_wave
from pld_mmdet.audio.hubertopic import HuBERTopic
from pld_mmdet.audio.networks.features import frame_geometry, log_mel, mel_filters, mfcc
from pld_mmdet.errors import UserError
from tests.toy_run import assert_resume_is_exact, enter, toy_config, train

SMALL = dict(
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    conv_dim=(4, 4),
    conv_kernel=(20, 10),
    conv_stride=(10, 8),
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    layerdrop=0.0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
)


@pytest.fixture(scope="module")
def speech():
    return TopicSpeech("train", 12)


def model(speech=None, seed: int = 0, **options) -> HuBERTopic:
    torch.manual_seed(seed)
    settings = dict(clusters=6, num_topics=3, projection=4, sample_rate=4000)
    net = HuBERTopic(SMALL, **{**settings, **options})
    if speech is not None:
        net.start_stage("labels", DataLoader(speech, 5), None)
    return net


def batch_of(speech, *places: int) -> dict:
    whole = next(iter(DataLoader([speech[i] for i in places], len(places))))
    return {key: whole[key] for key in ("inputs", "index")}


def seeded_loss(net, batch) -> dict:
    torch.manual_seed(1)
    return net.loss(**batch)


# The front end


def test_a_tone_lights_its_filter():
    filters = mel_filters(20, 512, 8000)
    assert filters.shape == (20, 257)
    assert filters.max() <= 1.0
    peak = int(filters[9].argmax())
    frequency = peak * 4000 / 256
    tone = torch.sin(2 * math.pi * frequency * torch.arange(2000) / 8000)[None]
    mel = log_mel(tone, 8000, window=400, hop=200, bins=20)
    assert mel.shape == (1, (2000 - 400) // 200 + 1, 20)
    assert (mel.argmax(-1) == 9).all()


def test_mfcc_of_silence_and_of_a_louder_sound():
    torch.manual_seed(0)
    sound = torch.randn(2, 4000)
    one, two = mfcc(sound, 4000), mfcc(3 * sound, 4000)
    assert one.shape == (2, (4000 - 400) // 320 + 1, 39)
    # loudness is in the first coefficient alone: log 9 times the root of 40 bins
    shift = torch.zeros(39)
    shift[0] = math.log(9) * math.sqrt(40)
    torch.testing.assert_close(two - one, shift.expand_as(one), atol=2e-3, rtol=0)
    assert mfcc(torch.zeros(1, 4000), 4000)[..., 13:].abs().max() == 0


def test_frames_are_those_of_the_convolutions(speech):
    assert frame_geometry((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)) == (400, 320)
    net = model()
    waves = torch.zeros(1, 4800)
    frames = net.encode(waves)[0].shape[1]
    assert frames == net.frames(4800) == 59
    assert mfcc(waves, 4000, net.window, net.hop).shape[1] == frames
    assert speech[0]["units"].shape == (frames,)


# Labels


def test_topics_are_of_bags_of_units():
    rng = np.random.default_rng(0)
    kinds = np.array([[0.8, 0.1, 0.05, 0.05], [0.05, 0.05, 0.1, 0.8]])
    truth = np.arange(30) % 2
    units = [rng.choice(4, 50, p=kinds[t]).astype(np.int32) for t in truth]
    topics, mixtures = topic_model(units, 4, 2, seed=0)
    np.testing.assert_allclose(mixtures.sum(1), 1)
    assert (topics == truth).all() or (topics == 1 - truth).all()
    shuffled = [rng.permutation(u) for u in units]
    again, same = topic_model(shuffled, 4, 2, seed=0)
    assert (again == topics).all()
    np.testing.assert_array_equal(same, mixtures)


def test_units_are_nearest_centres_and_repeatable():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    truth = rng.integers(3, size=80)
    frames = (centres[truth] + rng.normal(0, 0.1, (80, 2))).astype(np.float32)
    units = Units(frames, 3, seed=0)(frames)
    assert units.dtype == np.int32
    assert len(set(zip(truth, units, strict=True))) == 3
    np.testing.assert_array_equal(units, Units(frames, 3, seed=0)(frames))
    with pytest.raises(UserError, match="2 frames cannot make 3 clusters"):
        Units(frames[:2], 3, seed=0)


def test_standardised_frames_weigh_every_coefficient_alike():
    """Two groups differ by 1 beside noise of 30: raw frames hide them."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    frames = np.stack([truth + rng.normal(0, 0.05, 200), rng.normal(0, 30, 200)], 1)
    frames = frames.astype(np.float32)
    agree = []
    for standardise in (True, False):
        units = Units(frames, 2, seed=0, standardise=standardise, n_init=20)(frames)
        agree.append(max((units == truth).mean(), (units != truth).mean()))
    assert agree[0] > 0.95
    assert agree[1] < 0.7


def test_a_sample_of_frames_is_even_and_the_same_for_any_number_of_shares():
    def sample(limit, shares):
        parts = [FrameSample(limit, seed=3) for _ in range(shares)]
        for number in range(60):
            frames = np.stack([np.full(300, number), np.arange(300)], 1)
            parts[number % shares].add(number, frames)
        keys = [np.concatenate([*p._keys, np.empty(0)]) for p in parts]

        def gather(mine):  # all processes send their keys, then what they keep
            if isinstance(mine, np.ndarray):
                return keys
            bound = FrameSample(limit, 3)._bound(np.concatenate(keys))
            for p in parts[1:]:
                p._shrink(bound)
            return [mine, *((p._places, p._frames, p.seen) for p in parts[1:])]

        return parts[0].joined(gather)

    whole, seen = sample(10**6, 1)
    assert seen == len(whole) == 18_000
    assert whole[:301].tolist() == [*([0, t] for t in range(300)), [1, 0]]
    few, seen = sample(1000, 1)
    assert (len(few), seen) == (1000, 18_000)
    assert np.bincount(few[:, 0].astype(int), minlength=60).min() > 3
    assert few[:, 1].mean() == pytest.approx(149.5, abs=10)
    for shares in (2, 7):
        again, seen = sample(1000, shares)
        assert seen == 18_000
        np.testing.assert_array_equal(again, few)


def test_a_stream_of_frames_is_never_held_whole():
    sample = FrameSample(100, seed=0)
    held = []
    for number in range(300):
        sample.add(number, np.zeros((1000, 4)))
        held.append(sum(map(len, sample._frames)))
    assert max(held) <= 2 * 100 + 10_000
    assert sample.joined(lambda mine: [mine])[0].shape == (100, 4)


def test_labels_are_those_of_all_frames_at_once(speech):
    """The recorded recipe: standardise, mix, fit, label; in batches it is the same."""
    net = model(speech)
    waves = torch.stack([speech[i]["inputs"] for i in range(12)])
    frames = np.concatenate(mfcc(waves, 4000, net.window, net.hop).numpy())
    mean, scale = frames.mean(0), frames.std(0) + 1e-6
    scaled = (frames - mean) / scale
    mixed = scaled[np.random.default_rng(0).permutation(len(scaled))]
    kmeans = MiniBatchKMeans(
        6, random_state=0, batch_size=2048, n_init=3, max_iter=50
    ).fit(mixed)
    assert (net.units.numpy() == kmeans.predict(scaled)).mean() > 0.999


def test_topics_belong_to_their_utterances(speech, monkeypatch):
    """Frames of the first six utterances are of two kinds, of the others of two more.

    A shuffled loader gives the same labels; an utterance's end is not counted.
    """
    kinds = torch.eye(4)

    class Talk(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, i):
            # what lies behind the end is of the other pair
            return {"inputs": torch.tensor([float(i)]), "index": i, "lengths": 1100}

    def extract(waves):
        first = 2 * (waves[:, 0].long() >= 6)  # [B]
        place = torch.arange(20)
        kind = first[:, None] + place % 2
        kind = torch.where(place < 10, kind, 3 - kind)
        return kinds[kind]

    net = model(clusters=4, num_topics=2)
    monkeypatch.setattr(net, "_features", lambda: extract)
    monkeypatch.setattr(net, "frames", lambda samples: samples // 110)
    net.start_stage("labels", DataLoader(Talk(), 5, shuffle=True), None)
    assert net.starts.tolist() == [10 * i for i in range(13)]
    topics = net.topics.tolist()
    assert topics[:6] == [topics[0]] * 6
    assert topics[6:] == [1 - topics[0]] * 6
    units = net.units.reshape(12, 5, 2)
    assert (units == units[:, :1]).all()
    assert set(units[0].unique().tolist()) & set(units[7].unique().tolist()) == set()


def test_topic_loss_pools_real_frames_and_asks_the_labels(speech):
    """Padding is left out; the truth, where a batch brings it, is not looked at."""
    net, batch = model(speech, topic_weight=0.7), batch_of(speech, 2, 7)
    net.topics[2], net.topics[7] = 2, 1
    batch["lengths"] = torch.tensor([2000, 4000])
    found = net.train(False) and seeded_loss(net, {**batch, "topics": torch.zeros(2)})
    torch.manual_seed(1)
    real = torch.arange(59) < net.frames(batch["lengths"])[:, None]
    mask = span_mask(batch["inputs"], 59, 0.8, 10, real)
    hidden, _ = net.encode(batch["inputs"], mask, real)
    mean = torch.stack([h[r].mean(0) for h, r in zip(hidden, real, strict=True)])
    topic = F.cross_entropy(net.to_topics(mean), torch.tensor([2, 1]))
    torch.testing.assert_close(found["loss_topic"], 0.7 * topic)


def test_labels_lie_where_the_utterances_are(speech):
    net = model(speech)
    assert net.starts.tolist() == [59 * i for i in range(13)]
    assert net.topics.shape == (12,)
    net.units = torch.arange(12 * 59)  # so that a place is seen
    offset = torch.tensor([3 * 80, 5 * 80])  # bits that 177 and 649 have, too
    found = net._units_of(torch.tensor([3, 11]), offset, 57)
    assert found[0].tolist() == [*range(180, 237)]
    assert found[1].tolist() == [*range(654, 708), 707, 707, 707]  # behind the end


# Masks


def test_spans():
    torch.manual_seed(0)
    mask = span_mask(torch.zeros(200, 1), 100, share=0.8, length=10)
    # eight spans, overlaps allowed: 1 - (1 - 10/91)^8 of the inner frames
    assert mask.float().mean().item() == pytest.approx(0.57, abs=0.04)
    runs = F.pad(mask.int(), (1, 1)).diff(dim=1)
    for row in runs:
        length = (row == -1).nonzero() - (row == 1).nonzero()
        assert length.min() >= 10
    real = torch.arange(100) < torch.tensor([[40], [9]])
    short = span_mask(torch.zeros(2, 1), 100, 0.8, 10, real)
    assert not short[0, 40:].any()
    assert short[0].any()
    assert not short[1].any()  # too short for one span


# Losses


def test_unit_logits_are_cosines_over_the_temperature():
    net = model()
    hidden = torch.randn(50, 8)
    logits = net.unit_logits(hidden)
    assert logits.shape == (50, 6)
    assert logits.abs().max() <= 10 + 1e-4
    expected = F.cosine_similarity(net.to_units(hidden[0]), net.codes[2], dim=0) / 0.1
    torch.testing.assert_close(logits[0, 2], expected)


def test_losses_are_what_the_docstring_says(speech):
    net, batch = model(speech, topic_weight=0.3), batch_of(speech, 2, 7)
    found = seeded_loss(net, batch)
    torch.manual_seed(1)
    mask = span_mask(batch["inputs"], 59, 0.8, 10)
    hidden, _ = net.encode(batch["inputs"], mask)
    units = torch.stack([net.units[59 * i : 59 * i + 59] for i in (2, 7)]).long()
    unit = F.cross_entropy(net.unit_logits(hidden[mask]), units[mask])
    torch.testing.assert_close(found["loss_hubert"], unit)
    topic = F.cross_entropy(net.to_topics(hidden.mean(1)), net.topics[[2, 7]])
    torch.testing.assert_close(found["loss_topic"], 0.3 * topic)


def test_lambda_zero_is_hubert(speech):
    with_topics, plain = model(speech), model(speech, topic_weight=0.0)
    batch = batch_of(speech, 0, 5)
    one, two = seeded_loss(with_topics, batch), seeded_loss(plain, batch)
    assert two.keys() == {"loss_penalty", "loss_hubert"}
    assert one["loss_hubert"].item() == pytest.approx(two["loss_hubert"].item())


def test_labels_of_unmasked_frames_do_not_matter(speech):
    net, batch = model(speech), batch_of(speech, 4)
    before = seeded_loss(net, batch)["loss_hubert"]
    torch.manual_seed(1)
    open_frames = ~span_mask(batch["inputs"], 59, 0.8, 10)[0]
    assert open_frames.any()
    own = net.units[4 * 59 : 5 * 59]
    own[open_frames] = (own[open_frames] + 1) % 6
    assert seeded_loss(net, batch)["loss_hubert"] == before
    own[~open_frames] = (own[~open_frames] + 1) % 6
    assert seeded_loss(net, batch)["loss_hubert"] != before


def test_without_masks_there_is_no_loss_and_no_nan(speech):
    net = model(speech, mask_prob=0.0, topic_weight=0.0, mask_length=100)
    loss = seeded_loss(net, batch_of(speech, 1))["loss_hubert"]
    loss.backward()
    assert loss.item() == 0
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in grads)


def test_padding_changes_neither_the_pooled_vector_nor_the_losses_labels(speech):
    real = torch.tensor([[True, True, False]])
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pooled(hidden, real).item() == 2.0
    net, batch = model(speech), batch_of(speech, 11)
    batch["lengths"] = torch.tensor([2000])
    losses = seeded_loss(net, batch)
    assert all(value.isfinite() for value in losses.values())


def test_the_probe_trains_its_readers_alone(speech):
    net = model(speech, probe=(12, 4))
    enter(net, "probe")
    net.train()
    assert not net.encoder.training
    whole = next(iter(DataLoader(speech, 4)))
    sum(net.loss(**whole).values()).backward()
    learns = {
        n.partition(".")[0] for n, p in net.named_parameters() if p.grad is not None
    }
    assert learns == {"readers"}
    assert not any(p.requires_grad for p in net.encoder.parameters())
    enter(net, "pretrain")
    assert net.to_topics.weight.requires_grad
    assert not net.readers[0][1].weight.requires_grad


def test_the_convolutions_learn_a_share_of_their_gradient():
    """What they say is as it was; of a gradient a quarter arrives."""
    waves, found = torch.randn(2, 800), []
    for scale in (1.0, 0.25):
        net = model(feature_grad_scale=scale).eval()
        hidden, penalty = net.encode(waves)
        first = net.encoder.feature_extractor.conv_layers[0].conv.weight
        found.append((hidden, penalty, torch.autograd.grad(penalty, first)[0]))
    whole, part = found
    torch.testing.assert_close(part[:2], whole[:2])
    torch.testing.assert_close(part[2], whole[2] / 4)


def test_units_that_are_read_right_are_counted(monkeypatch):
    """Two frames each of two utterances; the readers say units 1 0 2 2."""
    net = model(probe=(3, 4))
    of_units, of_topics = torch.eye(3)[[1, 0, 2, 2]], torch.randn(2, 4)
    monkeypatch.setattr(net, "_read", lambda waves, real: (of_units, of_topics))
    topics, units = torch.tensor([3, 1]), torch.tensor([[1, 2], [2, 0]])
    (answer,) = net.predict(torch.zeros(2, 200), topics, units)
    assert answer["unit_correct"].tolist() == [1, 0, 1, 0]
    assert answer["logits"] is of_topics
    assert answer["targets"] is topics


@pytest.mark.parametrize("kind", [OSError, ValueError])
def test_a_labeller_that_cannot_be_loaded_is_named(kind, monkeypatch):
    def gone(*_, **__):
        raise kind("no such file\nand a long tale")

    net = model(labeller="nowhere")
    monkeypatch.setattr("transformers.HubertModel.from_pretrained", gone)
    with pytest.raises(UserError, match=r"cannot be loaded: no such file\nName a"):
        net._features()


def test_what_settings_leave_to_the_defaults():
    net = HuBERTopic(SMALL)
    assert (net.sample_rate, net.kmeans) == (16_000, {"fit_frames": 200_000})


def test_what_is_missing_is_said(speech):
    net = model()
    with pytest.raises(UserError, match="no labels to learn from"):
        net.loss(**batch_of(speech, 0))
    with pytest.raises(UserError, match="no work_dataloader"):
        net.start_stage("labels", None, None)
    with pytest.raises(UserError, match="nothing to train in stage probe"):
        enter(net, "probe")
    with pytest.raises(UserError, match="no stage 'lda'"):
        net.check_stage("lda")
    with pytest.raises(UserError, match="part='dev'"):
        TopicSpeech("dev", 1)


# Data


def write_wave(path, samples, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def test_wave_files(tmp_path):
    ramp = np.arange(-1000, 1000) / 4000
    write_wave(tmp_path / "a.wav", ramp)
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav", 16000), ramp, atol=1e-4)
    (tmp_path / "list.txt").write_text("a.wav\n")
    long = WaveFiles("list.txt", str(tmp_path), size=3000)[0]
    assert (long["lengths"], long["offset"], len(long["inputs"])) == (2000, 0, 3000)
    assert long["inputs"][:2000].mean().abs() < 1e-5
    assert long["inputs"][2000:].abs().max() == 0
    crop = WaveFiles("list.txt", str(tmp_path), size=500)[0]
    assert crop["offset"] % 320 == 0
    with pytest.raises(UserError, match="1 channels of 16 bits at 16000 Hz"):
        read_wave(tmp_path / "a.wav", 8000)
    with pytest.raises(UserError, match="cannot be read"):
        read_wave(tmp_path / "b.wav", 16000)


# Runs


def test_toy_run_resumes_exactly(tmp_path):
    runner, last = assert_resume_is_exact("configs/hubertopic/toy.py", tmp_path, 1)
    net = runner.model
    assert runner.max_iters == 3
    assert len(net.units) == 32 * 59
    torch.manual_seed(3)
    settings = {k: v for k, v in runner.cfg.model.items() if k != "type"}
    fresh = HuBERTopic(**settings)
    fresh.load_state_dict(last["state_dict"], strict=True)
    assert torch.equal(fresh.topics, net.topics)


@pytest.mark.parametrize("row", ["plain", "topic_only"])
def test_rows_of_the_table_train(row, tmp_path):
    metrics = train(toy_config(f"configs/hubertopic/{row}.py", tmp_path)).val_loop.run()
    assert metrics.keys() == {"accuracy", "unit_accuracy"}


def test_paper_config_trains_on_files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        write_wave(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 5000 + 700 * i))
    (tmp_path / "train_960.txt").write_text("\n".join(f"{i}.wav" for i in range(4)))
    labeller = model().encoder
    labeller.save_pretrained(tmp_path / "iteration1")
    cfg = toy_config("configs/hubertopic/paper.py", tmp_path)
    cfg.model.update(config=SMALL, clusters=8, num_topics=2, labeller_layer=1)
    cfg.model.labeller = str(tmp_path / "iteration1")
    labels, pretrain = cfg.train_cfg.stages
    labels.work_dataloader.dataset.data_root = str(tmp_path)
    inner = cfg.train_dataloader.dataset.dataset
    inner.update(data_root=str(tmp_path), size=4000, hop=80)
    for loader in (labels.work_dataloader, cfg.train_dataloader):
        loader.num_workers = 0
    cfg.train_dataloader.batch_size = 2
    pretrain.max_iters = 2
    cfg.param_scheduler = None
    net = train(cfg).model
    assert net.starts.tolist()[-1] == len(net.units)
    assert net.starts.diff().tolist() == [net.frames(5000 + 700 * i) for i in range(4)]
