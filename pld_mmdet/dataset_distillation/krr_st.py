"""KRR-ST: distil an unlabelled set into pairs that are worth pre-training on (2023).

Lee et al., Self-Supervised Dataset Distillation for Transfer Learning,
https://arxiv.org/abs/2310.06511. The data are the parameters::

    (x_s, y_s)  m images and their d-dimensional targets, started as real images and
                y_s = g(x_s), g a frozen self-supervised network
    one step:   f, a network of a pool, in eval mode, features before its head and a 1
                K = f(x_s) f(x_s)^T,  lambda = 1e-6 trace(K)
                outer loss = mean (f(x) f(x_s)^T (K + lambda I)^-1 y_s - g(x))^2
                             for real images x; its gradient moves x_s and y_s only
                inner step: that network learns mean (head(f(x_s)) - y_s)^2; after T
                steps it starts anew

No gradient flows through the inner training. mmengine's loop is enough: every state
(pairs, pool, one optimizer each, counters) is in the checkpoint.

Deviations from the authors' code (db-Lee/selfsup_dd, read): there, a network that has
once been reset is reset at each later visit, because its counter is not;
``official_reset=True`` does the same. ``pretrain`` draws its batches anew from all
pairs (there: epochs of 256, 256, 256 and 232), and networks start 1 to T steps old
(there: 1 to T - 1). Whether real images are augmented is the data set's affair.
"""

import copy
from collections.abc import Sequence

import torch
from mmengine.dist import broadcast
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.distilled import SyntheticSet
from pld_mmdet.distill.contrastive import barlow_twins_loss
from pld_mmdet.distill.teachers import Frozen, fixed
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.engine.state.weights import report_mismatch
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.networks.small import projector_layers
from pld_mmdet.shared.views import random_view


def kernel_ridge(
    queries: Tensor, points: Tensor, targets: Tensor, ridge: float = 1e-6
) -> Tensor:
    """Kernel ridge regression with the linear kernel of some features.

    K_qp (K_pp + lambda I)^-1 y with lambda = ridge * trace(K_pp), detached.

    Args:
        queries: N x D features, where to predict.
        points: m x D features of the known points.
        targets: m x d of the known points.
        ridge: Share of the trace [1e-6, the authors' code].

    Returns:
        N x d in float32.
    """
    queries, points, targets = queries.float(), points.float(), targets.float()
    kernel = points @ points.T
    penalty = ridge * kernel.detach().trace()
    eye = torch.eye(len(points), device=points.device)
    # So little regularisation wants a solver; an inverse loses the digits.
    return queries @ points.T @ torch.linalg.solve(kernel + penalty * eye, targets)


@MODELS.register_module()
class KRRST(Method):
    """Distils pairs, and measures them: pre-train a student, then fine-tune it.

    Stages, with ``StagedLoop``: ``target`` trains g by Barlow Twins (needed without
    ``target_checkpoint``); ``distill`` is KRR-ST; ``pretrain`` fits the student to the
    pairs; ``finetune`` fits it to labels. The stage that first needs the pairs has a
    ``work_dataloader`` of real images to start them from. Without the stage ``distill``
    they stay random real images and their targets: the baseline.

    ``distill`` needs an optimizer wrapper with the parts ``synthetic``, ``pool.0``,
    ``pool.1``, ... (``pld_mmdet.PartsOptimConstructor``), and ``model_wrapper_cfg =
    dict(type='PartsParallel')`` on several processes.

    Args:
        target: Config of g; its ``backbone`` gives N x d.
        network: Config of a network of the pool and of the student: ``backbone`` gives
            features, ``fc`` maps them to d, ``reset`` starts it anew.
        image_shape: C, H, W.
        target_dim: d.
        size: m [1000; TinyImageNet 2000, ImageNette 10].
        pool_size: Networks of the pool [10].
        inner_steps: T [1000].
        ridge: Of the regression, a share of the kernel's trace [1e-6].
        official_reset: A network that was reset once is reset at every visit [False].
        mean, std: What the data set subtracted and divided, by channel. Synthetic
            images are raw pixels, and the networks see them so [0 and 1: raw data].
        batch_size: Pairs of one step of ``pretrain`` [256].
        num_classes: Of ``finetune`` [10].
        subsets: Draws of the labels of ``finetune``: each draw tunes its own copy of
            the student, and ``predict`` gives the answers of all (data set
            ``LabelSubsets``) [1].
        projector: Widths of Barlow Twins' projector [(128, 128)].
        target_checkpoint: Weights of g [None: the stage ``target`` trains it].
    """

    def __init__(
        self,
        target: dict,
        network: dict,
        image_shape: tuple[int, int, int],
        target_dim: int,
        size: int = 1000,
        pool_size: int = 10,
        inner_steps: int = 1000,
        ridge: float = 1e-6,
        official_reset: bool = False,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        batch_size: int = 256,
        num_classes: int = 10,
        subsets: int = 1,
        projector: Sequence[int] = (128, 128),
        target_checkpoint: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.target = Frozen(MODELS.build(target))
        self.learner = self.projector = None
        if target_checkpoint is not None:
            state = load_checkpoint_file(target_checkpoint)
            state = state.get("state_dict", state)
            report_mismatch(self.target.network, state, target_checkpoint)
        else:  # it learns here, then it is copied
            self.learner = MODELS.build(target)
            self.projector = projector_layers(target_dim, *projector)
        self.synthetic = SyntheticSet(size, image_shape, target_dim)
        network = {**network, "image_shape": image_shape, "outputs": target_dim}
        self.pool = nn.ModuleList(MODELS.build(network) for _ in range(pool_size))
        self.student = MODELS.build(network)
        self.tuned = nn.ModuleList(copy.deepcopy(self.student) for _ in range(subsets))
        self.classifiers = nn.ModuleList(
            nn.Linear(self.student.feat_dim, num_classes) for _ in range(subsets)
        )
        self.inner_steps, self.ridge = inner_steps, ridge
        self.official_reset, self.batch_size = official_reset, batch_size
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        # In the checkpoint, so that a resumed run goes on where it was: whether there
        # are a target and pairs, the dice by which these are chosen, and the steps of
        # each network since it began (-1: not warmed up).
        self.register_buffer("taught", torch.tensor(target_checkpoint is not None))
        self.register_buffer("steps", torch.full((pool_size,), -1))
        self.register_buffer("filled", torch.tensor(False))
        self.register_buffer("dice", torch.randint(2**31, ()))

    def enter_stage(self, name: str) -> None:
        """Refuse to train a target that has weights of its own."""
        if name == "target" and self.learner is None:
            raise UserError(
                "KRRST: a target of its own weights is not trained.",
                "Leave the stage `target` out, or set target_checkpoint=None.",
            )

    def start_stage(self, name: str, loader: object, folder: object) -> None:
        """Fix g, and choose the real images that the pairs start from."""
        if name == "target":
            self.taught.fill_(True)
        if name == "finetune":
            for network in self.tuned:
                network.load_state_dict(self.student.state_dict())
        if name in ("target", "finetune"):
            return
        if not self.taught:
            raise UserError(
                "KRRST: no stage trained the target, and it has no weights of its own.",
                "Put a stage `target` first, or set target_checkpoint.",
            )
        if self.learner is not None:
            self.target.network.load_state_dict(self.learner.state_dict())
        if not self.filled:
            if loader is None:
                raise UserError(
                    f"KRRST: the stage {name} has no real images to start from.",
                    "Set its work_dataloader.",
                )
            self._fill(loader)

    def loss_target(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Barlow Twins of two views of images N x C x H x W."""
        first, second = (
            self.projector(self.learner.backbone(random_view(inputs))) for _ in range(2)
        )
        return {"loss_target": barlow_twins_loss(first, second)}

    def loss_pretrain(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Regression on the pairs; real images and labels are not looked at."""
        pairs = self._some_pairs(inputs.device)
        return {"loss_pairs": _regression_loss(self.student, *pairs)}

    def loss_finetune(
        self, inputs: Tensor, targets: Tensor, subset: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy of each label draw's own copy.

        Args:
            inputs: N x C x H x W.
            targets: N labels.
            subset: N numbers of the draws [all 0].
        """
        if subset is None:
            subset = torch.zeros_like(targets)
        losses = {}
        for number in subset.unique().tolist():  # summed: each copy learns as if alone
            mine = subset == number
            guess = self.outputs(inputs[mine], number)
            losses[f"loss_finetune{number}"] = F.cross_entropy(guess, targets[mine])
        return losses

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One outer and one inner step."""
        real = batch["inputs"]
        if (self.steps < 0).any():
            self._warm_up(optim_wrapper)
        chosen = int(_common(torch.randint(len(self.pool), (1,), device=real.device)))
        network = self.pool[chosen]
        logs = self.step(
            optim_wrapper,
            lambda: {"loss_outer": self.outer_loss(network, real)},
            "synthetic",
        )
        if self.steps[chosen] < self.inner_steps:
            logs["inner"] = self._inner_step(chosen, optim_wrapper)
        else:
            self._reset(chosen, optim_wrapper)
        return logs

    def outer_loss(self, network: nn.Module, real: Tensor) -> Tensor:
        """How well regression on the pairs predicts g of real images N x C x H x W."""
        was_training = network.training
        network.eval()  # the kernel uses running statistics; a reset network's are 0, 1
        with fixed(network):
            points = _with_one(network.backbone(self.synthetic.images))
        with torch.no_grad():
            queries = _with_one(network.backbone(real))
            wanted = self.target.network.backbone(real).float()
        network.train(was_training)
        device = real.device.type
        with torch.autocast(device, enabled=False):  # the solver needs float32
            guess = kernel_ridge(queries, points, self.synthetic.targets, self.ridge)
        return F.mse_loss(guess, wanted)

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x K of each fine-tuned student beside the labels."""
        return [
            {"logits": self.outputs(inputs, number), "targets": targets}
            for number in range(len(self.tuned))
        ]

    def outputs(self, inputs: Tensor, number: int = 0, **_) -> Tensor:
        """Logits N x K of the student that was tuned on label draw ``number``."""
        return self.classifiers[number](self.tuned[number].backbone(inputs))

    def _inner_step(self, number: int, optim_wrapper) -> Tensor:
        network, part = self.pool[number], f"pool.{number}"
        pairs = self.synthetic.images.detach(), self.synthetic.targets.detach()
        logs = self.step(
            optim_wrapper, lambda: {"loss": _regression_loss(network, *pairs)}, part
        )
        self.steps[number] += 1
        return logs["loss"].detach()

    def _warm_up(self, optim_wrapper) -> None:
        """Networks of all ages: each learns for 1 to T steps before the first step."""
        size, device = len(self.pool), self.steps.device
        ages = torch.randint(1, self.inner_steps + 1, (size,), device=device)
        self.steps.zero_()
        for number, age in enumerate(_common(ages).tolist()):
            for _ in range(age):
                self._inner_step(number, optim_wrapper)

    def _reset(self, number: int, optim_wrapper) -> None:
        network = self.pool[number]
        network.reset()
        for tensor in network.state_dict().values():
            _common(tensor)
        optim_wrapper[f"pool.{number}"].optimizer.state.clear()
        if not self.official_reset:
            self.steps[number] = 0

    @torch.no_grad()
    def _fill(self, loader) -> None:
        """Random real images, raw, and what g says about them."""
        device = self.synthetic.images.device
        dataset, size = loader.dataset, len(self.synthetic)
        if len(dataset) < size:
            raise UserError(
                f"KRRST: {size} pairs cannot start from {len(dataset)} real images.",
                "Lower model.size.",
            )
        dice = torch.Generator().manual_seed(int(self.dice))
        chosen = torch.randperm(len(dataset), generator=dice)[:size].tolist()
        images = torch.stack([dataset[i]["inputs"] for i in chosen]).to(device)
        targets = torch.cat(
            [self.target.network.backbone(x) for x in images.split(256)]
        )
        self.synthetic.fill(images * self.std + self.mean, targets)
        self.filled.fill_(True)

    def _some_pairs(self, device: torch.device) -> tuple[Tensor, Tensor]:
        images = self.synthetic.images.detach()
        targets = self.synthetic.targets.detach()
        if len(images) <= self.batch_size:
            return images, targets
        some = torch.randperm(len(images), device=device)[: self.batch_size]
        return images[some], targets[some]


def _regression_loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(network(images).float(), targets)


def _with_one(features: Tensor) -> Tensor:
    """A constant feature: the regression has an intercept."""
    return F.pad(features.float(), (0, 1), value=1.0)


def _common(tensor: Tensor) -> Tensor:
    """Process 0's numbers on all processes."""
    broadcast(tensor)
    return tensor
