"""Offline labels of utterances: units by k-means, topics by LDA over units."""

from collections.abc import Callable

import numpy as np

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError


class FrameSample:
    """At most ``limit`` frames of a stream, every frame as likely as any other.

    A frame's chance hangs on the seed, its utterance and its place alone: shares that
    several processes went through join to what one process would have kept.

    Args:
        limit: Frames to keep.
        seed: Of the draw.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self.limit, self.seed, self.seen = limit, seed, 0
        self._keys: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._places: list[np.ndarray] = []

    def add(self, number: int, frames: np.ndarray) -> None:
        """Go through one utterance.

        Args:
            number: Of the utterance.
            frames: [T, D].
        """
        self._keys.append(
            np.random.default_rng((self.seed, number)).random(len(frames))
        )
        self._frames.append(np.asarray(frames, np.float32))
        places = np.empty((len(frames), 2), np.int64)
        places[:, 0], places[:, 1] = number, np.arange(len(frames))
        self._places.append(places)
        self.seen += len(frames)
        if sum(map(len, self._keys)) > 2 * self.limit + 10_000:
            self._shrink(self._bound(np.concatenate(self._keys)))

    def joined(self, gather: Callable[[object], list]) -> tuple[np.ndarray, int]:
        """The frames [n, D] that are kept in order, and how many were seen.

        Args:
            gather: An object -> those of all processes.
        """
        keys = np.concatenate([*self._keys, np.empty(0)])
        self._shrink(self._bound(np.concatenate(gather(keys))))
        parts = gather((self._places, self._frames, self.seen))
        places = np.concatenate([p for part in parts for p in part[0]])
        frames = np.concatenate([f for part in parts for f in part[1]])
        order = np.lexsort((places[:, 1], places[:, 0]))
        return frames[order], sum(part[2] for part in parts)

    def _bound(self, keys: np.ndarray) -> float:
        """The largest key that is kept."""
        if len(keys) <= self.limit:
            return np.inf
        return np.partition(keys, self.limit - 1)[self.limit - 1]

    def _shrink(self, bound: float) -> None:
        kept = [keys <= bound for keys in self._keys]
        for name in ("_keys", "_frames", "_places"):
            parts = zip(getattr(self, name), kept, strict=True)
            setattr(self, name, [part[keep] for part, keep in parts])
        if self._keys:  # one block: the next time is no slower
            for name in ("_keys", "_frames", "_places"):
                setattr(self, name, [np.concatenate(getattr(self, name))])


class Units:
    """k-means centres as units of frames.

    Args:
        frames: [n, D] to fit on.
        clusters: Units.
        seed: Of the start and of the order of the frames.
        standardise: Subtract the frames' mean and divide by their spread first.
        kmeans: Of scikit-learn's ``MiniBatchKMeans``.

    Raises:
        UserError: Fewer frames than clusters.
    """

    def __init__(
        self,
        frames: np.ndarray,
        clusters: int,
        seed: int,
        standardise: bool = True,
        **kmeans,
    ) -> None:
        make = require("sklearn.cluster", "audio").MiniBatchKMeans
        if len(frames) < clusters:
            raise UserError(
                f"{len(frames)} frames cannot make {clusters} clusters.",
                "Lower `clusters`, or give the labelling stage more data.",
            )
        self.mean, self.scale = np.float32(0), np.float32(1)
        if standardise:
            self.mean, self.scale = frames.mean(0), frames.std(0) + 1e-6
        mixed = np.random.default_rng(seed).permutation(len(frames))
        kmeans = {"batch_size": 2048, "n_init": 3, "max_iter": 50, **kmeans}
        self.model = make(clusters, random_state=seed, **kmeans)
        self.model.fit(((frames - self.mean) / self.scale)[mixed])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Units [T], int32, of frames [T, D]."""
        frames = (np.asarray(frames, np.float32) - self.mean) / self.scale
        return self.model.predict(frames).astype(np.int32)


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


def cluster_clips(
    vectors: np.ndarray, clusters: int, components: int, seed: int
) -> np.ndarray:
    """Clusters of whole sounds: whitened principal components, unit length, k-means.

    Args:
        vectors: [N, D], one a sound.
        clusters: K, at most N.
        components: Principal components, at most; no more than N - 1 and D are there.
        seed: Of both.

    Returns:
        [N] int64.

    Raises:
        UserError: Fewer sounds than clusters.
    """
    if len(vectors) < clusters:
        raise UserError(
            f"{len(vectors)} sounds cannot make {clusters} clusters.",
            "Lower model.clusters, or give more sounds.",
        )
    pca = require("sklearn.decomposition", "audio").PCA
    means = require("sklearn.cluster", "audio").KMeans
    kept = max(min(components, len(vectors) - 1, vectors.shape[1]), 1)
    white = pca(kept, whiten=True, random_state=seed).fit_transform(vectors)
    white /= np.linalg.norm(white, axis=1, keepdims=True) + 1e-12
    found = means(clusters, n_init=1, max_iter=20, random_state=seed)
    return found.fit_predict(white).astype(np.int64)


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    """Share of sounds whose class is the most frequent one of their cluster."""
    if not len(labels):
        return 0.0
    most = [np.bincount(truth[labels == label]).max() for label in np.unique(labels)]
    return float(np.sum(most) / len(labels))
