"""CycleAlign: the specification's numbers, agreement, the queue, rounds, text."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pld_mmdet.errors import UserError
from pld_mmdet.language.cyclealign import agreement, pro_loss, rrhf_loss
from pld_mmdet.language.data.answers import PromptedText
from pld_mmdet.language.data.endings import Endings, ToneRanker
from pld_mmdet.registry import MODELS
from tests.toy_run import enter, toy_config, train


def number(loss, scores):
    return loss(torch.tensor(scores)).item()


def test_numbers_by_hand():
    assert number(rrhf_loss, [-0.5, -1.2, -0.9]) == pytest.approx(0.3, abs=1e-6)
    assert number(pro_loss, [-0.5, -1.2, -0.9]) == pytest.approx(1.627655, abs=2e-6)
    assert number(rrhf_loss, [-1.0, -1.5, -2.0]) == 0
    assert number(rrhf_loss, [-2.0, -1.5, -1.0]) == pytest.approx(2.0)
    assert number(pro_loss, [-1.0, -1.5, -2.0]) == pytest.approx(1.154347, abs=2e-6)


@pytest.mark.parametrize("loss", [rrhf_loss, pro_loss])
def test_one_or_none_cannot_be_wrong(loss):
    for n in (0, 1):
        s = torch.ones(n, requires_grad=True)
        loss(s).backward()
        assert loss(s).item() == 0
        assert s.grad.abs().sum() == 0
    with pytest.raises(UserError, match=r"scores \(2, 3\)"):
        loss(torch.zeros(2, 3))


def test_gradient_lifts_what_is_better():
    s = torch.tensor([-1.0, -0.4, -0.9], requires_grad=True)
    rrhf_loss(s).backward()
    assert s.grad.tolist() == [-2.0, 1.0, 1.0]


def test_agreement_is_the_longest_common_subsequence():
    assert len(agreement([2, 0, 1], [2, 1, 0])) == 2
    assert agreement([2, 0, 1], [2, 0, 1]) == [2, 0, 1]
    assert len(agreement([0, 1, 2], [2, 1, 0])) == 1
    assert agreement([0, 3, 1, 2], [3, 0, 1, 2]) in ([0, 1, 2], [3, 1, 2])
    assert agreement([], []) == []


def test_a_ranker_with_right_demonstrations_errs_less():
    torch.manual_seed(0)
    ranker = ToneRanker()
    polite, rude = [0, 1, 2, 25, 26], [0, 1, 2, 9, 10]
    neutral = [0, 1, 2, 17, 16]
    assert ranker.judge(torch.tensor([polite, neutral, rude])).tolist() == [1, 0.5, 0]
    responses = torch.tensor([rude, polite, neutral])
    demos = torch.tensor([[polite, neutral, rude]])

    def right(shown):
        orders = [ranker(responses, shown).tolist() for _ in range(300)]
        return sum(order == [1, 2, 0] for order in orders) / 300

    assert right(demos[:0]) == pytest.approx(0.65**2, abs=0.1)
    assert right(demos) == pytest.approx(0.95**2, abs=0.05)
    assert right(demos.flip(1)) < 0.6


def test_a_round_fills_the_queue_with_what_both_agree_on(tmp_path):
    cfg = toy_config("configs/cyclealign/toy.py", tmp_path)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model | dict(samples=(60, 5), demos=2))
    data = Endings("train", 60)
    batch = dict(input_ids=data.input_ids, index=torch.arange(60))
    with pytest.raises(UserError, match="no prompt of this batch was ranked"):
        model.loss(**batch)
    with pytest.raises(UserError, match="round_1 has no work_dataloader"):
        model.start_stage("round_1", None, None)
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.start_stage("round_1", [batch], None)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert (model.ranked >= 0).all()
    assert (model.ranked[:, :, :3] == data.input_ids[:, None, :3]).all()
    shown = model.queue[(model.queue >= 0).flatten(1).all(1)]
    assert len(shown) == 2  # 60 prompts, and never more than the cap
    with torch.no_grad():
        s = model.scores(shown.flatten(0, 1)).view(-1, 3)
    assert (s.diff(dim=1) <= 1e-6).all()  # the model's own order, too
    assert not list(model.ranker.parameters())
    losses = model.loss(**batch)
    assert losses["loss_rank"].item() >= 0
    assert losses["loss_sft"].item() > 0
    told = model.ranker.judge(model.ranked)
    assert model.right == (told.diff(dim=1) <= 0).all(1).float().mean()
    alone = MODELS.build(cfg.model | dict(samples=(60, 5), cycle=False))
    asked = []
    alone.ranker.forward = lambda texts, shown: asked.append(len(shown))
    alone.queue.copy_(model.queue[:1])  # of a checkpoint: not shown either
    alone.start_stage("round_1", [batch], None)
    assert asked == [0] * 60
    assert (alone.ranked == -1).all()


@pytest.fixture
def small():
    """Prompts of 2, responses of 4 tokens, 4 a prompt; three of them agree at least."""
    torch.manual_seed(0)
    given = dict(network=gpt2(), ranker=dict(type="pld_mmdet.ToneRanker"))
    more = dict(samples=(3, 6), prompt=2, n=4, demos=3, agree=3, pad=0, stop=2)
    return MODELS.build(dict(type="pld_mmdet.CycleAlign", **given, **more))


def test_what_both_agree_on_is_shown_in_that_order_and_the_oldest_leaves(small):
    responses = torch.arange(10, 14)[:, None].expand(4, 6)
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])  # the model's: 1 3 2 0
    told, asked = [], []
    small.ranker.forward = lambda texts, shown: asked.append(len(shown)) or told[-1]
    for order, shown in (
        ([1, 2, 3, 0], [1, 3, 0, 2]),  # 1 3 0 in both, then the rest
        ([0, 2, 3, 1], None),  # two of them: no demonstration
        ([3, 2, 0, 1], [3, 2, 0, 1]),
    ):
        told.append(torch.tensor(order))
        before = small.queue.clone()
        small._rank(1, responses, scores)
        assert small.ranked[1, :, 0].tolist() == [10 + i for i in order]
        if shown is None:
            assert torch.equal(small.queue, before)
        else:
            assert small.queue[-1, :, 0].tolist() == [10 + i for i in shown]
            assert torch.equal(small.queue[:-1], before[1:])
    assert asked == [0, 1, 1]
    told.append(None)
    small._rank(0, responses, scores)
    assert (small.ranked[0] == -1).all()


def test_a_round_begins_anew_with_seeds_of_its_own_and_without_dropout(small):
    seeds = []

    def write(ids, seed):
        seeds.append(seed)
        assert not small.network.training
        return ids

    small.write, small.ranker.forward = write, lambda texts, shown: None
    small.ranked.fill_(5)  # of the round before
    small.train()
    ids = torch.arange(3, 21).view(3, 6)
    parts = [dict(input_ids=ids[i], index=torch.tensor(i)) for i in ([0, 1], [2])]
    small.start_stage("round_3", parts, None)
    assert seeds == [(3, 0), (3, 2)]
    assert (small.ranked == -1).all()
    del small.ranker.forward
    small.predict(input_ids=ids[1:], index=torch.tensor([1, 2]))
    assert seeds[-1] == (99, 1)


def test_answers_are_learnt_up_to_their_padding(small):
    enter(small.eval(), "sft")
    ids = torch.tensor([[5, 6, 7, 8, 9, 2], [5, 6, 9, 2, 0, 0]])
    s = small.scores(ids)
    found = small.loss(input_ids=ids)["loss_sft"]
    torch.testing.assert_close(found, -(4 * s[0] + 2 * s[1]) / 6)


def gpt2(**more):
    sizes = dict(model_type="gpt2", n_layer=1, n_head=2, n_embd=8, n_positions=16)
    sizes |= dict(vocab_size=32, initializer_range=0.5, **more)
    return dict(type="pld_mmdet.CausalTransformer", config=sizes)


def test_padding_changes_no_score():
    """A padded batch scores and writes as the same texts alone."""
    torch.manual_seed(0)
    given = dict(network=gpt2(), ranker=dict(type="pld_mmdet.ToneRanker"))
    model = MODELS.build(
        dict(type="pld_mmdet.CycleAlign", **given, samples=(2, 7), prompt=3)
        | dict(pad=0, stop=2)
    ).eval()
    ids = torch.tensor([[0, 5, 6, 7, 8, 2, 0], [9, 5, 6, 7, 8, 3, 4]])
    scores = model.scores(ids)
    log_p = model.network(torch.tensor([[5, 6, 7, 8, 2]])).log_softmax(-1)
    torch.testing.assert_close(
        scores[0], log_p[0, [1, 2, 3], torch.tensor([7, 8, 2])].mean()
    )
    written = model.write(ids.repeat(20, 1), (1,))
    assert torch.equal(written[:, :3], ids.repeat(20, 1)[:, :3])
    ended = (written[:, 3:] == 2).any(1)
    assert ended.any()
    for row in written[ended, 3:].tolist():
        assert set(row[row.index(2) + 1 :]) <= {0}
    with pytest.raises(UserError, match="stop and pad are both 2"):
        MODELS.build(
            dict(type="pld_mmdet.CycleAlign", **given, samples=(2, 7), prompt=3)
            | dict(pad=2, stop=2)
        )


@pytest.mark.parametrize("ranking", ["rrhf", "pro", "none"])
def test_the_losses_of_a_round(ranking):
    torch.manual_seed(1)
    model = MODELS.build(
        dict(type="pld_mmdet.CycleAlign", samples=(1, 6), prompt=2, ranking=ranking)
        | dict(network=gpt2(), ranker=dict(type="pld_mmdet.ToneRanker"), pad=0, stop=2)
    ).eval()
    model.ranked[0] = torch.tensor([[5, 6, 7, 8, 9, 2], [5, 6, 9, 2, 0, 0], [5] * 6])
    enter(model, "round_1")
    losses = model.loss(input_ids=torch.zeros(1, 6).long(), index=torch.tensor([0]))
    s = model.scores(model.ranked[0])
    ce = -4 * s[0]  # a sum over the first's four tokens
    if ranking == "none":
        assert "loss_rank" not in losses
        torch.testing.assert_close(losses["loss_sft"], ce / 4)
    elif ranking == "rrhf":
        torch.testing.assert_close(losses["loss_rank"], rrhf_loss(s))
        torch.testing.assert_close(losses["loss_sft"], ce / 4)
    else:
        torch.testing.assert_close(losses["loss_rank"], pro_loss(s))
        torch.testing.assert_close(losses["loss_sft"], 0.05 * 2**2 * ce)


def test_paper_config_trains_from_folders_and_jsonl(tmp_path):
    sizes = dict(vocab_size=40, hidden_size=16, intermediate_size=16)
    sizes |= dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    config = AutoConfig.for_model("llama", **sizes, pad_token_id=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    words = ["<unk>", "<s>", "</s>", "hello", "you", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    words = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(tmp_path / "lm")
    talk = [dict(role=r, content=c) for r, c in (("user", "hello"), ("bot", "you"))]
    for part in ("train", "val"):
        lines = f"{json.dumps(dict(messages=talk))}\n" * 4
        (tmp_path / f"{part}.jsonl").write_text(lines)
    cfg = toy_config("configs/cyclealign/paper.py", tmp_path / "run", walk=False)
    cfg.train_cfg.stages = cfg.train_cfg.stages[:2]
    for part in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
        *[stage.work_dataloader for stage in cfg.train_cfg.stages],
    ):
        part.update(num_workers=0, batch_size=2, persistent_workers=False)
        part.dataset.update(data_root=str(tmp_path), tokenizer=f"{tmp_path}/lm")
        part.dataset.update(prompt_length=3, answer_length=4)
    lm, ranker = str(tmp_path / "lm"), cfg.model.ranker
    cfg.model.network.pretrained = ranker.network.pretrained = lm
    ranker.update(tokenizer=lm, writer=lm, prompt=3)
    cfg.model.update(samples=(4, 7), prompt=3)
    for stage in cfg.train_cfg.stages:
        stage.max_iters = 1
    model = train(cfg).model
    assert (model.ranked[:, :, :3] == torch.tensor([0, 0, 3])).all()
    order = model.ranker(model.ranked[0], model.ranked[1:2])
    assert sorted(order.tolist()) == [0, 1, 2]
    assert not any(p.requires_grad for p in model.ranker.parameters())
    told = dict(ann_file=str(tmp_path / "train.jsonl"), tokenizer=lm)
    sample = PromptedText(prompt_length=3, answer_length=4, **told)[1]
    assert sample["input_ids"].tolist() == [0, 0, 3, 4, 2, 0, 0]
    with pytest.raises(UserError, match="pad=2 is the tokenizer's end"):
        PromptedText(pad=2, **told)
