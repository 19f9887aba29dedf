"""Offline labels of utterances: units by k-means, topics by LDA over units."""

import numpy as np

from pld_mmdet.engine.optional import require
from pld_mmdet.errors import UserError


def cluster_frames(
    features: list[np.ndarray], clusters: int, seed: int, fit_frames: int = 200_000
) -> list[np.ndarray]:
    """k-means units of every frame.

    Args:
        features: [T_i, D] of each utterance.
        clusters: Units.
        seed: Of the start and of the frames to fit on.
        fit_frames: So many frames, drawn evenly, are fitted on at most.

    Returns:
        Units [T_i] of each utterance, int32.

    Raises:
        UserError: Fewer frames than clusters.
    """
    kmeans = require("sklearn.cluster", "audio").MiniBatchKMeans
    frames = np.concatenate(features).astype(np.float32)
    if len(frames) < clusters:
        raise UserError(
            f"{len(frames)} frames cannot make {clusters} clusters.",
            "Lower `clusters`, or give the labelling stage more data.",
        )
    mean, scale = frames.mean(0), frames.std(0) + 1e-6
    frames = (frames - mean) / scale
    few = np.random.default_rng(seed).permutation(len(frames))[:fit_frames]
    model = kmeans(
        clusters, random_state=seed, batch_size=2048, n_init=3, max_iter=50
    ).fit(frames[few])
    ends = np.cumsum([len(f) for f in features])[:-1]
    return np.split(model.predict(frames).astype(np.int32), ends)


def topic_model(
    units: list[np.ndarray], clusters: int, topics: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Latent Dirichlet allocation: utterances are documents, unit ids are words.

    Args:
        units: Units [T_i] of each utterance.
        clusters: Words of the vocabulary.
        topics: K.
        seed: Of the fit.

    Returns:
        Topic [N] (the most likely one) and mixtures [N, K], whose rows sum to 1.
    """
    lda = require("sklearn.decomposition", "audio").LatentDirichletAllocation
    counts = np.stack([np.bincount(u, minlength=clusters) for u in units])
    mixtures = lda(
        topics, random_state=seed, max_iter=30, learning_method="batch"
    ).fit_transform(counts)
    return mixtures.argmax(1), mixtures
