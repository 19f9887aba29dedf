"""FedLabel: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """FedLabel on unlabelled images, most of which are kept."""
    network = dict(
        type="pld_mmdet.SmallConvNet", in_channels=3, widths=(64, 128, 256, 384)
    )
    beta = 0.5
    model = build("FedLabel", network=network, beta=beta)
    with torch.no_grad():  # sharper than random weights, so that labels pass
        model.student.fc.weight.mul_(400)
    model.start_client(0, 0)
    with torch.no_grad():  # a client that has learned differs from the server
        for weight in model.student.parameters():
            weight.mul_(1 + 0.1 * torch.randn_like(weight))
    twin = copy.deepcopy(model)
    weak = torch.randn(16, 3, 32, 32)
    strong, y = weak + 0.2 * torch.randn_like(weak), torch.arange(16) % 10
    client, server = twin.student, twin._global[0].network

    def mathematics() -> Tensor:
        with torch.no_grad():
            client.eval()
            p_l, p_g = client(weak).softmax(1), server(weak).softmax(1)
            client.train()
            h_l, h_g = p_l.var(1, correction=0), p_g.var(1, correction=0)
            local = (h_l >= h_g)[:, None]
            chosen, other = torch.where(local, p_l, p_g), torch.where(local, p_g, p_l)
            sure, label = chosen.max(1)
            lam = torch.minimum(h_l, h_g) / torch.maximum(h_l, h_g)
            lam = lam * (other.argmax(1) == label)
            kept = sure >= beta
        log_p = client(strong[kept]).log_softmax(1)
        kl = F.kl_div(log_p, other[kept], reduction="none").sum(1)
        return F.nll_loss(log_p, label[kept]) + (lam[kept] * kl).mean()

    batch = dict(branch="unlabelled", inputs=weak, strong=strong, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("FedLabel", "16 images of 32 x 32", model, twin, *sides)
