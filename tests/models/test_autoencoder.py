"""The networks: names, sizes, and what they compute, held against the same written out plainly."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.autoencoder import Decoder, Encoder

META = torch.device("meta")  # shapes without numbers


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def output_shapes(network: nn.Module, picture: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Run a picture through and note what each layer gives."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, layer: nn.Module) -> None:
        layer.register_forward_hook(lambda _layer, _given, made: shapes.update({name: tuple(made.shape)}))

    for name, layer in network.named_children():
        note(name, layer)
    shapes["all"] = tuple(network(picture).shape)
    return shapes


@pytest.mark.parametrize(("sizes", "count"), [((32, 1024), 40_943_424), ((128, 1024), 69_662_976)])
def test_an_encoder_has_the_reference_tools_parameters(sizes: tuple[int, int], count: int) -> None:
    with META:
        assert parameter_count(Encoder(*sizes)) == count


def test_a_decoder_has_the_reference_tools_parameters() -> None:
    with META:
        assert parameter_count(Decoder()) == 6_199_747


def test_encoder_tensors_have_the_reference_tools_names_and_sizes() -> None:
    with META:
        tensors = Encoder(24, 100).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "conv1.0.weight": (24, 3, 5, 5),
        "conv1.0.bias": (24,),
        "conv2.0.weight": (48, 24, 5, 5),
        "conv2.0.bias": (48,),
        "conv3.0.weight": (96, 48, 5, 5),
        "conv3.0.bias": (96,),
        "conv4.0.weight": (192, 96, 5, 5),
        "conv4.0.bias": (192,),
        "linear1.weight": (100, 192 * 4 * 4),
        "linear1.bias": (100,),
        "linear2.weight": (16384, 100),
        "linear2.bias": (16384,),
        "upscale.0.weight": (2048, 1024, 3, 3),
        "upscale.0.bias": (2048,),
    }


def test_decoder_tensors_have_the_reference_tools_names_and_sizes() -> None:
    with META:
        tensors = Decoder().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "upscale1.0.weight": (1024, 512, 3, 3),
        "upscale1.0.bias": (1024,),
        "upscale2.0.weight": (512, 256, 3, 3),
        "upscale2.0.bias": (512,),
        "upscale3.0.weight": (256, 128, 3, 3),
        "upscale3.0.bias": (256,),
        "conv.weight": (3, 64, 5, 5),
        "conv.bias": (3,),
    }


def test_every_encoder_layer_gives_what_the_next_expects() -> None:
    with META:
        shapes = output_shapes(Encoder(24, 100), torch.empty(3, 3, 64, 64))
    assert shapes == {
        "conv1": (3, 24, 32, 32),
        "conv2": (3, 48, 16, 16),
        "conv3": (3, 96, 8, 8),
        "conv4": (3, 192, 4, 4),
        "linear1": (3, 100),
        "linear2": (3, 16384),
        "upscale": (3, 512, 8, 8),
        "all": (3, 512, 8, 8),
    }


def test_every_decoder_layer_doubles_the_picture() -> None:
    with META:
        shapes = output_shapes(Decoder(), torch.empty(3, 512, 8, 8))
    assert shapes == {
        "upscale1": (3, 256, 16, 16),
        "upscale2": (3, 128, 32, 32),
        "conv": (3, 3, 64, 64),
        "all": (3, 3, 64, 64),
    }


def leak_plainly(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values > 0, values, 0.1 * values)


def upscale_plainly(picture: torch.Tensor, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Convolve, leak, and put each pixel's groups of four channels in its four places."""
    wide = functional.conv2d(picture, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"], padding=1)
    wide = leak_plainly(wide)
    count, channels, height, width = wide.shape
    made = torch.empty(count, channels // 4, 2 * height, 2 * width)
    for place in range(4):
        made[:, :, place // 2 :: 2, place % 2 :: 2] = wide[:, place::4]
    return made


def encode_plainly(tensors: dict[str, torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    for name in ("conv1", "conv2", "conv3", "conv4"):
        weight, bias = tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"]
        picture = leak_plainly(functional.conv2d(functional.pad(picture, (2, 2, 2, 2)), weight, bias, stride=2))
    code = picture.reshape(len(picture), -1) @ tensors["linear1.weight"].T + tensors["linear1.bias"]
    code = code @ tensors["linear2.weight"].T + tensors["linear2.bias"]
    return upscale_plainly(code.reshape(-1, 1024, 4, 4), tensors, "upscale")


def decode_plainly(tensors: dict[str, torch.Tensor], encoded: torch.Tensor) -> torch.Tensor:
    for name in ("upscale1", "upscale2", "upscale3"):
        encoded = upscale_plainly(encoded, tensors, name)
    made = functional.conv2d(encoded, tensors["conv.weight"], tensors["conv.bias"], padding=2)
    return 1 / (1 + torch.exp(-made))


@torch.no_grad()
def make_livelier(network: nn.Module) -> nn.Module:
    """Enlarge fresh weights, so that what goes in is still to be seen in what comes out."""
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            parameter.mul_(2.5)
    return network


@torch.inference_mode()
def test_the_encoder_computes_what_is_written_out_here() -> None:
    torch.manual_seed(5)
    encoder = make_livelier(Encoder(8, 64))
    made = encoder(pictures := torch.rand(2, 3, 64, 64))
    assert (made[0] - made[1]).std() > 0.1 * made.std(), "the codes must tell the pictures apart"
    expected = encode_plainly(encoder.state_dict(), pictures)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4 * float(made.std()))


@torch.inference_mode()
def test_the_decoder_computes_what_is_written_out_here() -> None:
    torch.manual_seed(6)
    decoder = make_livelier(Decoder())
    made = decoder(encoded := torch.randn(2, 512, 8, 8))
    assert made.std() > 0.05
    assert (made[0] - made[1]).std() > 0.05
    torch.testing.assert_close(made, decode_plainly(decoder.state_dict(), encoded), rtol=0, atol=1e-4)


def test_networks_learn_as_those_written_out_here_would() -> None:
    """Two of the convolutions are computed in other ways than they are defined: their gradients must be the same."""
    torch.manual_seed(8)
    encoder, decoder = Encoder(8, 64), Decoder()
    pictures, wanted = torch.rand(2, 2, 3, 64, 64)
    named = {f"{id(network)}.{name}": p for network in (encoder, decoder) for name, p in network.named_parameters()}
    plain = [
        {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
        for network in (encoder, decoder)
    ]
    ours = functional.l1_loss(decoder(encoder(pictures)), wanted)
    theirs = functional.l1_loss(decode_plainly(plain[1], encode_plainly(plain[0], pictures)), wanted)
    found = torch.autograd.grad(ours, list(named.values()))
    expected = torch.autograd.grad(theirs, [p for tensors in plain for p in tensors.values()])
    for name, ours_of, theirs_of in zip(named, found, expected, strict=True):
        torch.testing.assert_close(ours_of, theirs_of, rtol=1e-3, atol=1e-3 * float(theirs_of.abs().max()), msg=name)


@torch.inference_mode()
def test_what_a_decoder_makes_are_pictures_whatever_it_is_given() -> None:
    torch.manual_seed(7)
    made = Decoder()(torch.randn(2, 512, 8, 8) * 5000)
    assert (made.shape, made.dtype) == ((2, 3, 64, 64), torch.float32)
    assert 0 <= made.min() < 0.01
    assert 0.99 < made.max() <= 1


def test_the_sizes_of_an_encoder_are_known() -> None:
    with META:
        encoder = Encoder(init_dim=24, code_dim=100)
    assert (encoder.init_dim, encoder.code_dim) == (24, 100)


def test_what_tells_pictures_apart_reaches_the_other_end_from_the_start() -> None:
    torch.manual_seed(3)
    pictures = torch.rand(8, 3, 64, 64)
    with torch.no_grad():
        drawn = Decoder()(Encoder()(pictures))
    assert drawn.std(dim=0).mean() > 0.05 * pictures.std(dim=0).mean()  # with PyTorch's own start: 0.00002


def test_an_upscale_starts_without_a_checkerboard() -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        drawn = Decoder().upscale1(torch.rand(1, 512, 8, 8))
    blocks = drawn.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert (blocks.amax(dim=4) - blocks.amin(dim=4)).max() < 1e-4 * drawn.std()  # sums of 4608 terms
    assert drawn.std() > 0.1
