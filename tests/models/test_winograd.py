import pytest
import torch
from torch import nn

from models.autoencoder import Decoder
from models.winograd import WinogradConv2d, faster


@pytest.mark.parametrize(("height", "width", "count"), [(4, 4, 1), (8, 16, 3), (12, 4, 2)])
def test_it_is_the_convolution(height: int, width: int, count: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        convolution = nn.Conv2d(5, 7, 3, padding=1)
        pictures = torch.randn(count, 5, height, width)
    with torch.no_grad():
        expected = convolution.double()(pictures.double())
        made = WinogradConv2d(convolution.float())(pictures)
    torch.testing.assert_close(made.double(), expected, atol=2e-5, rtol=0)


def test_a_faster_decoder_draws_the_same_and_leaves_the_other_as_it_was() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        decoder, encoded = Decoder(), torch.randn(2, 512, 8, 8)
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    with torch.inference_mode():
        made, expected = faster(decoder)(encoded), decoder(encoded)
    assert float((made - expected).abs().max()) < 0.01 / 255
    assert expected.std() > 0.01
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


def test_other_convolutions_are_refused() -> None:
    with pytest.raises(AssertionError):
        WinogradConv2d(nn.Conv2d(5, 7, 5, padding=2))
