"""LAD: a teacher that is strong because it sees the labels, in a code that changes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import channelwise_kl, entropy
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.learners.losses import IGNORE, pixel_ce
from pld_mmdet.segmentation.networks.segmentors import (
    TaughtSegmentor,
    head_logits,
    normalise,
    supervised_losses,
)


@MODELS.register_module()
class LAD(TaughtSegmentor):
    r"""Label-assisted distillation (Qiu et al. 2024).

    The teacher has the student's architecture and one more channel, in which every
    class of an image has a value. Stages of ``StagedLoop``::

        base     CE(S(x), y): where the released student starts
        teacher  a1, a2: two random codes of y, one value ~ N(0, 1) a class and image
                 o_i = T([x, a_i])
                 sum_i CE(o_i, y) + consistency (CWD(o1, o2) + CWD(o2, o1))
        student  t = T([x, a]), a: the fixed code of y
                 CE(S(x), y) + weight CWD(S(x), t)

    CWD is KL(teacher || student) of the softmax over the positions of each class, at
    the head's own size, times tau^2, the mean over images and classes; its teacher is
    a constant (:func:`pld_mmdet.distill.losses.channelwise_kl`). With a code that never
    changed the teacher would copy the label and teach nothing; ``teacher_entropy`` in
    the log, the mean entropy of its softmax, says whether it does (below 0.02: raise
    ``noise``). Where it is distilled it must be much better than the student alone: a
    gate of the experiment.

    From skyshoumeng/Label_Assisted_Distillation, cd08406. Its student has the fourth
    channel too and is fed zeros there; a network without that channel has the same
    answers and gradients, so the student here is a stock segmentor. There the student
    stage starts from a trained checkpoint: stage ``base`` here; without it the student
    is new. Its code values are those of VOC's 21 classes and padding, -1.1 to 1 in
    steps of 0.1.

    Args:
        student: Config of a segmentor of mmsegmentation.
        teacher: Config of the teacher without the channel [that of the student].
        assisted: The teacher sees labels; False is plain distillation from a teacher
            that was trained by cross-entropy.
        weight: Of CWD in stage ``student`` [3, authors' train_baseline.py].
        consistency: Of CWD in stage ``teacher`` [5, ibid.].
        tau: Temperature [4, ibid.].
        noise: Standard deviation of what is added to each pixel's code, in stages
            ``teacher`` and ``student`` [0.03 and 0.02, ibid.].
        scale: What brings codes to the images' scale [1.5 for images of standard
            deviation 1; 100 for images of 0 to 255, ibid.].
        code_step: Between the fixed codes of two classes [0.1, ibid.].
        aux_weight: Of the auxiliary head in stages ``base`` and ``teacher`` [0.4].
        student_aux_weight: The same in stage ``student`` [0.02, ibid.].
        predict_on: ``student``, or ``teacher``, which then reads the true labels: a
            gate, not a result.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        assisted: bool = True,
        weight: float = 3.0,
        consistency: float = 5.0,
        tau: float = 4.0,
        noise: tuple[float, float] = (0.03, 0.02),
        scale: float = 1.5,
        code_step: float = 0.1,
        aux_weight: float = 0.4,
        student_aux_weight: float = 0.02,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        teachers = dict(teacher=teacher or student)
        super().__init__(student, teachers, predict_on, init_cfg)
        self.assisted, self.weight, self.consistency = assisted, weight, consistency
        self.tau, self.noise, self.scale = tau, tuple(noise), scale
        self.aux_weight, self.student_aux_weight = aux_weight, student_aux_weight
        self.classes = self.teacher.decode_head.num_classes
        codes = fixed_codes(self.classes, code_step)
        self.register_buffer("codes", codes, persistent=False)
        if assisted:
            add_label_channel(self.teacher.backbone)

    def loss_base(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the student: N x 3 x H x W, N x H x W."""
        maps = self.student.extract_feat(normalise(self.student, inputs))
        return supervised_losses(self.student, maps, targets, self.aux_weight)

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Two codes of one label, and agreement between the answers."""
        losses, answers = {}, []
        for number in range(2 if self.assisted else 1):
            codes = torch.randn(len(inputs), self.classes + 1, device=inputs.device)
            maps = self._teacher_maps(inputs, targets, codes, self.noise[0])
            low, own = self._losses(self.teacher, maps, targets, self.aux_weight)
            answers.append(low)
            losses |= {f"{name}_{number + 1}": value for name, value in own.items()}
        if self.assisted:
            one, two = answers
            apart = channelwise_kl(one, two, self.tau)
            apart = apart + channelwise_kl(two, one, self.tau)
            losses["loss_consistency"] = self.consistency * apart
        return losses

    def loss_student(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy and the teacher's maps."""
        maps = self.student.extract_feat(normalise(self.student, inputs))
        low, losses = self._losses(self.student, maps, targets, self.student_aux_weight)
        if self.weight:
            with torch.no_grad():
                codes = self.codes.expand(len(inputs), -1)
                told = self._teacher_maps(inputs, targets, codes, self.noise[1])
                wanted = self.teacher.decode_head(told).float()
                losses["teacher_entropy"] = entropy(wanted, dim=1).mean()
            cwd = channelwise_kl(low, wanted, self.tau)
            losses["loss_cwd"] = self.weight * cwd
        return losses

    # a run without StagedLoop has the stage of this name
    loss_distill = loss_student

    def _teacher_maps(
        self, images: Tensor, targets: Tensor, codes: Tensor, noise: float
    ) -> tuple[Tensor, ...]:
        """The teacher's feature maps of images and coded labels."""
        x = normalise(self.teacher, images)
        if self.assisted:
            channel = label_channel(targets, codes, noise, self.scale)
            x = torch.cat([x, channel.to(x)], 1)
        return self.teacher.extract_feat(x)

    @staticmethod
    def _losses(
        network: nn.Module, maps: tuple[Tensor, ...], targets: Tensor, aux: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at the head's size, and the cross-entropy of the heads."""
        head, size = network.decode_head, tuple(targets.shape[-2:])
        low = head(maps).float()
        full = F.interpolate(
            low, size, mode="bilinear", align_corners=head.align_corners
        )
        losses = {"loss_ce": pixel_ce(full, targets)}
        if network.with_auxiliary_head and aux:
            second = head_logits(network, maps, size, "auxiliary")
            losses["loss_aux"] = aux * pixel_ce(second, targets)
        return low, losses

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Label maps beside the targets, N x H x W; the teacher reads the targets.

        Raises:
            UserError: It would, and they have another size than the images.
        """
        if self.predict_on == "student":
            return super().predict(inputs, targets)
        if targets.shape[-2:] != inputs.shape[-2:]:
            raise UserError(
                f"LAD's teacher reads labels: images are {tuple(inputs.shape[-2:])}, "
                f"labels {tuple(targets.shape[-2:])}.",
                "Load the labels before Resize in the test pipeline.",
            )
        codes = self.codes.expand(len(inputs), -1)
        maps = self._teacher_maps(inputs, targets, codes, 0.0)
        logits = head_logits(self.teacher, maps, tuple(targets.shape[-2:]))
        return [{"predictions": logits.argmax(1), "targets": targets}]


def label_channel(targets: Tensor, codes: Tensor, noise: float, scale: float) -> Tensor:
    """A label map as one more channel of an image.

    Args:
        targets: N x H x W; 255 has a code of its own, the last.
        codes: The value of each class in each image, N x (C + 1).
        noise: Standard deviation of what is added to each pixel.
        scale: Multiplies both.

    Returns:
        N x 1 x H x W.
    """
    ignore = codes.shape[1] - 1
    index = targets.masked_fill(targets == IGNORE, ignore)
    values = codes.gather(1, index.flatten(1)).view(targets.shape)
    if noise:
        values = values + noise * torch.randn_like(values)
    return (scale * values)[:, None]


def fixed_codes(num_classes: int, step: float = 0.1) -> Tensor:
    """Values of C classes and of what is ignored: C + 1 steps around 0.

    Examples:
        >>> voc = fixed_codes(21)
        >>> len(voc), round(voc[0].item(), 6), round(voc[-1].item(), 6)
        (22, -1.1, 1.0)
    """
    count = num_classes + 1
    return step * (torch.arange(count) - count // 2).float()


class LabelConv(nn.Conv2d):
    """A convolution that takes one channel more, whose weights are apart.

    Weights of the image's channels keep their name and shape, so that pretrained ones
    load.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            bias=conv.bias is not None,
        )
        # 0.1 N(0, 1): authors' models/base_models/resnet.py
        first = 0.1 * torch.randn(conv.out_channels, 1, *conv.kernel_size)
        self.label_weight = nn.Parameter(first)

    def forward(self, x: Tensor) -> Tensor:
        """N x (in + 1) x H x W -> N x out x ..."""
        weight = torch.cat([self.weight, self.label_weight], 1)
        return self._conv_forward(x, weight, self.bias)


def add_label_channel(backbone: nn.Module) -> None:
    """Let the first convolution of a network take one channel more.

    Raises:
        UserError: It is none that images go into.
    """
    convolutions = (
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d)
    )
    name, first = next(convolutions, ("", None))
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise UserError(
            f"LAD finds no first convolution of 3 channels in "
            f"{type(backbone).__name__}.",
            "Take a convolutional backbone for colour images.",
        )
    parent, _, last = name.rpartition(".")
    backbone.get_submodule(parent)._modules[last] = LabelConv(first)
