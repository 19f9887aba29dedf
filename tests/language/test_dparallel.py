"""dParallel: the specification's numbers, the views, decoding, its stages."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.answers import AnswerText, RotatedWords, RotatedWordsMetric
from pld_mmdet.language.decoding.masked_diffusion import complementary_views, decode
from pld_mmdet.language.dparallel import DParallel, certainty_loss
from pld_mmdet.language.networks.transformers import BidirectionalTransformer
from pld_mmdet.registry import DATASETS, MODELS
from tests.toy_run import toy_config

Z = torch.tensor([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0]])


@MODELS.register_module(force=True)
class Rows(nn.Module):
    """[B, L] ids -> the logits of a table by place, whatever the ids are."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, ids, mask=None):
        return self.rows[None].expand(len(ids), -1, -1)


def build(rows=((0.0, 0.0, 0.0),), **options) -> DParallel:
    options = dict(mask_id=2, block=2) | options
    return DParallel(dict(type="pld_mmdet.Rows", rows=rows), **options)


@pytest.mark.parametrize(
    ("row", "temperature", "entropy"),
    [(0, 1.0, 0.524267), (0, 0.5, 0.106921)],
)
def test_entropy_by_hand(row, temperature, entropy):
    found = certainty_loss(Z[row, None], torch.tensor([0]), temperature)
    assert found.item() == pytest.approx(entropy, abs=2e-6)


def test_other_numbers_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    zero = torch.tensor([0])
    assert certainty_loss(logits, zero).item() == pytest.approx(0.441057, abs=2e-6)
    assert certainty_loss(logits, zero, 1.0).item() == pytest.approx(0.832396, abs=2e-6)
    assert certainty_loss(Z[1:], zero).item() == pytest.approx(0.885382, abs=2e-6)


def test_only_right_rows_are_made_certain():
    z = Z.clone().requires_grad_()
    both = certainty_loss(z, torch.tensor([0, 1]))  # argmax takes the first of two
    both.backward()
    assert both.item() == pytest.approx(0.106921, abs=2e-6)
    assert z.grad[0].abs().max() > 0.01
    assert z.grad[1].abs().max() == 0


def test_no_right_row_costs_nothing():
    z = Z.clone().requires_grad_()
    loss = certainty_loss(z, torch.tensor([2, 2]))
    loss.backward()
    assert loss.item() == 0
    assert z.grad.abs().max() == 0
    none = torch.zeros(0, 3, requires_grad=True)
    certainty_loss(none, torch.zeros(0).long()).backward()
    assert none.grad.shape == (0, 3)


def test_total_by_hand(monkeypatch):
    """Two tokens; the first view masks one, the second the other."""

    def views(ids, *_):
        first = torch.tensor([[True, False]])
        return ids, ids, first, ~first

    monkeypatch.setattr("pld_mmdet.language.dparallel.complementary_views", views)
    batch = dict(input_ids=torch.tensor([[0, 1]]), prompt_lengths=torch.tensor([0]))
    losses = build(Z.tolist()).loss(**batch)
    assert losses["loss_consistency"].item() == pytest.approx(
        0.169846 + 0.861995, abs=3e-6
    )
    total = sum(losses.values()).item()
    assert total == pytest.approx(1.245683, abs=3e-6)
    assert list(build(Z.tolist(), weight=0.0).loss(**batch)) == ["loss_consistency"]


def test_views_are_complementary_and_prompts_stay():
    torch.manual_seed(0)
    ids, prompts = torch.arange(1, 12).repeat(200, 1), torch.arange(200) % 4
    a, b, first, second = complementary_views(ids, prompts, 3, 0.5, 0)
    place = torch.arange(11)
    starts = set()
    for row in range(200):
        block = (first | second)[row]
        assert not (first & second)[row].any()
        prompt = int(prompts[row])
        assert (a[row, :prompt] == ids[row, :prompt]).all()
        if not block.any():  # as in the code: the answer is whole blocks, and none left
            assert (11 - prompt) % 3 == 0
            assert (a[row] == ids[row]).all()
            continue
        start, end = int(place[block].min()), int(place[block].max()) + 1
        assert (start - prompt) % 3 == 0
        assert block[start:end].all()
        assert end == 11 or end - start == 3
        for view, masked in ((a, first), (b, second)):
            assert (view[row, :start] == ids[row, :start]).all()
            assert ((view[row, start:end] == 0) == masked[row, start:end]).all()
            assert (view[row, end:] == 0).all()
        starts.add((prompt, start))
    assert len(starts) == 4 + 4 + 3 + 3  # every block of every length of prompt


def test_calls_follow_the_threshold():
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    network = Rows(z.tolist())
    ids, prompts = torch.zeros(2, 8).long(), torch.tensor([1, 3])
    one, calls = decode(network, ids, prompts, 4, 3, -1.0)
    assert calls.tolist() == [7, 5]
    every, calls = decode(network, ids, prompts, 4, 3, float("inf"))
    assert calls.tolist() == [3, 2]
    assert torch.equal(one, every)  # this network does not look at the ids
    assert (one[0, 1:] == z[1:, :4].argmax(-1)).all()
    assert (one[1, :3] == 0).all()
    sure = Rows([[1000.0, 0.0]] * 8)  # entropy 0, which is the threshold
    assert decode(sure, ids, prompts, 1, 3, 0.0)[1].tolist() == [3, 2]
    nothing, calls = decode(network, ids, torch.tensor([8, 8]), 4, 3, 0.5)
    assert calls.tolist() == [0, 0]
    assert torch.equal(nothing, ids)


def test_answers_are_written_once_and_learnt():
    rows = [[0.0, 0.1, 0.0]] * 2 + [[0.0, 3.0, 0.0], [4.0, 0.0, 9.0]]
    model = build(rows, samples=(3, 4))
    batch = dict(
        input_ids=torch.zeros(2, 4).long(),
        prompt_lengths=torch.tensor([2, 2]),
        index=torch.tensor([2, 0]),
    )
    with pytest.raises(UserError, match="no written answer"):
        model.loss(**batch)
    with pytest.raises(UserError, match="no work_dataloader"):
        model.start_stage("distill", None, None)
    modes = []
    model.network.register_forward_hook(lambda net, *_: modes.append(net.training))
    model.train()
    model.start_stage("distill", [batch], None)
    assert modes == [False, False]  # one token a call, however certain two are
    assert model.answers[[0, 2]].tolist() == [[0, 0, 1, 0]] * 2  # never the mask
    assert model.answers[1].tolist() == [-1] * 4
    torch.manual_seed(1)
    assert model.loss(**batch)["loss_consistency"].isfinite()


def test_base_loss_is_weighted_by_what_is_masked(monkeypatch):
    """One sample, share 0.25 + eps: two of its three answer tokens are masked."""
    draws = iter([torch.tensor([[0.25]]), torch.tensor([[0.0, 0.1, 0.9, 0.2]])])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(draws))
    model = build([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    ids = torch.tensor([[0, 0, 1, 1]])
    loss = model.loss_base(ids, torch.tensor([1]))["loss_base"]
    share = 1e-3 + (1 - 1e-3) * 0.25
    nll = F.cross_entropy(model.network.rows[[1, 3]], ids[0, [1, 3]], reduction="sum")
    assert loss.item() == pytest.approx(nll.item() / share / 3, rel=1e-5)


def test_words_may_begin_anywhere():
    data = RotatedWords("val", 50)
    ids = torch.stack([data[i]["input_ids"] for i in range(50)])
    metric = RotatedWordsMetric()
    wrong = ids.clone()
    wrong[:10, -1] = wrong[:10, -2]  # a letter twice
    calls = torch.full((50,), 3)
    decoded = {0.5: (ids, calls), 0.1: (wrong, calls * 2)}
    metric.process({}, [dict(input_ids=ids, decoded=decoded)])
    found = metric.compute_metrics(metric.results)
    assert found == {"calls_0.5": 3, "valid_0.5": 1, "calls_0.1": 6, "valid_0.1": 0.8}
    assert len({tuple(row) for row in ids[:, 3:7].tolist()}) > 16  # not one a word


def test_every_token_sees_every_other_one():
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
    config = dict(model_type="llama", vocab_size=9, num_hidden_layers=1, **sizes)
    network = BidirectionalTransformer(config).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    other = torch.tensor([[1, 2, 3, 5]])
    assert not torch.allclose(network(ids)[0, 0], network(other)[0, 0], atol=1e-6)
    mask = torch.tensor([[1, 1, 1, 0]])
    torch.testing.assert_close(network(ids, mask)[0, :3], network(other, mask)[0, :3])


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="weight=-1"):
        build(weight=-1)
    with pytest.raises(UserError, match=r"temperature=0.0 is not positive"):
        certainty_loss(Z, torch.tensor([0, 1]), 0.0)
    with pytest.raises(UserError, match=r"not \[M, V\] and \[M\]"):
        certainty_loss(Z, torch.tensor([0]))
    with pytest.raises(UserError, match="block=0"):
        complementary_views(torch.zeros(1, 3), torch.tensor([1]), 0, 0.5, 2)
    with pytest.raises(UserError, match="part='all'"):
        RotatedWords("all", 3)


def test_paper_config_trains_an_adapter_from_a_folder_and_a_jsonl_file(tmp_path):
    sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
    config = AutoConfig.for_model("llama", vocab_size=9, num_hidden_layers=1, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llada")
    words = Tokenizer(WordLevel({"[UNK]": 0, "</s>": 1, "q": 2, "a": 3}, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    tokenizer.save_pretrained(tmp_path / "words")
    talk = [dict(role=r, content=c) for r, c in (("user", "q q"), ("bot", "a q"))]
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(dict(messages=talk))}\n" * 4)
    cfg = toy_config("configs/dparallel/paper.py", tmp_path / "run", walk=False)
    data = cfg.train_dataloader.dataset
    data.update(data_root=str(tmp_path), tokenizer=str(tmp_path / "words"), length=8)
    sample = DATASETS.build(data)[1]
    assert sample["input_ids"].tolist() == [2, 2, 3, 2, 1, 1, 1, 1]
    assert sample["prompt_lengths"] == 2
    cfg.model.network.pretrained = str(tmp_path / "llada")
    cfg.model.update(mask_id=8, block=2)
    cfg.model.lora.update(r=2, lora_alpha=2)
    model = MODELS.build(cfg.model)
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    # of LLaDA's own names only these are in the authors' list
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in learning}
    assert adapted == {"q_proj", "k_proj", "v_proj", "up_proj"}
    assert len(learning) == 2 * 4
    assert all("lora" in name for name in learning)
    batch = dict(input_ids=sample["input_ids"][None], prompt_lengths=torch.tensor([2]))
    torch.manual_seed(2)
    sum(model.loss(**batch).values()).backward()
    assert any(p.grad is not None for p in model.parameters())
    endless = str(tmp_path / "endless")
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(endless)
    with pytest.raises(UserError, match="no end token"):
        AnswerText(ann_file=str(tmp_path / "train.jsonl"), tokenizer=endless)
