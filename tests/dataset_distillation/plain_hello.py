"""HeLlO: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """The student's step on whole images, labels by an encoder with increments."""
    model = build(
        "HeLlO",
        student=conv_net(64, 128, 256, 512),
        teacher=conv_net(16),
        projector=dict(
            type="pld_mmdet.LabelProjector", encoder=conv_net(16, 32), text_rank=2
        ),
        image_shape=(3, 32, 32),
        num_classes=10,
        ipc=1,
        weak=1,
        area=(1.0, 1.0),
    )
    for parameter in model.projector.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    twin = copy.deepcopy(model)
    x, y = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    batch = dict(inputs=x, targets=torch.zeros(32, 0), classes=y)
    first, norm, _, second, last, *_ = twin.projector.encoder.backbone
    text = twin.projector.text

    def layer(x: Tensor, made, stride: int) -> Tensor:
        kernel = made.layer.weight + torch.einsum(
            "or,rikl->oikl", made.up.weight[..., 0, 0], made.down.weight
        )
        return F.conv2d(x, kernel, None, stride, 1)

    def mathematics() -> Tensor:
        draw = torch.rand(32, 4)
        ratio = (draw[:, 1] * 2 - 1) * 0.2876820724517809
        wide, tall = (half.exp().sqrt().clamp(max=1) for half in (ratio, -ratio))
        theta = torch.zeros(32, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = wide, tall
        theta[:, 0, 2] = (1 - wide) * (2 * draw[:, 2] - 1)
        theta[:, 1, 2] = (1 - tall) * (2 * draw[:, 3] - 1)
        grid = F.affine_grid(theta, [32, 3, 32, 32], align_corners=False)
        view = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        flip = torch.rand(32, 1, 1, 1) < 0.5
        view = torch.where(flip, view.flip(-1), view)
        with torch.no_grad():
            seen = norm(layer(view, first, 1)).relu()
            seen = last(layer(seen, second, 2)).relu().mean((2, 3))
            words = text.layer.weight + text.up.weight @ text.down.weight
            soft = 100 * F.normalize(seen, dim=1) @ words.T
        z = twin.student(view)
        return F.mse_loss(z, soft) + 0.1 * F.cross_entropy(z, y)

    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("HeLlO", "32 images of 32 x 32", model, twin, *sides)
