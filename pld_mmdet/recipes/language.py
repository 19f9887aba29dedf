"""What configs of language write again and again, as functions of plain data."""

from pld_mmdet.recipes import optimizer

MNLI = ("entailment", "neutral", "contradiction")


def causal(pretrained: str | None = None, **more) -> dict:
    """A network that says the next word.

    Args:
        pretrained: Folder of its weights [a config, in ``more``].
        more: Other entries.
    """
    if pretrained is not None:
        more["pretrained"] = pretrained
    return dict(type="pld_mmdet.CausalTransformer", **more)


def classifier(num_classes: int | None = None, **more) -> dict:
    """An encoder that classifies texts.

    Args:
        num_classes: How many [those of the weights].
        more: Other entries, such as ``pretrained`` or ``config``.
    """
    if num_classes is not None:
        more["num_classes"] = num_classes
    kind = dict(type="pld_mmdet.EncoderTransformer", task="SequenceClassification")
    return dict(**kind, **more)


def masked(**more) -> dict:
    """An encoder that fills in masked words.

    Args:
        more: Other entries, such as ``pretrained`` or ``config``.
    """
    return dict(type="pld_mmdet.EncoderTransformer", task="MaskedLM", **more)


def gpt2(
    vocabulary: int,
    positions: int,
    width: int,
    *,
    layers: int = 2,
    heads: int = 4,
    dropout: bool = False,
    **more,
) -> dict:
    """A small GPT-2 of random weights.

    Args:
        vocabulary: Its words.
        positions: Of the longest text.
        width: Of its states.
        layers: How many.
        heads: Of a layer.
        dropout: As published, a tenth everywhere [none].
        more: Other entries of transformers' config.
    """
    config = dict(model_type="gpt2", vocab_size=vocabulary, n_positions=positions)
    config |= dict(n_embd=width, n_layer=layers, n_head=heads, **more)
    if not dropout:
        config |= dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    return causal(config=config)


def bert(
    vocabulary: int, positions: int, width: int, layers: int, hidden: int, **more
) -> dict:
    """transformers' config of a BERT with four heads.

    Args:
        vocabulary: Its words.
        positions: Of the longest text.
        width: Of its states.
        layers: How many.
        hidden: Width inside a layer.
        more: Other entries.
    """
    return dict(
        model_type="bert",
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=hidden,
        **more,
    )


def adamw(rate: float, decay: float = 0.01, **more) -> dict:
    """The optimizer of BERT and its followers; as :func:`pld_mmdet.recipes.optimizer`.

    Args:
        rate: Its rate.
        decay: Of the weights.
        more: Other arguments.
    """
    return optimizer("AdamW", rate, betas=(0.9, 0.999), weight_decay=decay, **more)
