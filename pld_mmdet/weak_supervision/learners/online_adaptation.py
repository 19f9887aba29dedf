"""Test-time adaptation: a source network learns from the stream that scores it."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pld_mmdet.distill.losses import entropy
from pld_mmdet.engine.run.method import Method
from pld_mmdet.registry import MODELS

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def use_batch_statistics(network: nn.Module) -> nn.Module:
    """Let every batch norm use the statistics of the batch at hand, in every mode.

    The running buffers are taken away, so that nothing is left that an evaluation mode
    could fall back on (TENT and CoTTA both do this to the source network).

    Args:
        network: Changed in place.

    Returns:
        The same network.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.track_running_stats = False
            for name in _STATISTICS:
                setattr(layer, name, None)
    return network


class TestTimeMethod(Method):
    """What test-time methods share: one call learns from a batch and answers it.

    A subclass writes ``adapt``: losses, and the answer that comes from the forward
    passes which they needed, before the update, as in the papers. ``after_step``
    follows the optimizer. Run it with :class:`pld_mmdet.engine.loops.OnlineLoop`
    without ``score_dataloader``.

    A checkpoint of the plain source network (bare names, or ``network.*`` as of
    ``Classifier``) fills every network that ``copies_of_source`` names; its running
    batch-norm statistics are not used.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name
    copies_of_source: Sequence[str] = ("network.",)

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self._register_load_state_dict_pre_hook(self._from_source)

    @abstractmethod
    def adapt(self, inputs: Tensor, **_) -> tuple[dict[str, Tensor], Tensor]:
        """Named losses of a batch, and the answer to it: N x C logits."""

    def loss(self, **batch) -> dict[str, Tensor]:
        """The losses alone."""
        return self.adapt(**batch)[0]

    def learn(self, batch: dict, optim_wrapper) -> tuple[dict, list[dict]]:
        """One step on a batch.

        Returns:
            Values for the log, and the predictions: logits beside the labels.
        """
        batch = self.data_preprocessor(batch, True)
        answers = []

        def losses() -> dict[str, Tensor]:
            found, answer = self.adapt(**batch)
            answers.append(answer)
            return found

        logs = self.step(optim_wrapper, losses)
        self.after_step()
        return logs, [{"logits": answers[0], "targets": batch["targets"]}]

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step whose answer is not asked for."""
        return self.learn(data, optim_wrapper)[0]

    def after_step(self) -> None:
        """What follows the optimizer's step; nothing by default."""

    def _from_source(self, state: dict, prefix: str, *_) -> None:
        for key in [k for k in state if k.rpartition(".")[2] in _STATISTICS]:
            del state[key]
        for key in [k for k in state if k.startswith(prefix)]:
            name = key[len(prefix) :]
            if any(
                name.startswith(c) for c in self.copies_of_source if c != "network."
            ):
                return  # a checkpoint of this method itself
            value = state.pop(key)
            for copy_ in self.copies_of_source:
                state[prefix + copy_ + name.removeprefix("network.")] = value


@MODELS.register_module()
class Tent(TestTimeMethod):
    """Entropy minimisation over batch-norm scales and shifts (Tent, Wang et al. 2021).

    The simplest rival of CoTTA: one network, ``loss = mean entropy``. With a learning
    rate of 0 it is what is called BN adapt: batch statistics and nothing else.

    Args:
        network: Config of a network with batch norm, N x ... -> N x C logits.
    """

    def __init__(self, network: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.network = use_batch_statistics(MODELS.build(network)).requires_grad_(False)
        for layer in self.network.modules():
            if isinstance(layer, _BatchNorm):
                layer.requires_grad_(True)

    def adapt(self, inputs: Tensor, **_) -> tuple[dict[str, Tensor], Tensor]:
        """Mean entropy of a batch, N x C x H x W."""
        logits = self.network(inputs)
        return {"loss_entropy": entropy(logits).mean()}, logits.detach()

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits of a batch without learning from it."""
        return self.network(inputs)
