import pytest
import torch
from torch import nn

from models.autoencoder import Decoder, Encoder
from models.hd import LAYOUTS, HdDecoder, HdEncoder
from models.winograd import FOUR, TWO, Scheme, WinogradConv2d, use_winograd


@pytest.mark.parametrize("scheme", [TWO, FOUR], ids=["two", "four"])
@pytest.mark.parametrize(("height", "width", "count"), [(4, 4, 1), (8, 16, 3), (12, 4, 2), (6, 7, 2)])
def test_it_is_the_convolution(scheme: Scheme, height: int, width: int, count: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        convolution = nn.Conv2d(5, 7, 3, padding=1)
        pictures = torch.randn(count, 5, height, width)
    with torch.no_grad():
        expected = convolution.double()(pictures.double())
        made = WinogradConv2d(convolution.float(), scheme)(pictures)
    torch.testing.assert_close(made.double(), expected, atol=2e-5, rtol=0)


def test_faster_networks_make_the_same_and_leave_the_others_as_they_were() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder, decoder, pictures = Encoder(), Decoder(), torch.rand(2, 3, 64, 64)
    before = [tensor.clone() for network in (encoder, decoder) for tensor in network.state_dict().values()]
    quick_encoder, quick_decoder = use_winograd(encoder), use_winograd(decoder)
    assert sum(isinstance(part, WinogradConv2d) for part in quick_encoder.modules()) == 1
    assert sum(isinstance(part, WinogradConv2d) for part in quick_decoder.modules()) == 2
    with torch.inference_mode():
        made, expected = quick_decoder(quick_encoder(pictures)), decoder(encoder(pictures))
    assert float((made - expected).abs().max()) < 0.01 / 255
    assert expected.std() > 0.01
    after = [tensor for network in (encoder, decoder) for tensor in network.state_dict().values()]
    assert all(torch.equal(tensor, old) for tensor, old in zip(after, before, strict=True))


@pytest.mark.parametrize(("network", "replaced"), [("hd128", (2, 4)), ("hd192", (2, 6)), ("hd256", (2, 6))])
def test_hd_networks_make_the_same_and_keep_strided_and_1_by_1_convolutions(
    network: str, replaced: tuple[int, int]
) -> None:
    layout = LAYOUTS[network]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder, decoder = HdEncoder(layout), HdDecoder(layout)
        pictures = torch.rand(2, 3, layout.picture_px, layout.picture_px)
    quick_encoder, quick_decoder = use_winograd(encoder), use_winograd(decoder)
    for quick, count in zip((quick_encoder, quick_decoder), replaced, strict=True):
        assert sum(isinstance(part, WinogradConv2d) for part in quick.modules()) == count
    kept = [part for part in quick_encoder.modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]
    assert len(kept) == len(layout.encoder) - 1
    kept = [part for part in quick_decoder.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)]
    assert len(kept) == len(layout.decoder) - 1
    with torch.inference_mode():
        made, expected = quick_decoder(quick_encoder(pictures)), decoder(encoder(pictures))
    assert float((made - expected).abs().max()) < 1e-4
    assert expected.std() > 0.01


def test_other_convolutions_are_refused() -> None:
    with pytest.raises(AssertionError):
        WinogradConv2d(nn.Conv2d(5, 7, 5, padding=2), FOUR)
