"""PS-KD: the network of the epoch before teaches the network of this one."""

from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_nll
from pld_mmdet.distill.memory import SampleBank
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class PSKD(Method):
    r"""Progressive self-knowledge distillation (Kim et al., ICCV 2021).

    In epoch e of E, for image i with label y and past prediction P_i::

        alpha_e = alpha_T (e + 1) / E
        t = (1 - alpha_e) onehot(y) + alpha_e P_i          (P_i = onehot(y) in epoch 0)
        L = CE(t, softmax(z)),   then   P_i <- softmax(z)

    z is this step's output in training mode, before the optimizer's step. There is no
    teacher network: P is a bank of N x C numbers in the checkpoint, so that a resumed
    run has the targets that it would have had.

    Needs the data set's ``index`` in each sample. Under a loop that counts iterations
    an epoch is as many of them as one pass over the data set takes.

    Deviations from the released code (lgcnsai/PS-KD-Pytorch, commit 9aa0828): the last
    checkpoint is reported, not the best one on test images. An image that was not seen
    in epoch 0 has its label for P.

    Args:
        network: Config of a network, N x ... -> N x C logits.
        num_samples: Images of the training set.
        num_classes: C.
        alpha_T: alpha of the last epoch [0.8, paper's CIFAR-100; ImageNet: 0.3,
            unconfirmed]. 0 is plain cross-entropy.

    Raises:
        UserError: ``alpha_T`` is out of range.
    """

    def __init__(
        self,
        network: dict,
        num_samples: int,
        num_classes: int,
        alpha_T: float = 0.8,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not 0 <= alpha_T <= 1:
            raise UserError(
                f"PSKD: alpha_T={alpha_T} is no share of a target.",
                "Choose it from 0 to 1.",
            )
        self.network = MODELS.build(network)
        self.bank = SampleBank(num_samples, num_classes)
        # DDP would send the whole bank around at every step.
        self._ddp_params_and_buffers_to_ignore = ["bank.rows"]
        self.alpha_T = alpha_T

    def loss(
        self, inputs: Tensor, targets: Tensor, index: Tensor, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy with softened labels; remembers this step's predictions.

        Args:
            inputs: N x ...
            targets: N labels.
            index: N numbers of the images in the training set.
        """
        log_p = self.network(inputs).float().log_softmax(1)
        soft = self.soft_targets(targets, index)
        self.bank.write(index, log_p.exp())
        return {"loss": soft_nll(log_p, soft).mean()}

    def soft_targets(self, targets: Tensor, index: Tensor) -> Tensor:
        """Targets [N, C] of labels [N] and the past predictions of images [N]."""
        if int(index.max()) >= len(self.bank.rows):
            raise UserError(
                f"PSKD: image number {int(index.max())}, but num_samples="
                f"{len(self.bank.rows)}.",
                "Set model.num_samples to the length of the training set.",
            )
        one_hot = F.one_hot(targets, self.bank.rows.shape[1]).float()
        now = self.progress.known()
        if now.epoch == 0:
            return one_hot  # (1 - alpha) onehot + alpha onehot
        past = self.bank.read(index)
        past = past.where(past.sum(1, keepdim=True) > 0, one_hot)
        # the last epoch may be a part of one, beyond the whole ones
        alpha = self.alpha_T * min(1.0, (now.epoch + 1) / now.epochs)
        return one_hot.lerp(past, alpha)

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [N, C]."""
        return self.network(inputs)
