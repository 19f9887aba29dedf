"""HeLlO: distilled images with a small generator of labels instead of the labels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.folders import eight_bits, write_distilled
from pld_mmdet.dataset_distillation.data.real import medium_images
from pld_mmdet.dataset_distillation.networks.label_generator import PREFIX
from pld_mmdet.dataset_distillation.networks.low_rank import increments
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import mirrored, resized_crop

_PART = 64  # images that are updated together


def projector_loss(
    logits: Tensor, soft: Tensor, targets: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """What trains the label generator: MSE to logits, and the labels.

    Args:
        logits: [N, K] of the generator.
        soft: [N, K] of the weak teachers, constants.
        targets: [N] labels.
        weight: lambda, of the cross-entropy.

    Returns:
        The mean over N K of the squared difference; weight times cross-entropy.
    """
    return (
        F.mse_loss(logits.float(), soft.float()),
        weight * F.cross_entropy(logits, targets),
    )


@MODELS.register_module()
class HeLlO(Method):
    r"""Label space lightening (Yu et al. 2024, arXiv 2408.08201).

    ::

        projector  f = LabelProjector, of real images: MSE(f(x), y') + lambda CE(f, y)
                   y' = mean logits of weak teachers, checkpoints along one training
        images     the easiest real patches by the teachers' cross-entropy, tiled; then
                   argmin MSE(E(p), E(up(down(p)))) for each patch p, E frozen
        student    MSE(z(v), f(v)) + beta CE(z(v), y), v a new view at every step: the
                   same for both, and no label is stored

    Stages of ``StagedLoop``: ``foundation`` (an encoder that stands in for CLIP learns
    other data; left out where it comes with weights), ``teacher``, ``projector``,
    ``images``, ``student``. The folder ``distilled`` of the student's stage holds the
    images and the increments.

    No code was released; from the abstract, the reviews and a public note. Not stated
    there and chosen here: the weak teachers' logits are averaged; lambda 1, beta 0.1;
    down and up by 2, bilinear; views are resized crops and flips; CLIP's scale. A patch
    is a whole image (RDED, whose way is named there, takes crops), made small in tiles.

    Args:
        student: Config of a network, N x ... -> N x K logits.
        teacher: Config of the network whose checkpoints are the weak teachers.
        projector: Config of ``LabelProjector``.
        image_shape: C, H, W.
        num_classes: K.
        ipc: Images of a class [10].
        weak: Checkpoints along the teacher's stage, at even distances [9, the note].
        tiles: A side of an image has so many patches [1; ImageNet 2, unconfirmed].
        labels: ``online``: f of every view. ``stored``: f of each image, once.
            ``hard``: the classes alone.
        ce_weight: lambda [1, ours].
        hard_weight: beta [0.1, ours].
        area: Of the views [0.25 to 1, ours].
        mean: That the data set subtracted, by channel; stored images are raw [0].
        std: That it divided by [1].
        predict_on: ``student``, ``projector`` or ``teacher`` (the weak ones' mean).

    Raises:
        UserError: Unknown words, or no weak teacher.
    """

    default_stage = "student"
    work = {"images": "real images with labels"}

    def __init__(
        self,
        student: dict,
        teacher: dict,
        projector: dict,
        image_shape: tuple[int, int, int],
        num_classes: int,
        ipc: int = 10,
        weak: int = 9,
        tiles: int = 1,
        labels: str = "online",
        ce_weight: float = 1.0,
        hard_weight: float = 0.1,
        area: tuple[float, float] = (0.25, 1.0),
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "HeLlO",
            labels=(labels, ("online", "stored", "hard")),
            predict_on=(predict_on, ("student", "projector", "teacher")),
        )
        if weak < 1:
            raise UserError("HeLlO: there is no weak teacher.", "Set model.weak to 1.")
        self.student = MODELS.build(student)
        self.weak = nn.ModuleList(MODELS.build(teacher) for _ in range(weak))
        self.projector = MODELS.build({**projector, "num_classes": num_classes})
        # in parts that are updated in turn: an optimizer's momentum moves no other part
        self.images = nn.ParameterList(
            nn.Parameter(torch.zeros(len(part), *image_shape))
            for part in torch.arange(ipc * num_classes).split(_PART)
        )
        self.register_buffer("dice", torch.randint(2**31, ()))
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.num_classes, self.ipc, self.tiles = num_classes, ipc, tiles
        self.labels, self.predict_on = labels, predict_on
        self.ce_weight, self.hard_weight = ce_weight, hard_weight
        self.area = tuple(area)
        self.enter_stage(self.default_stage)

    def learning(self) -> list[nn.Parameter]:
        """What this stage trains."""
        stage = self.progress.stage
        if stage == "foundation":
            return [
                p
                for name, p in self.projector.encoder.named_parameters()
                if ".down." not in name and ".up." not in name
            ]
        if stage == "projector":
            return self.projector.learning()
        parts = {"teacher": self.weak[-1], "student": self.student}
        return list(parts.get(stage, self.images).parameters())

    def enter_stage(self, name: str) -> None:
        """Only what the stage trains has gradients; the rest evaluates."""
        self.check_stage(name)
        self.progress.stage = name
        self.requires_grad_(False)
        for weight in self.learning():
            weight.requires_grad_(True)
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "HeLlO":
        """The projector always evaluates: its batch norms are the foundation's."""
        super().train(False)
        self.training = mode
        learning = {
            "foundation": self.projector.encoder,
            "teacher": self.weak[-1],
            "student": self.student,
        }
        if self.progress.stage in learning:
            learning[self.progress.stage].train(mode)
        return self

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Words before ``projector``, patches before ``images``, files at the end.

        Raises:
            UserError: A stage has no real images to work on.
        """
        self.check_work(name, loader)
        if name == "projector" and not self.projector.words.any():
            self.name_classes(loader)
        if name == "images" and not self.whole().any():
            self.choose(loader.dataset)
        if name == "student" and is_main_process():
            self.write(folder / "distilled", getattr(loader, "dataset", None))

    @torch.no_grad()
    def name_classes(self, loader: object) -> None:
        """Where the encoder knows no words, W is made of class means of its features.

        What all classes have in common is taken away: it would be an offset of all
        logits, which the squared error to a teacher's logits does not forgive.
        """
        if loader is None:  # not in `work`: weights that are loaded may bring words
            raise UserError(
                "HeLlO: the stage projector has no work_dataloader.",
                "Give it one of real images with labels, or load words.",
            )
        total = torch.zeros_like(self.projector.words)
        for batch in loader:
            x = batch["inputs"].to(total.device)
            found = F.normalize(self.projector.encoder.features(x).float(), dim=1)
            total.index_add_(0, batch["targets"].to(total.device), found)
        means = F.normalize(total, dim=1)
        self.projector.words.copy_(F.normalize(means - means.mean(0), dim=1))

    @torch.no_grad()
    def choose(self, dataset: object) -> None:
        """The easiest real patches of each class, ``tiles`` x ``tiles`` an image."""
        patches = self.tiles**2

        def hard(images: Tensor, labels: Tensor) -> Tensor:
            z = self.soft(images.to(self.dice.device))
            each = F.cross_entropy(z, labels.to(z.device), reduction="none")
            return each.cpu()

        found = medium_images(
            dataset, self.ipc * patches, self.num_classes, int(self.dice), hard, 0.0
        )
        found = _tiled(found.unflatten(0, (self.ipc, patches)), self.tiles)
        for image, chosen in zip(
            self.images, found.flatten(0, 1).split(_PART), strict=True
        ):
            image.copy_(chosen)

    def whole(self) -> Tensor:
        """All images as the networks know them, m x C x H x W."""
        return torch.cat([part.detach() for part in self.images])

    def loss_foundation(self, inputs: Tensor, targets: Tensor, **_) -> dict:
        """Cross-entropy of the encoder by its own classifier, on other data."""
        return {"loss": F.cross_entropy(self.projector.encoder(inputs), targets)}

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy; checkpoints along the way become weak teachers."""
        step, steps, count = self.progress.step, self.progress.steps, len(self.weak)
        for number in range(count - 1):
            if step == steps * (number + 1) // count:
                self.weak[number].load_state_dict(self.weak[-1].state_dict())
        return {"loss": F.cross_entropy(self.weak[-1](inputs), targets)}

    def soft(self, inputs: Tensor) -> Tensor:
        """Mean logits of the weak teachers [N, K]."""
        return torch.stack([network(inputs).float() for network in self.weak]).mean(0)

    def loss_projector(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Of real images N x C x H x W and their labels [N]."""
        with torch.no_grad():
            soft = self.soft(inputs)
        mse, ce = projector_loss(self.projector(inputs), soft, targets, self.ce_weight)
        return {"loss_mse": mse, "loss_ce": ce}

    def loss_images(self, **_) -> dict[str, Tensor]:
        """Features of each patch and of the patch made small and large again."""
        x = self.images[self.progress.step % len(self.images)]
        with torch.no_grad():  # pixels, after every step
            x.copy_(x.clamp(-self.mean / self.std, (1 - self.mean) / self.std))
        tile = x.shape[-1] // self.tiles, x.shape[-2] // self.tiles
        x = x.unfold(2, tile[1], tile[1]).unfold(3, tile[0], tile[0])
        x = x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        small = F.interpolate(x, scale_factor=0.5, mode="bilinear")
        again = F.interpolate(small, x.shape[-2:], mode="bilinear")
        encoder = self.projector.encoder
        return {"loss": F.mse_loss(encoder.features(again), encoder.features(x))}

    @torch.no_grad()
    def write(self, folder: Path, dataset: object = None) -> None:
        """Images and increments, and no labels (``stored``: f of each image)."""
        images = eight_bits(self.whole() * self.std + self.mean)
        classes = torch.arange(self.num_classes).repeat(self.ipc)
        targets = torch.zeros(len(images), 0)
        if self.labels == "stored":
            parts = images.split(256)
            targets = torch.cat(
                [self.projector((x - self.mean) / self.std) for x in parts]
            )
        kept = {}
        if self.labels == "online" and self.projector.rank:
            kept = {PREFIX + k: v for k, v in increments(self.projector)}
        about = {
            "method": "HeLlO",
            "images a class": self.ipc,
            "stored numbers": self.stored,
        }
        names = (getattr(dataset, "metainfo", None) or {}).get("classes")
        write_distilled(folder, images, targets, classes, names, about=about, **kept)
        print_log(f"The distilled set is {folder}: {about}", "current")

    @property
    def stored(self) -> int:
        """Numbers that are stored for labels, beside the classes themselves."""
        if self.labels == "hard":
            return 0
        if self.labels == "stored":
            return self.ipc * self.num_classes**2
        return sum(weight.numel() for weight in self.projector.learning())

    def loss_student(
        self, inputs: Tensor, targets: Tensor, classes: Tensor, **_
    ) -> dict[str, Tensor]:
        """Of stored images N x C x H x W in [0, 1], stored labels, classes [N]."""
        x = (mirrored(resized_crop(inputs, self.area)) - self.mean) / self.std
        z = self.student(x)
        ce = F.cross_entropy(z, classes)
        if self.labels == "hard":
            return {"loss_ce": ce}
        if self.labels == "online":
            with torch.no_grad():
                targets = self.projector(x)
        mse = F.mse_loss(z.float(), targets.float())
        return {"loss_mse": mse, "loss_ce": self.hard_weight * ce}

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [N, K] of what ``predict_on`` names."""
        if self.predict_on == "teacher":
            return self.soft(inputs)
        return getattr(self, self.predict_on)(inputs)

    def predict(self, **batch) -> list[dict]:
        """Logits beside the labels, and how many numbers the labels cost."""
        return [super().predict(**batch)[0] | {"stored": self.stored}]


def _tiled(patches: Tensor, tiles: int) -> Tensor:
    """[n, t t, K, C, H, W] -> [n, K, C, H, W], each patch made small."""
    if tiles == 1:
        return patches[:, 0]
    n, _, classes, channels, height, width = patches.shape
    size = height // tiles, width // tiles
    small = F.interpolate(
        patches.flatten(0, 2), size, mode="bilinear", antialias=True
    ).view(n, tiles, tiles, classes, channels, *size)
    return small.permute(0, 3, 4, 1, 5, 2, 6).reshape(
        n, classes, channels, tiles * size[0], tiles * size[1]
    )
