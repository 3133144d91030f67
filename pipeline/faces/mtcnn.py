"""MTCNN's three networks (Zhang et al. 2016, arXiv:1604.02878), with the weights that come inside facenet-pytorch.

On the CPU ONNX Runtime runs them: it loads in a tenth of torch's time, and takes half of it for small pictures. The
graphs are built here from the weights, whose files are read without torch. On other devices facenet-pytorch's own
networks run. Both take (N, H, W, 3) BGR uint8 pictures of one size and return float32 arrays.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pipeline.runtime import package_file
from pipeline.types import Image

Weights = dict[str, npt.NDArray[np.float32]]
Network = Callable[[Sequence[Image]], list[npt.NDArray[np.float32]]]

MEAN, SPREAD = 127.5, 128.0  # what the networks were trained with
OPSET, IR_VERSION = 17, 8  # understood by every ONNX Runtime since 1.14
KEPT_SAMPLES = 6_000_000  # ONNX Runtime frees its memory after larger inputs; 4K's pyramid needs 2 million


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes:
        name: of the weights' file and, in facenet-pytorch, of the class.
        body: layers in order; ``max3`` is max pooling over 3 px with a stride of 2, ``flat`` flattens each picture.
        heads: layers that each give an output; the last one's are probabilities.
    """

    name: str
    body: str
    heads: str


P_NET = Architecture("PNet", "conv1 prelu1 max2 conv2 prelu2 conv3 prelu3", "conv4_2 conv4_1")
R_NET = Architecture("RNet", "conv1 prelu1 max3 conv2 prelu2 max3 conv3 prelu3 flat dense4 prelu4", "dense5_2 dense5_1")
O_NET = Architecture(
    "ONet",
    "conv1 prelu1 max3 conv2 prelu2 max3 conv3 prelu3 max2 conv4 prelu4 flat dense5 prelu5",
    "dense6_2 dense6_3 dense6_1",
)


def load_networks(device: str, threads: int) -> tuple[Network, Network, Network]:
    """Load P-Net, R-Net and O-Net; ``threads`` are those of each call on the CPU.

    Returns:
        P-Net gives moves (N, 4, h, w) and scores (N, 2, h, w), R-Net moves (N, 4) and scores (N, 2), O-Net moves,
        points (N, 10) and scores.
    """
    p_net, r_net, o_net = (
        load_with_onnx(architecture, threads) if device == "cpu" else load_with_torch(architecture, device)
        for architecture in (P_NET, R_NET, O_NET)
    )
    return p_net, r_net, o_net


def load_with_onnx(architecture: Architecture, threads: int) -> Network:
    """Load a network that ONNX Runtime runs on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    graph = build_graph(architecture, read_weights(weights_file(architecture)))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    free_memory = onnxruntime.RunOptions()
    free_memory.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(pictures: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
        batch = np.stack(pictures)
        outputs: list[npt.NDArray[np.float32]]
        outputs = session.run(None, {"pictures": batch}, free_memory if batch.size > KEPT_SAMPLES else None)
        return outputs

    return run


def load_with_torch(architecture: Architecture, device: str) -> Network:
    """Load a network that torch runs."""
    import torch  # noqa: PLC0415 - takes seconds to load, and is not needed on the CPU
    from facenet_pytorch.models import mtcnn  # noqa: PLC0415

    network = getattr(mtcnn, architecture.name)().to(device).eval()

    def run(pictures: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
        with torch.inference_mode():
            bgr = torch.from_numpy(np.stack(pictures)).to(device)
            outputs = network((bgr.flip(3).permute(0, 3, 1, 2).float() - MEAN) / SPREAD)
        return [output.cpu().numpy() for output in outputs]

    return run


def weights_file(architecture: Architecture) -> Path:
    """Find the file of a network's weights."""
    return package_file("facenet_pytorch", f"data/{architecture.name.lower()}.pt")


def build_graph(architecture: Architecture, weights: Weights) -> bytes:
    """Build a network as a serialized ONNX model whose input is ``pictures``, (N, H, W, 3) BGR uint8."""
    weights = weights | {"conv1.weight": weights["conv1.weight"][:, ::-1].copy()}  # trained on RGB
    constants: Weights = {"mean": np.array([MEAN], np.float32), "spread": np.array([SPREAD], np.float32)}
    nodes = [
        helper.make_node("Cast", ["pictures"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["body"], perm=[0, 3, 1, 2]),
    ]
    source = "body"
    for number, layer in enumerate(architecture.body.split()):
        nodes += _make_layer(layer, source, f"body{number}", weights, constants)
        source = f"body{number}"
    heads = architecture.heads.split()
    for head in heads:
        nodes += _make_layer(head, source, head, weights, constants)
    nodes.append(helper.make_node("Softmax", [heads[-1]], ["scores"], axis=1))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*heads[:-1], "scores")]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", "H", "W", 3])
    stored = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, architecture.name, [pictures], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    serialized: bytes = model.SerializeToString()
    return serialized


def _make_layer(layer: str, source: str, target: str, weights: Weights, constants: Weights) -> list[onnx.NodeProto]:
    """Make the nodes of one layer, and add its weights to the constants."""
    if layer == "flat":  # facenet-pytorch's order: width, height, channels
        transpose = helper.make_node("Transpose", [source], [f"{target}_transposed"], perm=[0, 3, 2, 1])
        return [transpose, helper.make_node("Flatten", [f"{target}_transposed"], [target], axis=1)]
    if layer.startswith("max"):
        side = int(layer.removeprefix("max"))
        return [helper.make_node("MaxPool", [source], [target], kernel_shape=[side, side], strides=[2, 2], ceil_mode=1)]
    weight = weights[f"{layer}.weight"]
    if layer.startswith("prelu"):
        is_picture = f"dense{layer.removeprefix('prelu')}.weight" not in weights
        constants[layer] = weight[:, None, None] if is_picture else weight
        return [helper.make_node("PRelu", [source, layer], [target])]
    constants[f"{layer}.weight"], constants[f"{layer}.bias"] = weight, weights[f"{layer}.bias"]
    inputs = [source, f"{layer}.weight", f"{layer}.bias"]
    if layer.startswith("conv"):
        return [helper.make_node("Conv", inputs, [target])]
    return [helper.make_node("Gemm", inputs, [target], transB=1)]


def read_weights(path: Path) -> Weights:
    """Read the tensors of a file in torch's old format, without torch and without running code from the file.

    It holds five pickles: a number, a version, facts of the machine, the dictionary of tensors, and the keys of their
    storages. Then come the storages, each its count of numbers and the numbers (torch/serialization.py,
    ``_legacy_load``).

    Raises:
        pickle.UnpicklingError: it holds something else.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        tensors = _Unpickler(file).load()
        storages = {}
        for key in _Unpickler(file).load():
            count = int.from_bytes(file.read(8), "little")
            storages[key] = file.read(4 * count)
    weights = {}
    for name, (key, offset, shape, strides) in tensors.items():  # offset and strides count numbers
        bytes_apart = [4 * stride for stride in strides]
        weights[name] = np.ascontiguousarray(np.ndarray(shape, "<f4", storages[key], 4 * offset, bytes_apart))
    return weights


class _Unpickler(pickle.Unpickler):
    """Reads plain values; a tensor becomes (key of its storage, offset, shape, strides)."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): "float32",
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: arguments[:4],
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> str:
        return str(pid[2])  # the key of a storage that comes later
