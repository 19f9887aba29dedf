"""SimCLRv2: pretrain without labels, fine-tune on few, distil on all images."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import positive
from pld_mmdet.distill.contrastive import nt_xent
from pld_mmdet.distill.losses import masked_mean, soft_cross_entropy
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared import views
from pld_mmdet.shared.taught import PartLearns

View = Callable[[Tensor], Tensor]


def _digit(images: Tensor) -> Tensor:
    return views.blanked(views.random_view(images, shift=2, noise=0.2), 3 / 8)


def _crop(images: Tensor) -> Tensor:
    return views.mirrored(views.resized_crop(images, (0.08, 1.0)))


def _photo(images: Tensor) -> Tensor:
    return views.blurred(views.contrasted(images, colour=0.8))


#: Of the pretraining, and of the distillation (crop and mirror only).
VIEWS: dict[str, tuple[View, View]] = {
    "digits": (_digit, views.random_view),
    "images": (_photo, _crop),
    "small_images": (partial(views.contrasted, area=(0.2, 1.0)), views.weak),
}


class ProjectionHead(nn.Module):
    """SimCLRv2's head: three linear layers with batch norm, the last without a shift.

    Linear layers have no bias; ReLU after the first two norms. The hidden width is the
    encoder's.

    Args:
        width: Of the features.
        outputs: Of the last layer [128].
    """

    def __init__(self, width: int, outputs: int = 128) -> None:
        super().__init__()
        last = nn.BatchNorm1d(outputs)
        last.bias = None  # the scale stays
        self.layers = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, outputs, bias=False),
            last,
        )

    def first(self, features: Tensor) -> Tensor:
        """After the first layer's ReLU: what fine-tuning keeps, [N, width]."""
        return self.layers[:3](features)

    def forward(self, features: Tensor) -> Tensor:
        """[N, width] -> [N, outputs]."""
        return self.layers(features)


@MODELS.register_module()
class SimCLRv2(PartLearns):
    r"""Big self-supervised models are semi-supervised learners (Chen et al. 2020).

    Stages of ``StagedLoop``, on one large network (encoder, head of three layers,
    classifier) and a student::

        pretrain   NT-Xent of two views, the sum of both directions
        finetune   CE(y, W h), h after the first layer of the head, W zero at its start
        distill    a T^2 CE(softmax(z_t / T), z_s / T) + (1 - a) CE(y, z_s)

    Labels enter the last line only with a < 1, and only where there are any
    (``targets`` of 0 or more). Stage ``student`` trains the student on labels alone:
    the baseline. After the second stage the large network is the teacher, in evaluation
    mode.

    Neither the released code (google-research/simclr, 383d414) nor this has the paper's
    memory of keys. Negatives and batch norm are those of one process; views leave out
    the change of hue. ``pld_mmdet.LARS`` is the published optimizer.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teacher: Config of an encoder with ``features`` and ``feat_dim``.
        num_classes: C.
        outputs: Width of the projection [128].
        temperature: Of NT-Xent [0.1].
        tau: T of the distillation [1; by setting 0.1 or 1 in the paper, unconfirmed].
        alpha: a, share of the teacher in the distillation [1: no labels].
        from_layer: Where fine-tuning starts: 1 after the head's first layer, 0 at the
            encoder's features [1].
        view: Key of ``VIEWS``.
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: Unknown words, or numbers out of range.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        num_classes: int,
        outputs: int = 128,
        temperature: float = 0.1,
        tau: float = 1.0,
        alpha: float = 1.0,
        from_layer: int = 1,
        view: str = "images",
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "SimCLRv2",
            view=(view, VIEWS),
            predict_on=(predict_on, ("student", "teacher")),
            from_layer=(from_layer, (0, 1)),
        )
        positive("SimCLRv2", temperature=temperature, tau=tau)
        if not 0 <= alpha <= 1 or num_classes < 2:
            raise UserError(
                f"SimCLRv2: alpha={alpha}, num_classes={num_classes}.",
                "Choose 0 <= alpha <= 1, and two classes or more.",
            )
        self.student = MODELS.build(student)
        self.encoder = MODELS.build(teacher)
        if isinstance(getattr(self.encoder, "fc", None), nn.Module):
            self.encoder.fc = nn.Identity()
        self.head = ProjectionHead(self.encoder.feat_dim, outputs)
        self.classifier = nn.Linear(self.encoder.feat_dim, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.temperature, self.tau, self.alpha = temperature, tau, alpha
        self.from_layer, self.predict_on = from_layer, predict_on
        self.contrast, self.easy = VIEWS[view]
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        kept = [self.head.layers[:3]] if self.from_layer else []
        parts = {
            "pretrain": [self.encoder, self.head],
            "finetune": [self.encoder, *kept, self.classifier],
        }
        return parts.get(self.progress.stage, [self.student])

    def teacher(self, inputs: Tensor) -> Tensor:
        """Logits N x C of the large network."""
        h = self.encoder.features(inputs)
        return self.classifier(self.head.first(h) if self.from_layer else h)

    def loss_pretrain(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """NT-Xent of two views of each image: N x C x H x W in [0, 1]."""
        pairs = torch.cat(views.two_views(inputs, self.contrast))
        z = self.head(self.encoder.features(pairs))
        return {"loss": nt_xent(*z.split(len(inputs)), self.temperature)}

    def loss_finetune(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the large network: N x ..., N labels."""
        return {"loss": F.cross_entropy(self.teacher(self.easy(inputs)), targets)}

    def loss_student(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the student alone: N x ..., N labels."""
        return {"loss": F.cross_entropy(self.student(self.easy(inputs)), targets)}

    def loss_distill(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """The teacher's answers; labels if alpha asks: N x ..., N labels or -1."""
        inputs = self.easy(inputs)
        z_s = self.student(inputs).float()
        with torch.no_grad():
            target = (self.teacher(inputs).float() / self.tau).softmax(1)
        kd = self.tau**2 * soft_cross_entropy(z_s / self.tau, target)
        if self.alpha == 1:
            return {"loss_kd": kd}
        rows = F.cross_entropy(z_s, targets.clamp(min=0), reduction="none")
        labelled = masked_mean(rows, targets >= 0)
        return {"loss_kd": self.alpha * kd, "loss_ce": (1 - self.alpha) * labelled}

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x C of the network that ``predict_on`` names."""
        return getattr(self, self.predict_on)(inputs)
