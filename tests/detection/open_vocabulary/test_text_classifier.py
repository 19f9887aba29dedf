"""Vocabularies: what is refused, and what the logits are."""

import numpy as np
import pytest
import torch

from pld_mmdet.detection.open_vocabulary.text_classifier import (
    TextEmbeddingClassifier,
    check_names,
    load_vocabulary,
    orthonormal_rows,
)
from pld_mmdet.errors import UserError


def write(path, names=("cat", "dog", "cow"), width=4):
    vectors = np.eye(len(names), width) * 3
    np.savez(path, names=np.array(names), embeddings=vectors)
    return str(path)


def test_zero_features_give_equal_probabilities():
    layer = TextEmbeddingClassifier(8, 66, path="orthonormal", emb_dim=512)
    torch.nn.init.zeros_(layer.linear.bias)
    probabilities = layer(torch.zeros(1, 8)).softmax(1)
    assert torch.allclose(probabilities, torch.full((1, 66), 1 / 66))


def test_logits_are_the_dot_product(tmp_path):
    layer = TextEmbeddingClassifier(
        2, 3, path=write(tmp_path / "t.npz"), names=["cow", "cat"], emb_dim=4
    )
    embedding = layer.linear(torch.ones(1, 2))[0]
    logits = layer(torch.ones(1, 2))[0]
    assert torch.allclose(logits[:2], embedding[[2, 0]])  # unit rows, in our order
    assert logits[2] == 0
    assert set(layer.state_dict()) == {"linear.weight", "linear.bias"}


def test_orthonormal_rows_are_fixed():
    rows = orthonormal_rows(5, 9, seed=3)
    assert torch.allclose(rows @ rows.T, torch.eye(5), atol=1e-5)
    assert torch.equal(rows, orthonormal_rows(5, 9, seed=3))
    with pytest.raises(UserError, match="do not fit"):
        orthonormal_rows(5, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is empty"),
        (["cat", " "], "Name 1 of the vocabulary is empty"),
        (["cat", "dog", "Cat"], "'Cat' twice"),
    ],
)
def test_bad_names(names, message):
    with pytest.raises(UserError, match=message):
        check_names(names)


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        load_vocabulary(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", words=np.array(["cat"]))
    with pytest.raises(UserError, match="holds no arrays"):
        load_vocabulary(tmp_path / "other.npz")
    path = write(tmp_path / "t.npz")
    with pytest.raises(UserError, match="no text vector of 'bus'"):
        load_vocabulary(path, ["cat", "bus"])
    with pytest.raises(UserError, match="3 names, the box head 5"):
        TextEmbeddingClassifier(2, 6, path=path, emb_dim=4)
    with pytest.raises(UserError, match="have shape"):
        TextEmbeddingClassifier(2, 4, path=path, emb_dim=512)


def test_a_bad_vocabulary_changes_nothing():
    layer = TextEmbeddingClassifier(2, 3, path="orthonormal", emb_dim=4)
    before = layer.text.clone()
    for vectors in (torch.zeros(2, 4), torch.ones(3, 4), torch.full((2, 4), torch.nan)):
        with pytest.raises(UserError):
            layer.set_vocabulary(["a", "b"], vectors)
    assert torch.equal(layer.text, before)
