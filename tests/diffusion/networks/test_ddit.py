"""SEDD's and RADD's folders: numbers of the authors' code, and what is refused."""

import json

import pytest
import torch

from pld_mmdet.diffusion.networks.ddit import DDiTScore
from pld_mmdet.diffusion.processes.discrete import odds
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

SIZES = dict(hidden_size=8, n_blocks=2, n_heads=2, cond_dim=3, scale_by_sigma=True)


def filled(network):
    """Sines, in the order of the names, in all weights."""
    state, count = network.state_dict(), 0
    for name in sorted(state):
        size = state[name].numel()
        place = torch.arange(count, count + size, dtype=torch.float64)
        state[name] = (0.5 * torch.sin(1.7 * place + 0.3)).float()
        state[name] = state[name].view(network.state_dict()[name].shape)
        count += size
    return state


def folder(root, radd, weights="model.safetensors", config=None, **changes):
    """A folder as the authors publish it, of 4 tokens."""
    kind = "ddit_wot" if radd else "ddit"
    said = dict(tokens=4, graph=dict(type="absorb"), model=dict(SIZES, type=kind))
    (root / "config.json").write_text(json.dumps(config or said | changes))
    given = {name: SIZES[name] for name in ("hidden_size", "n_blocks", "n_heads")}
    state = filled(DDiTScore(None, 4, cond_dim=0 if radd else 3, **given))
    state["rotary_emb.inv_freq"] = torch.ones(2)  # in the authors' files
    if weights == "model.safetensors":
        from safetensors.torch import save_file

        save_file(state, str(root / weights))
    elif weights:
        torch.save(state, root / weights)
    return str(root)


# Of model/transformer.py of ML-GSAI/RADD and louaaron/Score-Entropy-Discrete-Diffusion
# with these weights, in float32 at t = .3: places 0, 2 and 4
RADD = [
    [0.94054, 0.3397, 0.44265, 0.61378],
    [0.94032, 0.3398, 0.44282, 0.61373],
    [0.94056, 0.33991, 0.44279, 0.61342],
]
SEDD = [
    [0.57295, 1.72741, 1.32312, 0.82709],
    [0.57045, 1.72135, 1.32415, 0.83066],
    [0.56989, 1.72064, 1.3249, 0.83149],
]


@pytest.mark.parametrize(
    ("radd", "weights", "wanted"),
    [
        (True, "model.safetensors", RADD),
        (False, "model.safetensors", SEDD),
        (False, "pytorch_model.bin", SEDD),
    ],
)
def test_scores_are_those_of_the_authors_code(tmp_path, radd, weights, wanted):
    network = DDiTScore(folder(tmp_path, radd, weights))
    x = torch.tensor([[4, 2, 4, 0, 4]])
    with torch.no_grad():
        score = network(x, 0.3)
    assert score.shape == (1, 5, 4)
    torch.testing.assert_close(
        score[0, [0, 2, 4]], torch.tensor(wanted), atol=2e-5, rtol=0
    )
    assert network(x[:0], 0.3).shape == (0, 5, 4)
    assert not network.untrained


def test_a_network_without_time_says_probabilities(tmp_path):
    network = DDiTScore(folder(tmp_path, radd=True))
    x = torch.tensor([[4, 1, 4]])
    total = network(x, 0.7).sum(-1) * odds(0.7)
    torch.testing.assert_close(total, torch.ones(1, 3))
    late = network(x, 0.1) * odds(0.1)
    torch.testing.assert_close(late, network(x, 0.7) * odds(0.7))


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        DDiTScore(str(tmp_path / "gone"))
    bert = dict(model_type="bert", hidden_size=8)
    with pytest.raises(UserError, match="MaskedLMScore"):
        DDiTScore(folder(tmp_path, radd=True, config=bert))
    with pytest.raises(UserError, match=r"graph\.type='uniform'"):
        DDiTScore(folder(tmp_path, radd=False, graph=dict(type="uniform")))
    timeless = {key: value for key, value in SIZES.items() if key != "cond_dim"}
    with pytest.raises(UserError, match=r"model\.cond_dim"):
        DDiTScore(folder(tmp_path, radd=False, model=timeless))
    # weights of RADD beside SEDD's config
    folder(tmp_path, radd=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["type"] = "ddit"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.safetensors does not fit .*config"):
        DDiTScore(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor"):
        DDiTScore(str(tmp_path))


def test_the_other_reader_names_this_one(tmp_path):
    network = dict(type="pld_mmdet.MaskedLMScore", pretrained=folder(tmp_path, True))
    with pytest.raises(UserError, match=r"no model_type.*\n.*DDiTScore"):
        MODELS.build(network)
