"""What configs of diffusion write again and again, as functions of plain data."""


def unet(
    size: int,
    channels: tuple[int, int],
    widths: tuple[int, ...],
    layers: int,
    attention: tuple[int, ...],
    **more,
) -> dict:
    """diffusers' U-Net; its way up mirrors its way down.

    Args:
        size: Side of an image.
        channels: Of what it reads and of what it says.
        widths: Of its levels, from the outside in.
        layers: Blocks of a level.
        attention: Levels whose blocks attend.
        more: Other entries.
    """
    kinds = ["Attn" * (level in attention) for level in range(len(widths))]
    return dict(
        type="pld_mmdet.DiffusersUNet",
        sample_size=size,
        in_channels=channels[0],
        out_channels=channels[1],
        block_out_channels=widths,
        layers_per_block=layers,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        **more,
    )
