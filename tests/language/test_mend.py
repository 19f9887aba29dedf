"""MEND: the hand-worked divergence, places, gradients, splits, a user's files."""

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
from pld_mmdet.language.data.in_context import PackedText, RandomMaps, TaskText
from pld_mmdet.language.data.kept_answers import KeptAnswers
from pld_mmdet.language.mend import MEND, kept_kl
from tests.toy_run import ROOT, assert_resume_is_exact, enter, toy_config, train


def gpt2(width=8):
    config = dict(model_type="gpt2", n_layer=1, n_head=2, n_positions=24, n_embd=width)
    config |= dict(vocab_size=12, initializer_range=0.4)
    return dict(type="pld_mmdet.CausalTransformer", config=config)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MEND(gpt2(), gpt2(), vectors=3).eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    ids = torch.randint(12, (2, 5))
    labels = ids.clone()
    labels[:, :3] = -100
    return dict(demo_ids=torch.randint(12, (2, 6)), input_ids=ids, labels=labels)


def test_the_divergence_by_hand(model, batch):
    teacher = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])
    student = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 9.0, 0.0]]])
    model.after_text = lambda *_: teacher
    model.after_vectors = lambda *_: student
    ids, real = torch.zeros(1, 3).long(), torch.tensor([[1, 1, 0]])
    given = dict(demo_ids=ids, input_ids=ids, attention_mask=real)
    found = model.loss_pretrain(**given)["loss_kl"].item()
    assert found == pytest.approx(0.610988, abs=1e-6)
    student[0, 1] = teacher[0, 1]  # the first token alone
    found = model.loss_pretrain(**given)["loss_kl"].item()
    assert found == pytest.approx(0.912983 / 2, abs=1e-6)


def test_the_demonstrations_own_embeddings_change_nothing(model, batch):
    """With S_D = emb(D) of the same length, student and teacher are one."""
    model.distil = lambda ids, mask: model.llm.embed(ids)
    losses = model.loss_finetune(**batch)
    assert losses["loss_kl"].item() < 1e-6
    whole = torch.cat([batch["demo_ids"], batch["input_ids"]], 1)
    z = model.llm(whole)[:, 8:10].flatten(0, 1)
    expected = F.cross_entropy(z, batch["input_ids"][:, 3:].flatten())
    torch.testing.assert_close(losses["loss_ce"], expected)
    del model.distil
    whole = model.loss_finetune(**batch)["loss_kl"]
    model.kl_weight = 0.3
    torch.testing.assert_close(model.loss_finetune(**batch)["loss_kl"], 0.3 * whole)
    assert whole > 0.01
    assert [*MEND(gpt2(), gpt2(), 3, kl_weight=0).loss_finetune(**batch)] == ["loss_ce"]


def test_vectors_have_one_shape_and_padding_changes_nothing(model):
    demos = torch.tensor([[4, 5, 6]])
    short = model.distil(demos)
    assert short.shape == (1, 3, 8)
    padded = torch.tensor([[1, 1, 4, 5, 6]])
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    torch.testing.assert_close(model.distil(padded, mask), short)
    ids = own = torch.ones(1, 2).long()
    torch.testing.assert_close(
        model.after_text(padded, mask, ids, own),
        model.after_text(demos, torch.ones_like(demos), ids, own),
    )
    assert model.adapter is None
    other = MEND(gpt2(), gpt2(4), vectors=3)
    assert isinstance(other.adapter[1], nn.Tanh)
    assert other.distil(padded, mask).shape == (1, 3, 8)
    assert other.distil(padded, mask).abs().max() <= 1


def test_gradients_pass_through_the_frozen_model(model, batch):
    model.train()
    assert not model.llm.training
    assert model.hypernet.training
    sum(model.loss_finetune(**batch).values()).backward()
    assert all(p.grad is None for p in model.llm.parameters())
    assert (model.prompts.grad.abs().sum(1) > 0).all()
    enter(model, "llm")
    model.train()
    model.loss(**batch)["loss_llm"].backward()
    assert model.llm.training
    assert all(p.grad is not None for p in model.llm.parameters())
    assert model.prompts.grad is None


def test_a_text_is_split(model):
    ids = torch.arange(10)[None]
    parts = model._split(ids)
    assert parts["demo_ids"].shape == (1, 8)
    assert parts["input_ids"].tolist() == [[8, 9]]
    assert model._split(ids[:, :7])["demo_ids"].shape == (1, 5)  # floor of 5.6
    assert model.loss_pretrain(input_ids=ids)["loss_kl"].item() > 0
    with pytest.raises(UserError, match="nothing of it is left"):
        model._split(ids, (ids < 8).long())


def test_what_stands_before_the_query(model, batch):
    ids = batch["input_ids"]
    for word, before in (("all", batch["demo_ids"]), ("none", ids[:, :0])):
        model.predict_on = word
        z = model.llm(torch.cat([before, ids], 1))[:, before.shape[1] :]
        torch.testing.assert_close(model.outputs(**batch), z)
    model.predict_on = "first_2"
    z = model.llm(torch.cat([batch["demo_ids"][:, :2], ids], 1))[:, 2:]
    found = model.predict(**batch)[0]
    torch.testing.assert_close(found["logits"], z[:, 2:4].flatten(0, 1))
    assert found["targets"].tolist() == ids[:, 3:].flatten().tolist()
    with pytest.raises(UserError, match="predict_on='half'"):
        MEND(gpt2(), gpt2(), predict_on="half")
    with pytest.raises(UserError, match="vectors=0"):
        MEND(gpt2(), gpt2(), vectors=0)
    other = gpt2()
    other["config"]["vocab_size"] = 13
    with pytest.raises(UserError, match="llm 12, hypernet 13 tokens"):
        MEND(gpt2(), other)
    with pytest.raises(UserError, match="given 25 tokens and has 24 positions"):
        model.llm(torch.zeros(1, 25).long())


def test_maps_tell_their_answers():
    data = RandomMaps("train", 200, short=0.5)
    for sample in (data[i] for i in range(200)):
        told = {int(d) // 8: int(d) % 8 for d in sample["demo_ids"]}
        asked, answer = sample["input_ids"].tolist()
        assert answer == 72 + told[asked - 64]
        assert len(told) == len({int(d) // 8 for d in sample["demo_ids"][:8]}) == 8
    shown = data.demo_mask.sum(1)
    assert 0.4 < (shown < 16).float().mean() < 0.6
    assert (data.demo_mask.diff(dim=1) >= 0).all()  # the last ones are shown
    assert (RandomMaps("train", 9).demo_mask == 1).all()
    with pytest.raises(UserError, match="part='night'"):
        RandomMaps("night", 1)


def test_paper_config_trains_from_folders_and_jsonl(tmp_path):
    words = {w: i for i, w in enumerate(["<unk>", "</s>", "a", "b", "c", "yes", "no"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = dict(unk_token="<unk>", eos_token="</s>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        tmp_path / "words"
    )
    for name, width in (("large", 8), ("small", 4)):
        sizes = dict(vocab_size=7, n_embd=width, n_layer=1, n_head=2, n_positions=32)
        config = AutoConfig.for_model("gpt2", **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
    lines = [dict(task="t", input=i, output="yes") for i in ("a", "a b", "c")]
    told = "\n".join(map(json.dumps, lines))
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.jsonl").write_text(told)
    (tmp_path / "texts.jsonl").write_text('{"text": "a b c a b"}\n' * 4)
    cfg = toy_config("configs/mend/paper.py", tmp_path / "run", walk=False)
    cfg.train_cfg.val_interval = None
    stages = cfg.train_cfg.stages
    tasks = dict(demo_length=8, length=5)
    for part in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        part.dataset.update(tasks)
    stages[0].dataloader.dataset.update(ann_file="texts.jsonl", length=10)
    for part in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
        stages[0].dataloader,
    ):
        part.update(num_workers=0, batch_size=2, persistent_workers=False)
        part.dataset.update(data_root=str(tmp_path), tokenizer=f"{tmp_path}/words")
    for stage in stages:
        stage.max_iters = 1
    cfg.model.vectors = 2
    cfg.model.llm.pretrained = str(tmp_path / "large")
    cfg.model.hypernet.pretrained = str(tmp_path / "small")
    model = train(cfg).model
    assert model.adapter is not None
    sample = TaskText(f"{tmp_path}/val.jsonl", f"{tmp_path}/words", **tasks)[1]
    assert sample["input_ids"].tolist() == [2, 3, 5, 1, 1]
    assert sample["labels"].tolist() == [-100, -100, 5, 1, -100]
    assert sample["attention_mask"].tolist() == [1, 1, 1, 1, 0]
    assert sample["demo_mask"].tolist() == [0] * 4 + [1] * 4
    assert sorted(sample["demo_ids"][4:].tolist()) == [2, 4, 5, 5]
    (tmp_path / "alone.jsonl").write_text(json.dumps(lines[0]))
    with pytest.raises(UserError, match="has one line"):
        TaskText(f"{tmp_path}/alone.jsonl", f"{tmp_path}/words")
    (tmp_path / "bad.jsonl").write_text('{"task": "t"}')
    with pytest.raises(UserError, match="is no example"):
        TaskText(f"{tmp_path}/bad.jsonl", f"{tmp_path}/words")
    with pytest.raises(UserError, match="fewer than one row of 100"):
        PackedText(f"{tmp_path}/texts.jsonl", f"{tmp_path}/words", length=100)


P = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
Z = torch.tensor([[0.4, 0.2, 0.3, 0.1]]).log() + 2  # logits, not log-probabilities
IDS = torch.tensor([[1, 0, 3, 2]])


def test_what_is_not_kept_counts_as_one_token():
    """By hand: .5 ln 2.5 + .3 ln .75 + .2 ln .5; all four tokens: .343072."""
    assert kept_kl(P[:, :2], IDS[:, :2], Z).item() == pytest.approx(0.233211, abs=1e-6)
    assert kept_kl(P, IDS, Z).item() == pytest.approx(0.343072, abs=1e-6)
    z = Z.clone().requires_grad_()
    kept_kl(torch.tensor([[1.0]]), IDS[:, :1], z).backward()  # no mass is left
    torch.testing.assert_close(z.grad[0], torch.tensor([0.4, -0.8, 0.3, 0.1]))
    none = torch.zeros(0, 4, requires_grad=True)
    loss = kept_kl(P[:0], IDS[:0], none)
    loss.backward()
    assert loss.item() == 0
    assert none.grad.shape == (0, 4)


class Loader(list):
    """Batches in order, of three samples in all."""

    dataset = range(3)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_kept_answers_are_those_of_each_step(tmp_path, stage):
    path = tmp_path / "kept/answers.safetensors"
    torch.manual_seed(2)
    ids, demos = torch.randint(12, (3, 5)), torch.randint(12, (3, 6))
    real = torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    if stage == "pretrain":
        demos, real = None, torch.ones(3, 5).long()

    def batch(*rows):
        rows = torch.tensor(rows)
        found = dict(input_ids=ids[rows], attention_mask=real[rows], index=rows)
        if demos is None:
            return found
        return dict(found, demo_ids=demos[rows], labels=ids[rows])

    def built(**options):
        torch.manual_seed(0)
        net = MEND(gpt2(), gpt2(), vectors=3, **options).eval()
        enter(net, stage)
        return net

    keeps = dict(answers={stage: str(path)})
    with pytest.raises(UserError, match="no work_dataloader"):
        built(**keeps).start_stage(stage, None, None)
    loader = Loader([batch(0, 1), batch(2)])
    model, asked = built(**keeps), built()
    model.start_stage("llm", None, None)
    assert not path.exists()
    model.start_stage(stage, loader, None)
    kept = model.loss(**batch(2, 0))["loss_kl"]
    now = asked.loss(**batch(2, 0))["loss_kl"]
    torch.testing.assert_close(kept, now, atol=1e-6, rtol=1e-5)
    assert now > 0.01
    assert not torch.equal(now, asked.loss(**batch(0, 1))["loss_kl"])
    made = path.stat()
    built(**keeps).start_stage(stage, loader, None)  # the same LLM: nothing to do
    assert path.stat().st_ino == made.st_ino
    few = built(answers={stage: f"{path}.few"}, top_k=4)
    few.start_stage(stage, loader, None)
    assert 0 < few.loss(**batch(2, 0))["loss_kl"] < now
    with pytest.raises(UserError, match="which samples a batch has"):
        model.loss(**{**batch(0), "index": None})
    with pytest.raises(UserError, match="of other data"):
        model.loss(**{**batch(0, 1), "index": torch.tensor([0, 3])})
    loader.dataset = range(4)
    with pytest.raises(UserError, match="of 3 samples; the data have 4"):
        built(**keeps).start_stage(stage, loader, None)
    other = built(**keeps)
    other.llm.model.transformer.wte.weight.data[11, 7] += 1
    with pytest.raises(UserError, match="of another teacher"):
        other.start_stage(stage, loader, None)
    with pytest.raises(UserError, match="of another teacher"):
        other.loss(**batch(0))
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="checksum differs"):
        built(**keeps).loss(**batch(0))
    with pytest.raises(UserError, match="answers='llm' is not known"):
        built(answers=dict(llm="x"))


def test_a_killed_run_reads_what_was_kept(tmp_path):
    """Resumed before and inside the stage whose answers lie there already."""
    path = tmp_path / "answers.safetensors"
    data = "dict(type='pld_mmdet.RandomMaps', part='train', size=64, indexed=True)"
    config = tmp_path / "kept.py"
    config.write_text(
        f"_base_ = {str(ROOT / 'configs/mend/toy.py')!r}\n"
        "from pld_mmdet.recipes import loader, stage, staged\n"
        f"data = {data}\n"
        f"model = dict(answers=dict(finetune={str(path)!r}))\n"
        "train_dataloader = dict(dataset=dict(indexed=True))\n"
        "train_cfg = dict(_delete_=True, **staged(stage('llm', 1), "
        "stage('finetune', 2, work=loader(data, 32))))\n"
        "walk = ['train_dataloader.dataset.size=64', 'val_dataloader.dataset.size=8',"
        " 'test_dataloader.dataset.size=8']\n"
    )
    for at in (1, 2):
        made = path.stat().st_ino if at == 2 else None
        assert_resume_is_exact(str(config), tmp_path / str(at), at)
        assert made in (None, path.stat().st_ino)
    assert len(KeptAnswers(path)) == 64
