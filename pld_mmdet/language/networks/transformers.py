"""Language models as networks: token ids in, logits out.

Built from a config (random weights) or from weights that the user names by folder or
hub name. Nothing here runs code from a checkpoint or from a hub.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


def build_transformer(
    auto_class: str,
    config: dict | None = None,
    pretrained: str | None = None,
    fresh: tuple[str, ...] = (),
    **options: Any,
) -> nn.Module:
    """A transformers model, from a config or from a user's weights.

    Args:
        auto_class: E.g. ``AutoModelForCausalLM``.
        config: ``model_type`` and the fields of that model's config; random weights.
        pretrained: Folder or hub name of weights instead. Read from safetensors, or
            from a pickle with ``weights_only=True``.
        fresh: Parts of names of weights that ``pretrained`` may lack (a new head).
        **options: For both ways, e.g. ``attn_implementation='eager'``.

    Raises:
        UserError: Neither or both of ``config`` and ``pretrained``, an unknown model
            type, weights that are not there, unsafe, or do not fit.
    """
    transformers = require("transformers", "language")
    auto = getattr(transformers, auto_class)
    if (config is None) == (pretrained is None):
        raise UserError(
            "A language model is built either from `config` or from `pretrained`.",
            "Give one of them: config=dict(model_type='gpt2', ...) makes random "
            "weights, pretrained='FOLDER or HUB/NAME' loads some.",
        )
    if config is not None:
        try:
            made = transformers.AutoConfig.for_model(**config)
        except ValueError as error:
            raise UserError(
                f"transformers has no model type {config.get('model_type')!r}.",
                "Name one, e.g. config=dict(model_type='gpt2', n_embd=64, ...).",
            ) from error
        return auto.from_config(made, **options)
    try:
        model, info = auto.from_pretrained(
            pretrained,
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"The weights {pretrained!r} cannot be loaded: {reason}",
            "Name a folder with config.json and model.safetensors, or a hub name that "
            "this machine can reach (or has in its cache).",
        ) from error
    lacking = [k for k in info["missing_keys"] if not any(f in k for f in fresh)]
    if lacking or info.get("mismatched_keys"):
        raise UserError(
            f"The weights {pretrained!r} do not fit {type(model).__name__}: "
            f"{len(lacking)} missing ({', '.join(sorted(lacking)[:3])}).",
            "Name weights of this architecture, or list new parts under `fresh`.",
        )
    return model


def one_vocabulary(owner: str, **networks: nn.Module) -> None:
    """Networks that answer the same question know the same tokens.

    Raises:
        UserError: Two of those that say how many tokens they have do not agree.
    """
    sizes = {k: v.vocabulary for k, v in networks.items() if hasattr(v, "vocabulary")}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"{owner}: the vocabularies differ: {listed} tokens.",
            "Take models of one tokenizer; where they are only padded differently, set "
            "vocab_size of both to the larger number.",
        )


def _cache_name(model: nn.Module) -> str:
    """What transformers calls keys and values: `cache`, before 5.24 another name."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def fits(input_ids: Tensor, places: int | None) -> None:
    """Texts are not longer than an encoder's positions.

    Args:
        input_ids: [B, T].
        places: The encoder's positions [not known: nothing is looked at].

    Raises:
        UserError: They are.
    """
    length = input_ids.shape[1]
    if places is not None and length > places:
        raise UserError(
            f"Texts of {length} tokens, but this encoder has {places} positions.",
            "Set max_length of the data set to that or less (half of it where two "
            "texts are joined).",
        )


@MODELS.register_module()
class CausalTransformer(nn.Module):
    """A decoder of transformers that answers with next-token logits.

    Args:
        config: See :func:`build_transformer`.
        pretrained: See there.
        vocab_size: Resize the embeddings to this many tokens (teacher and student
            must agree) [as built].
        **options: For transformers, e.g. ``dtype='bfloat16'``.
    """

    def __init__(
        self,
        config: dict | None = None,
        pretrained: str | None = None,
        vocab_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if config is not None:  # GPT-2's ids would lie outside a small vocabulary
            config = {"bos_token_id": None, "eos_token_id": None, **config}
        self.model = build_transformer(
            "AutoModelForCausalLM", config, pretrained, **options
        )
        if vocab_size is not None:
            self.model.resize_token_embeddings(vocab_size)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Token ids [B, T] and mask [B, T] (1: real) -> logits [B, T, V].

        Args:
            input_ids: [B, T], or ``inputs_embeds`` [B, T, D] in their place.
            attention_mask: [B, T].
            position_ids: [B, T], for padding on the left [0, 1, 2, ...].
            inputs_embeds: See there.

        Raises:
            UserError: More tokens than the network has positions for.
        """
        given_ids = input_ids if inputs_embeds is None else inputs_embeds
        self._fit(given_ids.shape[1])
        places = {} if position_ids is None else {"position_ids": position_ids}
        given = (
            {"input_ids": input_ids}
            if inputs_embeds is None
            else {"inputs_embeds": inputs_embeds}
        )
        return self.model(
            **given, attention_mask=attention_mask, use_cache=False, **places
        ).logits

    @property
    def vocabulary(self) -> int:
        """Tokens V."""
        return self.model.get_input_embeddings().num_embeddings

    def _fit(self, length: int) -> None:
        most = getattr(self.model.config, "max_position_embeddings", None)
        if most is not None and length > most:
            raise UserError(
                f"{type(self.model).__name__} was given {length} tokens and has "
                f"{most} positions.",
                "Cut the texts (a data set's length, a model's new_tokens), or take a "
                "network with more positions.",
            )

    @property
    def width(self) -> int:
        """Channels D of an embedding."""
        return self.model.get_input_embeddings().embedding_dim

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, T] -> embeddings [B, T, D]."""
        return self.model.get_input_embeddings()(input_ids)

    def states(self, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
        """Last hidden states [B, T, D] of embeddings, padded on the left."""
        return self.model.base_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state

    def reader(self, prompts: Tensor, mask: Tensor | None = None):
        """What :func:`pld_mmdet.language.decoding.sampling.sample` asks step by step.

        Args:
            prompts: [B, P] ids, padded on the left.
            mask: [B, P], 1 where a token is real [everywhere].

        Returns:
            A function of the ids that follow [B, n] -> logits [B, V] behind them, which
            keeps keys and values; what it is to read first; the history so far.
        """
        cache = None
        seen = torch.ones_like(prompts) if mask is None else mask
        name = _cache_name(self.model)

        def read(ids: Tensor) -> Tensor:
            nonlocal cache, seen
            if cache is not None:
                seen = torch.cat([seen, torch.ones_like(ids)], 1)
            self._fit(seen.shape[1])
            place = (seen.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            answer = self.model(
                input_ids=ids,
                attention_mask=seen,
                position_ids=place,
                use_cache=True,
                **{name: cache},
            )
            cache = answer[name]
            return answer.logits[:, -1]

        return read, prompts, prompts


@MODELS.register_module()
class Seq2SeqTransformer(nn.Module):
    """An encoder-decoder of transformers (T5): a text in, another one out.

    Args:
        config: See :func:`build_transformer`.
        pretrained: See there.
        **options: For transformers.
    """

    def __init__(
        self, config: dict | None = None, pretrained: str | None = None, **options: Any
    ) -> None:
        super().__init__()
        self.model = build_transformer(
            "AutoModelForSeq2SeqLM", config, pretrained, **options
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, targets: Tensor
    ) -> Tensor:
        """Ids [B, S] with their mask, targets [B, T] -> logits [B, T, V] of them."""
        start = self.model.config.decoder_start_token_id
        before = targets.new_full((len(targets), 1), start)
        return self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=torch.cat([before, targets[:, :-1]], 1),
            use_cache=False,
        ).logits

    def reader(self, prompts: Tensor, mask: Tensor | None = None):
        """As :meth:`CausalTransformer.reader`; the prompt is read by the encoder."""
        encoded = self.model.get_encoder()(input_ids=prompts, attention_mask=mask)
        cache, name = None, _cache_name(self.model)

        def read(ids: Tensor) -> Tensor:
            nonlocal cache
            answer = self.model(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=ids,
                use_cache=True,
                **{name: cache},
            )
            cache = answer[name]
            return answer.logits[:, -1]

        start = self.model.config.decoder_start_token_id
        first = prompts.new_full((len(prompts), 1), start)
        return read, first, first


@MODELS.register_module()
class BidirectionalTransformer(CausalTransformer):
    """A decoder of transformers in which every token sees every other one.

    What a masked-diffusion model is that has a decoder's layers (LLaDA: Llama's).
    Position t answers for token t itself, not for the next one.
    """

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Token ids [B, T] -> logits [B, T, V]; a mask [B, T] hides padding."""
        rows, length = input_ids.shape
        dtype = self.model.dtype
        open_ = torch.zeros(
            rows, 1, length, length, dtype=dtype, device=input_ids.device
        )
        if attention_mask is not None:
            hidden = attention_mask[:, None, None] == 0
            open_ = open_.masked_fill(hidden, torch.finfo(dtype).min)
        return super().forward(input_ids, open_)


@MODELS.register_module()
class EncoderTransformer(nn.Module):
    """An encoder of transformers that also answers with what lies inside.

    Args:
        task: ``MaskedLM`` or ``SequenceClassification``.
        config: See :func:`build_transformer`.
        pretrained: See there; a classifier's head may be new.
        num_classes: Outputs of a classifier's head.
    """

    def __init__(
        self,
        task: str,
        config: dict | None = None,
        pretrained: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if task not in ("MaskedLM", "SequenceClassification"):
            raise UserError(
                f"EncoderTransformer has no task {task!r}.",
                "Choose MaskedLM or SequenceClassification.",
            )
        labels = {} if num_classes is None else {"num_labels": num_classes}
        if config is not None:
            config = {**config, **labels}
            labels = {}
        # other implementations of attention do not return their maps
        self.model = build_transformer(
            f"AutoModelFor{task}",
            config,
            pretrained,
            fresh=("classifier", "pooler"),
            attn_implementation="eager",
            **labels,
        )

    @property
    def vocabulary(self) -> int:
        """Tokens V."""
        return self.model.config.vocab_size

    @property
    def body(self) -> nn.Module:
        """The network without its head."""
        return self.model.base_model

    @property
    def layers(self) -> int:
        """Transformer layers L."""
        return self.model.config.num_hidden_layers

    @property
    def width(self) -> int:
        """Channels D of a hidden state."""
        return self.model.config.hidden_size

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Token ids [B, T] and mask [B, T] -> logits of the head.

        Raises:
            UserError: Texts that are longer than the encoder's positions.
        """
        fits(input_ids, getattr(self.model.config, "max_position_embeddings", None))
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    def inside(
        self, input_ids: Tensor, attention_mask: Tensor | None, head: bool = True
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor | None]:
        """One pass, with everything that a student may imitate.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T].
            head: Whether the logits are wanted; the last answer is None without.

        Returns:
            L + 1 hidden states [B, T, D] (embeddings first), L attention maps
            [B, H, T, T] after their softmax, logits.
        """
        network = self.model if head else self.body
        answer = network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            output_attentions=True,
        )
        logits = answer.logits if head else None
        return answer.hidden_states, answer.attentions, logits
