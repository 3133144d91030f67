"""The hd networks: their sizes, how they start, and that all of their weights learn."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.hd import LAYOUTS, HalfSide, HdDecoder, HdEncoder

META = torch.device("meta")  # shapes without numbers


def new_networks(network: str) -> tuple[HdEncoder, HdDecoder]:
    torch.manual_seed(3)
    return HdEncoder(LAYOUTS[network]), HdDecoder(LAYOUTS[network])


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "side", "features"), [("hd128", 128, (256, 8)), ("hd192", 192, (384, 6)), ("hd256", 256, (256, 8))]
)
def test_features_and_pictures_have_the_sizes_of_the_layout(network: str, side: int, features: tuple[int, int]) -> None:
    with META:
        encoder, decoder = HdEncoder(LAYOUTS[network]), HdDecoder(LAYOUTS[network])
        encoded = encoder(torch.empty(3, 3, side, side))
        drawn = decoder(encoded)
    channels, smallest = features
    assert LAYOUTS[network].picture_px == side
    assert encoded.shape == (3, channels, smallest, smallest)
    assert drawn.shape == (3, 4, side, side)


def test_the_work_and_the_weights_of_hd128_are_as_its_page_says() -> None:
    with META:
        encoder, decoder = HdEncoder(LAYOUTS["hd128"]), HdDecoder(LAYOUTS["hd128"])
        picture = torch.empty(1, 3, 128, 128)
        with FlopCounterMode(display=False) as forward:
            drawn = decoder(encoder(picture))
        with FlopCounterMode(display=False) as backward:
            drawn.sum().backward()
    both = forward.get_total_flops() + backward.get_total_flops()
    assert forward.get_total_flops() / 2e9 == pytest.approx(1.2, abs=0.05)
    assert both / 1e9 == pytest.approx(7.2, abs=0.05)
    assert parameter_count(encoder) / 1e6 == pytest.approx(18.4, abs=0.05)
    assert parameter_count(decoder) / 1e6 == pytest.approx(3.7, abs=0.05)


def test_colours_and_masks_lie_in_0_to_1_whatever_is_drawn_from() -> None:
    _, decoder = new_networks("hd128")
    with torch.inference_mode():
        drawn = decoder(torch.randn(2, 256, 8, 8) * 5000)
    assert drawn.dtype == torch.float32
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() <= 1


@pytest.mark.parametrize("network", LAYOUTS)
def test_what_tells_pictures_apart_reaches_the_other_end_from_the_start(network: str) -> None:
    encoder, decoder = new_networks(network)
    pictures = torch.rand(3, 3, LAYOUTS[network].picture_px, LAYOUTS[network].picture_px)
    with torch.no_grad():
        encoded = encoder(pictures)
        drawn = decoder(encoded)
    assert 0.1 < encoded.std() < 10
    assert drawn.std(dim=0).mean() > 0.02 * pictures.std(dim=0).mean()
    assert 0.02 < drawn.std() < 0.3, "neither grey nor black and white"


@pytest.mark.parametrize("network", LAYOUTS)
def test_the_decoder_starts_without_a_checkerboard(network: str) -> None:
    """The four px that a pixel shuffle makes of one are alike, each time."""
    _, decoder = new_networks(network)
    spreads = list[float]()

    def measure(_layer: nn.Module, _inputs: object, shuffled: torch.Tensor) -> None:
        blocks = shuffled.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        spreads.append(float((blocks.amax(dim=4) - blocks.amin(dim=4)).max() / shuffled.std()))

    for layer in decoder.modules():
        if isinstance(layer, nn.PixelShuffle):
            layer.register_forward_hook(measure)
    layout = LAYOUTS[network]
    with torch.no_grad():
        decoder(torch.rand(1, layout.decoder[0], layout.smallest_px, layout.smallest_px))
    assert len(spreads) == len(layout.decoder)
    assert max(spreads) < 1e-4


@pytest.mark.parametrize("channels", [slice(0, 3), slice(3, 4)], ids=["colours", "mask"])
def test_colours_and_mask_each_teach_all_weights(channels: slice) -> None:
    encoder, decoder = new_networks("hd128")
    drawn = decoder(encoder(torch.rand(2, 3, 128, 128)))[:, channels]
    (drawn * torch.rand_like(drawn)).mean().backward()
    for network in (encoder, decoder):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_squares_become_channels_in_torchs_order(layout: torch.memory_format) -> None:
    pictures = torch.rand(2, 3, 6, 10, generator=torch.Generator().manual_seed(3)).contiguous(memory_format=layout)
    assert torch.equal(HalfSide()(pictures), torch.nn.PixelUnshuffle(2)(pictures))
