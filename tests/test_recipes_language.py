"""The functions that configs of language call."""

from pld_mmdet.recipes.language import (
    adamw,
    bert,
    causal,
    classifier,
    gpt2,
    masked,
)


def test_networks():
    assert causal("data/x", dtype="d") == dict(
        type="pld_mmdet.CausalTransformer", pretrained="data/x", dtype="d"
    )
    assert classifier(pretrained="y") == dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        pretrained="y",
    )
    assert classifier(3)["num_classes"] == 3
    assert masked(config=1)["task"] == "MaskedLM"


def test_small_transformers():
    made = gpt2(32, 8, 64, layers=3, heads=5, initializer_range=0.5)
    assert made["config"] == dict(
        model_type="gpt2",
        vocab_size=32,
        n_positions=8,
        n_embd=64,
        n_layer=3,
        n_head=5,
        initializer_range=0.5,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    assert "embd_pdrop" not in gpt2(32, 8, 64, dropout=True)["config"]
    assert bert(33, 16, 64, 2, 128, a=1) == dict(
        model_type="bert",
        vocab_size=33,
        max_position_embeddings=16,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        a=1,
    )


def test_the_optimizer():
    made = adamw(2e-5, 0.1, half="bfloat16", eps=1e-8)
    assert made["optimizer"] == dict(
        type="AdamW", lr=2e-5, betas=(0.9, 0.999), weight_decay=0.1, eps=1e-8
    )
    assert made["dtype"] == "bfloat16"
