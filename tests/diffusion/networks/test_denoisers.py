"""What denoisers are told, and data of other classes than a model's."""

from types import SimpleNamespace

import pytest
import torch

from pld_mmdet.diffusion.networks.denoisers import DiffusersUNet, check_classes
from pld_mmdet.diffusion.networks.text import TextUNet, waves
from pld_mmdet.engine.data.seeding import SeededDataset
from pld_mmdet.errors import UserError

UNET = dict(
    sample_size=8,
    in_channels=2,
    out_channels=2,
    block_out_channels=(4, 8),
    layers_per_block=1,
    norm_num_groups=2,
)


def test_the_unet_is_told_the_classes():
    torch.manual_seed(0)
    blocks = ("DownBlock2D",) * 2, ("UpBlock2D",) * 2
    network = DiffusersUNet(
        **UNET, down_block_types=blocks[0], up_block_types=blocks[1], num_class_embeds=5
    )
    x, t, labels = torch.randn(3, 2, 8, 8), torch.tensor([1.0, 5, 9]), torch.arange(3)
    with torch.no_grad():
        found = network(x, t, labels)
        for k, label in enumerate((0, 1, 2)):
            own = network.unet(x[k : k + 1], t[k : k + 1], torch.tensor([label])).sample
            torch.testing.assert_close(found[k : k + 1], own, atol=1e-5, rtol=1e-4)
        others = network(x, t, labels + 1)
    assert ((found - others).flatten(1).abs().amax(1) > 1e-4).all()


def test_the_text_unet_is_told_words_and_guidance():
    torch.manual_seed(0)
    network = TextUNet(
        guidance_dim=8,
        **UNET,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=6,
    )
    torch.nn.init.normal_(network.unet.time_embedding.cond_proj.weight)
    x, t = torch.randn(2, 2, 8, 8), torch.tensor([1.0, 9])
    words, w = torch.randn(2, 3, 6), torch.tensor([5.0, 9.0])
    with torch.no_grad():
        found = network(x, t, (words, w))
        own = network.unet(x, t, words, timestep_cond=waves(w, 8)).sample
        torch.testing.assert_close(found, own)
        for other in ((words, w + 1), words, (words.flip(0), w)):
            assert (found - network(x, t, other)).abs().max() > 1e-4


class Folder(list):
    metainfo = {"classes": ("cat", "dog")}


def test_data_of_other_classes_are_refused():
    owner = SimpleNamespace(num_classes=1000)
    what = r"model\.num_classes is 1000, .* 2 classes \(cat, dog\)"
    for data in (Folder(), SeededDataset(Folder())):
        with pytest.raises(UserError, match=what):
            check_classes(owner, data)
        check_classes(SimpleNamespace(num_classes=2), data)
        check_classes(SimpleNamespace(num_classes=0), data)
    check_classes(owner, [])  # says nothing of its classes
    many = Folder()
    many.metainfo = {"classes": tuple("abcdefg")}
    with pytest.raises(UserError, match=r"7 classes \(a, b, c, d, e, \.\.\.\)"):
        check_classes(owner, many)
