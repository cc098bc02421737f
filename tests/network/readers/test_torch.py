"""PyTorch modules: the counts of PyTorch's own flop counter, every parameter, and the user's module untouched."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import thalweg as tw  # noqa: E402
import torch_networks as networks  # noqa: E402
from thalweg.errors import InputError  # noqa: E402
from thalweg.network.graph import Kind  # noqa: E402

COUNTED = ("neurons", "parameters", "connections", "connections_inside", "macs")


def time_first_encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 96), 2, enable_nested_tensor=False)


NETWORKS = {
    "textbook": (networks.textbook, (3, 112, 112)),
    "ResNet-18": (lambda: networks.resnet(18), (3, 224, 224)),
    "ResNet-50": (networks.resnet, (3, 224, 224)),
    "ResNet-152": (lambda: networks.resnet(152), (3, 224, 224)),
    "U-Net": (networks.UNet, (3, 256, 256)),
    "ViT-B/16": (networks.VisionTransformer, (3, 224, 224)),
    "Swin": (networks.Swin, (3, 64, 64)),
    "grouped queries": (lambda: networks.Llama(100, 64, 2, 8, 2, 96), (17,)),
    "gated depthwise": (lambda: networks.MobileBlock(16, 64), (16, 14, 14)),
    "channel shuffle": (lambda: networks.ShuffleUnit(12, 3), (12, 8, 8)),
    "generator": (networks.generator, (100,)),
    "pixel shuffle": (networks.super_resolution, (1, 20, 20)),
    "waveform": (networks.waveform, (1, 400)),
    "video": (networks.video, (3, 8, 32, 32)),
    "tagger": (networks.Tagger, (12,)),
    "encoder of PyTorch": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 96), 2, enable_nested_tensor=False),
        (10, 64),
    ),
    "encoder, batch first": (lambda: nn.TransformerEncoderLayer(64, 4, 96, batch_first=True), (10, 64)),
    "GRU, time first": (lambda: nn.GRU(8, 16, 2, bidirectional=True), (9, 8)),
}
IDS = ("grouped queries", "tagger")
TIME_FIRST = ("encoder of PyTorch", "GRU, time first")


@torch.library.custom_op("thalweg_tests::likeness", mutates_args=())
def likeness(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """An operation that nobody knows."""
    return x @ y.transpose(-1, -2)


@likeness.register_fake
def _(x, y):
    return x.new_empty(*x.shape[:-1], y.shape[-2])


def on_meta(build):
    with torch.device("meta"):
        return build().eval()


def flops(module, shape, *, ids=False, time_first=False):
    """Half of what PyTorch counts on the meta device."""
    full = (shape[0], 1, *shape[1:]) if time_first else (1, *shape)
    x = torch.empty(full, dtype=torch.int64 if ids else torch.float32, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_pytorch(name):
    build, shape = NETWORKS[name]
    module = on_meta(build)
    answer = tw.size(module, shape)
    assert answer.complete
    assert answer.input == shape
    assert answer.totals.macs == flops(module, shape, ids=name in IDS, time_first=name in TIME_FIRST)
    assert answer.totals.parameters == sum(each.numel() for each in module.parameters())
    for layer in answer.layers:
        assert layer.neurons is not None
        assert "\n" not in layer.name


def test_the_table_of_the_mission_cell_by_cell():
    spec = tw.size("input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100")
    mine = tw.size(on_meta(networks.textbook), (3, 112, 112))
    assert len(mine.layers) == len(spec.layers) == 9
    for one, other in zip(mine.layers, spec.layers, strict=True):
        assert [getattr(one, each) for each in COUNTED] == [getattr(other, each) for each in COUNTED]
        assert (one.receptive_field, one.stride, one.first) == (other.receptive_field, other.stride, other.first)
        assert sorted(one.output) == sorted(other.output)
    assert mine.totals == spec.totals
    # Mission F3.2, typed in.
    assert [layer.neurons for layer in mine.layers] == [
        802_816, 200_704, 401_408, 100_352, 200_704, 200_704, 50_176, 1_024, 100,
    ]  # fmt: skip
    assert [layer.parameters for layer in mine.layers] == [
        1_792, 0, 73_856, 0, 295_168, 590_080, 0, 51_381_248, 102_500,
    ]  # fmt: skip
    assert [layer.connections for layer in mine.layers] == [
        21_676_032, 802_816, 231_211_008, 401_408, 231_211_008, 462_422_016, 200_704, 51_380_224, 102_400,
    ]  # fmt: skip
    assert (mine.layers[6].receptive_field, mine.layers[6].stride) == ((30, 30), (8, 8))


def test_llama_with_seven_billion_parameters():
    # By hand: each layer has four square matrices and three of 4096 x 11008, and two products of attention over 2048
    # tokens in both directions (a causal mask saves none of them); then the matrix to 32,000 words.
    width, hidden, tokens, depth, words = 4096, 11_008, 2048, 32, 32_000
    per_layer = tokens * (4 * width**2 + 3 * width * hidden) + 2 * tokens**2 * width
    by_hand = depth * per_layer + tokens * width * words
    assert by_hand == 14_630_806_093_824
    answer = tw.size(on_meta(networks.Llama), (tokens,))
    assert answer.totals.macs == by_hand
    assert (
        answer.totals.parameters == 2 * words * width + depth * (4 * width**2 + 3 * width * hidden + 2 * width) + width
    )
    assert answer.complete


def test_published_counts():
    # torchvision 0.29, models/resnet.py and vision_transformer.py: `num_params` and `_ops`.
    for build, parameters, ops in (
        (lambda: networks.resnet(18), 11_689_512, 1.814),
        (networks.resnet, 25_557_032, 4.089),
        (lambda: networks.resnet(152), 60_192_808, 11.514),
        (networks.VisionTransformer, 86_567_656, 17.564),
    ):
        totals = tw.size(on_meta(build), (3, 224, 224)).totals
        assert totals.parameters == parameters
        assert round(totals.macs / 1e9, 3) == ops


def test_receptive_fields_that_people_know():
    resnet = tw.size(on_meta(networks.resnet), (3, 224, 224))
    assert {layer.name: layer for layer in resnet.layers}["layer4.2.conv3"].receptive_field == (427, 427)
    net = tw.size(on_meta(networks.UNet), (3, 256, 256))
    head = net.layers[-1]
    assert head.receptive_field == (204, 204)
    assert set(head.phases[0]) == {188, 204}


def test_names_and_modules():
    answer = tw.size(on_meta(lambda: networks.resnet(18)), (3, 64, 64))
    names = [layer.name for layer in answer.layers]
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert {"layer1.0.conv1", "layer2.0.downsample.0", "layer1.0.add", "avgpool", "fc"} <= set(names)
    modules = {step.name: step.module for step in answer._graph.operations}
    assert modules["layer2.0.downsample.0"] == "layer2.0.downsample"
    assert modules["layer1.0.add"] == "layer1.0"
    assert modules["fc"] == ""
    encoder = tw.size(on_meta(lambda: nn.TransformerEncoderLayer(64, 4, 96, batch_first=True)), (10, 64))
    counted = [layer.name for layer in encoder.layers if layer.macs]
    assert counted == [
        "self_attn.in_proj", "self_attn.attention", "self_attn.out_proj", "linear1", "linear2",
    ]  # fmt: skip


# What modules hold.


def test_the_users_module_is_left_alone():
    module = networks.resnet(18).train()
    calls = []
    module.fc.register_forward_hook(lambda *_: calls.append(1))
    module.layer1.register_forward_pre_hook(lambda *_: None)
    before = {name: (id(each), each.device, each.clone()) for name, each in module.state_dict(keep_vars=True).items()}
    hooks = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in module.modules()]
    attributes = [set(each.__dict__) for each in module.modules()]
    assert tw.size(module, (3, 64, 64)).totals.parameters == 11_689_512
    after = module.state_dict(keep_vars=True)
    for name, (identity, device, value) in before.items():
        assert id(after[name]) == identity
        assert after[name].device == device
        assert torch.equal(after[name], value)
        assert not [each for each in after[name].__dict__ if "thalweg" in each]
    assert hooks == [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in module.modules()]
    assert attributes == [set(each.__dict__) for each in module.modules()]
    assert module.training


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight
        self.extra = nn.Linear(3, 4)
        self.spare = nn.Parameter(torch.zeros(7))

    def forward(self, ids):
        return self.head(self.embed(ids))


def test_shared_frozen_and_unused_parameters():
    module = Tied()
    module.embed.weight.requires_grad = False
    answer = tw.size(module, (5,))
    assert answer.totals.parameters == 50 * 8 + 16 + 7 == sum(each.numel() for each in module.parameters())
    assert answer.totals.trainable == 23
    rows = {layer.name: layer for layer in answer.layers}
    assert rows["head"].parameters == 0
    assert (rows["extra"].kind, rows["extra"].parameters, rows["extra"].macs) == ("not used", 16, 0)
    assert rows["spare"].parameters == 7
    assert answer.complete


def test_lazy_normed_and_weightless_modules():
    lazy = nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(4))
    assert tw.size(lazy, (3, 8, 8)).totals.parameters == 6 * 27 + 6 + 12 + 216 * 4 + 4
    assert isinstance(lazy[0], nn.LazyConv2d)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))
    answer = tw.size(normed, (5,))
    assert (answer.totals.parameters, answer.totals.macs) == (15 + 3 + 3, 15)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    assert tw.size(spectral, (3, 8, 8)).totals.macs == 36 * 27 * 4
    pooled = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    assert tw.size(pooled, (3, 8, 8)).totals.connections == 3 * 16 * 4


def test_an_embedding_bag_has_as_many_units_as_come_out():
    answer = tw.size(nn.Sequential(nn.EmbeddingBag(30, 6), nn.Linear(6, 2)), (9,))
    assert [layer.neurons for layer in answer.layers] == [6, 2]
    assert [layer.connections for layer in answer.layers] == [54, 12]


def test_a_bilinear_layer_is_connected_to_all_pairs():
    answer = tw.size(Function(lambda m, x: m.two(x, x), two=nn.Bilinear(8, 8, 3)), (8,))
    assert (answer.layers[-1].name, answer.totals.neurons, answer.totals.parameters) == ("two", 3, 3 * 64 + 3)
    assert answer.totals.connections == answer.totals.macs == 3 * 64


class Constants(nn.Module):
    """A bias of relative positions from a perceptron on a table, as Swin V2 has it, and learned queries."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Linear(2, 3)
        self.register_buffer("table", torch.zeros(5, 2))
        self.queries = nn.Parameter(torch.zeros(4, 6))
        self.key, self.query = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        scores = self.query(self.queries) @ self.key(x).transpose(1, 2)
        return scores.sum() + self.bias(self.table).sum()


def test_layers_on_what_is_the_same_for_every_example_are_counted():
    module = Constants()
    answer = tw.size(module, (7, 6))
    assert answer.totals.macs == 5 * 2 * 3 + 4 * 36 + 7 * 36 + 4 * 6 * 7 == flops(on_meta(Constants), (7, 6))
    assert answer.totals.parameters == sum(each.numel() for each in module.parameters())


# Any operation.


class Function(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *x):
        return self.function(self, *x)


def heads(m, x):
    batch, tokens, _ = x.shape
    q, k, v = (each.reshape(batch, tokens, 2, 4).transpose(1, 2) for each in m.qkv(x).chunk(3, -1))
    weights = torch.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) / 2.0, -1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def written(m, x):
    """A map that is filled piece by piece."""
    y = torch.zeros(1, 6, 8, 8)
    z = m.conv(x)
    y[:, :3] = z[:, :3]
    y[:, 3:] += z[:, 3:]
    return m.after(y)


OPERATIONS = {
    "einsum": (heads, {"qkv": nn.Linear(8, 24)}, (5, 8)),
    "pieces": (written, {"conv": nn.Conv2d(3, 6, 3, padding=1), "after": nn.Conv2d(6, 2, 1)}, (3, 8, 8)),
    "bmm": (lambda m, x: torch.bmm(x, x.transpose(1, 2)), {}, (5, 8)),
    "baddbmm": (lambda m, x: torch.baddbmm(torch.zeros(1, 5, 5), x, x.mT), {}, (5, 8)),
    "matmul of several axes": (
        lambda m, x: m.first(x)[:, None] @ m.first(x).mT[:, None], {"first": nn.Linear(8, 8)}, (5, 8),
    ),
    "vector times matrix": (lambda m, x: x[0, 0] @ m.first.weight, {"first": nn.Linear(8, 8)}, (5, 8)),
    "addmm": (lambda m, x: torch.addmm(m.first.bias, x[0], m.first.weight.t()), {"first": nn.Linear(8, 6)}, (5, 8)),
    "LSTM cell": (lambda m, x: m.cell(x), {"cell": nn.LSTMCell(8, 6)}, (8,)),
    "fold": (
        lambda m, x: functional.fold(m.mix(functional.unfold(x, 2, stride=2).mT).mT, (8, 8), 2, stride=2),
        {"mix": nn.Linear(12, 12)}, (3, 8, 8),
    ),
    "interpolation": (
        lambda m, x: m.conv(functional.interpolate(x, scale_factor=2, mode="bilinear")),
        {"conv": nn.Conv2d(3, 4, 3)}, (3, 8, 8),
    ),
    "odd interpolation": (
        lambda m, x: m.conv(functional.interpolate(x, size=(11, 13), mode="bicubic")),
        {"conv": nn.Conv2d(3, 4, 3)}, (3, 8, 8),
    ),
    "grid": (
        lambda m, x: m.conv(functional.grid_sample(x, torch.zeros(1, 5, 5, 2), align_corners=False)),
        {"conv": nn.Conv2d(3, 4, 3)}, (3, 8, 8),
    ),
    "same padding": (lambda m, x: m.conv(x), {"conv": nn.Conv2d(3, 4, 4, padding="same", dilation=3)}, (3, 8, 9)),
    "reflected": (lambda m, x: m.conv(x), {"conv": nn.Conv2d(3, 4, 5, padding=2, padding_mode="reflect")}, (3, 8, 8)),
    "wrapped": (lambda m, x: m.conv(x), {"conv": nn.Conv2d(3, 4, 5, padding=2, padding_mode="circular")}, (3, 8, 8)),
    "local response": (
        lambda m, x: m.conv(m.norm(x)), {"norm": nn.LocalResponseNorm(3), "conv": nn.Conv2d(4, 4, 3)}, (4, 8, 8),
    ),
    "adaptive": (
        lambda m, x: m.conv(functional.adaptive_avg_pool2d(x, (3, 5))), {"conv": nn.Conv2d(3, 4, 3)}, (3, 8, 8),
    ),
    "topk": (lambda m, x: m.fc(x.topk(4, dim=-1).values), {"fc": nn.Linear(4, 2)}, (5, 8)),
    "index": (lambda m, x: m.fc(x[:, [0, 2, 4]]), {"fc": nn.Linear(8, 2)}, (5, 8)),
    "cumsum": (lambda m, x: m.fc(x.cumsum(1).masked_fill(x > 0, 0.0)), {"fc": nn.Linear(8, 2)}, (5, 8)),
    "window view": (lambda m, x: m.fc(x.unfold(2, 4, 2)), {"fc": nn.Linear(4, 2)}, (3, 16)),
    "kernel from the input": (
        lambda m, x: functional.conv2d(x, m.make(x.mean((2, 3))).view(4, 3, 3, 3)),
        {"make": nn.Linear(3, 108)}, (3, 8, 8),
    ),
    "half precision": (lambda m, x: m.fc(x).float(), {"fc": nn.Linear(8, 2).half()}, (5, 8)),
    "values of shapes": (
        lambda m, x: m.fc(x[:, : int(torch.tensor(x.shape[1]).item() // torch.arange(3, device=x.device).max())]),
        {"fc": nn.Linear(8, 2)}, (6, 8),
    ),
    "mixed devices": (lambda m, x: m.fc(x + torch.ones(8) * torch.arange(8)), {"fc": nn.Linear(8, 2)}, (5, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_against_the_flop_counter_of_a_real_run(name):
    function, modules, shape = OPERATIONS[name]
    module = Function(function, **modules).eval()
    answer = tw.size(module, shape)
    assert answer.complete, answer.unknown
    dtype = next((each.dtype for each in module.parameters()), torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.rand(1, *shape, dtype=dtype))
    assert 2 * answer.totals.macs == counter.get_total_flops()
    assert answer.totals.parameters == sum(each.numel() for each in module.parameters())


def test_local_response_normalisation_is_no_layer_of_neurons():
    answer = tw.size(nn.Sequential(nn.LocalResponseNorm(3), nn.Conv2d(4, 2, 1)), (4, 8, 8))
    assert answer.totals.neurons == 2 * 64


def test_images_of_one_row_or_one_position_are_images():
    row = tw.size(nn.Sequential(nn.Conv2d(3, 4, (1, 3)), nn.Conv2d(4, 2, 1)), (3, 1, 8))
    assert row.lost == ()
    assert [layer.receptive_field for layer in row.layers] == [(1, 3), (1, 3)]
    assert row.unit("1", (0, 5)).clipped == ((0, 0), (5, 7))
    one = tw.size(nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)), (3, 1, 1))
    assert one.layers[-1].output == (4, 2, 2)
    assert one.unit("1", (1, 0)).clipped == ((0, 0), (0, 0))
    assert tw.size(nn.Conv1d(3, 4, 1), (3, 1)).unit("conv1d", (0,)).clipped == ((0, 0),)


def test_a_layer_that_is_the_network_or_has_the_weights_of_another_is_called_like_what_it_does():
    assert [layer.name for layer in tw.size(nn.Conv2d(3, 4, 3), (3, 8, 8)).layers] == ["conv2d"]
    assert [layer.name for layer in tw.size(nn.Linear(3, 4), (3,)).layers] == ["linear"]

    class Borrowed(nn.Module):
        def __init__(self, layer, call):
            super().__init__()
            self.there = layer
            self.here = Function(call)
            self.here.of = [layer]

        def forward(self, x):
            return self.here(self.there(x))

    convolved = Borrowed(nn.Conv1d(3, 3, 1), lambda module, x: functional.conv1d(x, module.of[0].weight))
    added = Borrowed(nn.Linear(3, 3), lambda module, x: torch.addmm(module.of[0].bias, x, module.of[0].weight))
    assert [layer.name for layer in tw.size(convolved, (3, 8)).layers] == ["there", "here.conv1d"]
    assert [layer.name for layer in tw.size(added, (3,)).layers] == ["there", "here.linear"]


@pytest.mark.parametrize(
    ("function", "sees"),
    [
        (lambda m, x: m.fc(functional.scaled_dot_product_attention(x, x, x)), 6),
        (lambda m, x: m.fc((x @ x.transpose(1, 2)).softmax(-1) @ x), 6),
        (lambda m, x: m.fc(torch.einsum("btc,cd->btd", x, m.fc.weight.T @ m.fc.weight)), 1),
        (lambda m, x: m.fc(torch.take_along_dim(m.fc(x), m.fc(x).argsort(-1), -1)), None),
        (lambda m, x: m.fc(x.cpu()) * m.fc(x).to("cpu", torch.float32), 1),
        (lambda m, x: m.fc(x) * float(torch.arange(4).numpy()[2]) + torch.arange(4).tolist()[1], 1),
    ],
)
def test_tokens_that_first_meet_a_product_or_another_device(function, sees):
    answer = tw.size(Function(function, fc=nn.Linear(8, 8)), (6, 8))
    assert answer.layers[-1].output == (6, 8)
    assert answer.complete
    assert answer.layers[-1].receptive_field == (sees and (sees,))


class Talks(nn.Module):
    """PyTorch's transformer, whose batch is in the middle unless it is told otherwise, behind embeddings or not."""

    def __init__(self, batch_first, embedded):
        super().__init__()
        self.layer = nn.Transformer(16, 4, 1, 1, 32, batch_first=batch_first)
        self.source, self.target = ((nn.Embedding(50, 16) if embedded else nn.Identity()) for _ in range(2))

    def forward(self, x, y):
        return self.layer(self.source(x), tgt=self.target(y))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("embedded", [True, False])
def test_both_inputs_have_their_batch_where_the_module_wants_it(embedded):
    shapes = ((5,), (7,)) if embedded else ((5, 16), (7, 16))
    first, middle = (tw.size(Talks(batch_first, embedded), shapes) for batch_first in (True, False))
    assert middle.complete
    assert middle.totals == first.totals
    assert [layer.receptive_field for layer in middle.layers] == [layer.receptive_field for layer in first.layers]


@pytest.mark.parametrize(
    ("first", "second", "shape"),
    [
        (nn.Conv2d(3, 16, 4, 4), nn.MultiheadAttention(16, 4), (3, 16, 16)),
        (nn.Conv1d(3, 16, 3), nn.LSTM(16, 8), (3, 20)),
        (nn.Linear(3, 16), nn.MultiheadAttention(16, 4), (20, 3)),
    ],
)
def test_steps_and_batch_that_a_network_mixes_up_are_read_as_it_runs(first, second, shape):
    """It forgot `batch_first`, so the one example is one step, and the steps are a batch; or it has the batch there."""

    def run(m, x):
        x = m.first(x)
        x = x.flatten(2).transpose(1, 2) if x.dim() > 3 or isinstance(m.first, nn.Conv1d) else x
        return m.second(query=x, key=x, value=x)[0] if isinstance(m.second, nn.MultiheadAttention) else m.second(x)[0]

    module = Function(run, first=first, second=second)
    answer = tw.size(module, shape)
    assert answer.complete
    assert answer.totals.macs == flops(module.to("meta"), shape, time_first=isinstance(first, nn.Linear))


IDS_AT_WORK = {
    "a table": (lambda m, x: m.fc(m.fc.weight[x]), ((5,),)),
    "behind a view": (lambda m, x: m.fc(m.fc.weight[x.view(-1)]), ((5,),)),
    "one of each row": (lambda m, x, y: m.fc(x)[torch.arange(1), y], ((6, 8), (1,))),
    "gathered": (lambda m, x, y: m.fc(x).gather(2, y), ((6, 8), (6, 3))),
    "labels": (lambda m, x, y: functional.cross_entropy(m.fc(x).view(-1, 8), y.view(-1)), ((6, 8), (6,))),
    "shares": (lambda m, x, y: functional.cross_entropy(m.fc(x), y), ((6, 8), (6, 8))),
    "negative likelihoods": (lambda m, x, y: functional.nll_loss(m.fc(x).mT, y), ((6, 8), (6,))),
}


@pytest.mark.parametrize("name", IDS_AT_WORK)
def test_ids_are_known_by_what_looks_them_up(name):
    function, shapes = IDS_AT_WORK[name]
    answer = tw.size(Function(function, fc=nn.Linear(8, 8)), shapes)
    assert answer.complete
    assert answer.totals.parameters == 72


class Keeps(nn.Module):
    """Something of an earlier call stays in the module: here, the first call."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.other, self.way = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), way
        self.register_buffer("kept", torch.zeros(1, 2, 8, 8))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.table = nn.Embedding(5, 2)
        self.count, self.state, self.past = 0, None, []

    def forward(self, x, ids):
        return self.way(self, x) + self.table(ids).sum()


def in_a_queue(m, x):
    m.kept[:, :, 1:] = m.kept[:, :, :-1].clone()
    m.kept[:, :, 0] = x[:, :, 0]
    return m.conv(m.kept)


def in_a_row(m, x):
    y = m.conv(m.kept)
    m.kept[:, :, 0] = x[:, :, 0]
    return y


def in_all_of_it(m, x):
    y = m.conv(m.kept)
    m.kept.copy_(x)
    return y


def in_an_attribute(m, x):
    if m.state is None:
        m.state = m.other(x)
    return m.conv(m.state)


def in_a_list(m, x):
    m.past.append(m.other(x) if not m.past else x)
    return m.conv(m.past[0])


def in_a_count(m, x):
    m.count += 1
    return m.conv(m.other(x) if m.count == 1 else x)


def in_a_tensor(m, x):
    m.calls += 1
    return m.conv(m.other(x) if m.calls == 1 else x)


@pytest.mark.parametrize(
    "way", [in_a_queue, in_a_row, in_all_of_it, in_an_attribute, in_a_list, in_a_count, in_a_tensor]
)
def test_a_network_is_read_as_it_was_before_its_first_call(way):
    """It runs more than once until it is known what goes in: here, that the second input is ids."""
    module = Keeps(way)
    answer = tw.size(module, ((2, 8, 8), (3,)))
    assert answer.complete
    convolutions = [(layer.name, layer.receptive_field) for layer in answer.layers if layer.kind == "convolution"]
    if way is in_a_queue:
        assert [name for name, _ in convolutions] == ["conv"]
    elif way in (in_a_row, in_all_of_it):
        assert convolutions == [("conv", (0, 0))]
    else:
        assert convolutions == [("other", (3, 3)), ("conv", (5, 5))]
    assert module.count == 0
    assert module.state is None
    assert not module.past


LOSSES = {
    "squares": lambda y, z: functional.mse_loss(y, z),
    "squares, each": lambda y, z: functional.mse_loss(y, z, reduction="none"),
    "smooth": lambda y, z: functional.smooth_l1_loss(y, z),
    "huber": lambda y, z: functional.huber_loss(y, z, reduction="sum"),
    "two classes": lambda y, z: functional.binary_cross_entropy_with_logits(y, z.sigmoid()),
    "two classes, shares": lambda y, z: functional.binary_cross_entropy(y.sigmoid(), z.sigmoid()),
    "margin": lambda y, z: functional.soft_margin_loss(y, z.sign()),
    "classes": lambda y, z: functional.cross_entropy(y.flatten(0, 1), z.flatten(0, 1).argmax(-1)),
    "classes, each": lambda y, z: functional.cross_entropy(
        y.flatten(0, 1), z.flatten(0, 1).argmax(-1), reduction="none"
    ),
    "classes of positions": lambda y, z: functional.cross_entropy(y.transpose(1, 2), z.argmax(-1)),
    "margin of classes": lambda y, z: functional.multi_margin_loss(y.flatten(0, 1), z.flatten(0, 1).argmax(-1)),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_in_a_network_are_known_and_no_layers_of_neurons(loss):
    module = Function(lambda m, x: loss(m.fc(x), x.roll(1, 1)), fc=nn.Linear(5, 5))
    answer = tw.size(module, (6, 5))
    assert answer.complete
    assert answer.lost == ()
    assert answer.totals.macs == 6 * 25
    shape = tuple(module(torch.rand(1, 6, 5)).shape)
    assert answer.layers[-1].output == (shape[1:] if shape[:1] == (1,) else shape)
    last = len(answer.layers) - 1
    assert answer.unit(last, (2,) if shape else (0,)).clipped == (((1, 2),) if shape else ((0, 5),))


def test_what_is_not_known_is_named():
    answer = tw.size(Function(lambda m, x: likeness(m.fc(x), x), fc=nn.Linear(8, 8)), (5, 8))
    assert not answer.complete
    assert "likeness" in answer.unknown[0]
    assert answer.totals.macs == 5 * 64


def test_the_parameters_of_what_is_not_known_count():
    holder = nn.ParameterDict({"centres": nn.Parameter(torch.zeros(7, 8)), "fixed": nn.Parameter(torch.zeros(3, 8))})
    holder["fixed"].requires_grad_(False)
    module = Function(
        lambda m, x: likeness(likeness(x, m.held["fixed"]) @ m.held["fixed"], m.held["centres"]), held=holder
    )
    answer = tw.size(module, (5, 8))
    assert not answer.complete
    assert (answer.totals.parameters, answer.totals.trainable) == (80, 56)
    assert [each.parameters for each in answer.layers if each.kind == "unknown"] == [24, 56]
    assert "only parameters are counted of" in answer.table().notes[0]


def test_choices_by_value_are_said_to_be_supposed():
    module = Function(lambda m, x: m.fc(x.flatten()[x.flatten() > 0][:, None]), fc=nn.Linear(1, 3))
    answer = tw.size(module, (5, 8))
    assert not answer.complete
    assert answer.totals.macs == 40 * 3
    assert any("all are taken to pass" in note for note in answer.table().notes)


def test_a_course_that_depends_on_data_is_followed_to_where_it_does():
    def forward(m, x):
        y = m.first(x)
        return m.second(y) if y.sum() > 0 else y

    answer = tw.size(Function(forward, first=nn.Linear(8, 8), second=nn.Linear(8, 4)), (8,))
    assert not answer.complete
    assert answer.totals.macs == 64
    assert any("depends on the values of its input" in note for note in answer.table().notes)


def test_what_is_done_in_place_is_seen_by_what_comes_after():
    def added(m, x):
        y = m.one(x)
        y += m.five(x)
        return m.last(y)

    layers = {"one": nn.Conv2d(3, 4, 1), "five": nn.Conv2d(3, 4, 5, padding=2), "last": nn.Conv2d(4, 2, 1)}
    assert tw.size(Function(added, **layers), (3, 8, 8)).layers[-1].receptive_field == (5, 5)

    # Every in-place result is the tensor itself, however it was made.
    for block in (networks.BasicBlock(4, 4, 1), networks.Bottleneck(16, 4, 1)):
        made = tw.size(nn.Sequential(block), (block.conv1.in_channels, 8, 8))._graph.operations
        ids = {step.name: step.output.id for step in made}
        assert [step.input.id for step in made if step.kind is Kind.ACTIVATION][-1] == ids["0.add"]

    def filled(m, x):
        y = torch.zeros(1, 8, 8, 8)
        y[:, :4] = m.one(x)
        y[:, 4:] = m.five(x)
        return functional.max_pool2d(y, 2)

    (pool,) = (each for each in tw.size(Function(filled, **layers), (3, 8, 8)).layers if each.kind == "max pool")
    assert (pool.neurons, pool.connections) == (8 * 16, 8 * 64)
    assert (pool.receptive_field, pool.first) == ((6, 6), (-2, -2))


def test_padding_that_keeps_the_size_has_its_odd_rest_at_the_end():
    layer = tw.size(nn.Conv1d(1, 1, 4, padding="same"), (1, 9)).layers[0]
    assert (layer.output, layer.first) == ((1, 9), (-1,))


# Inputs.


def test_inputs_that_the_module_tells():
    guess = tw.size(networks.resnet(18))
    assert guess.input == (3, 224, 224)
    assert any("is a guess" in note for note in guess.table().notes)
    assert tw.size(nn.Sequential(nn.Linear(7, 3))).input == (7,)
    lightning = nn.Conv2d(5, 3, 3)
    lightning.example_input_array = torch.zeros(2, 5, 9, 9)
    assert tw.size(lightning).input == (5, 9, 9)
    configured = nn.Conv2d(5, 3, 3)
    configured.pretrained_cfg = {"input_size": (5, 11, 11)}
    assert tw.size(configured).input == (5, 11, 11)


def test_axes_of_positions_are_found_from_the_first_layer():
    last = Function(lambda m, x: m.conv(x.permute(0, 3, 1, 2) * 2 - 1), conv=nn.Conv2d(3, 4, 3))
    answer = tw.size(last, (8, 9, 3))
    assert answer.layers[-1].receptive_field == (3, 3)
    assert answer.layers[-1].output == (4, 6, 7)
    tokens = tw.size(nn.Linear(8, 4), (5, 8))
    assert (tokens.layers[0].receptive_field, tokens.layers[0].output) == ((1,), (5, 4))
    image = tw.size(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4)), (3, 4, 4))
    assert image.layers[0].receptive_field == (4, 4)
    assert tw.size(nn.ReLU(), (3, 4, 4)).layers[0].receptive_field == (1, 1)


def test_several_inputs():
    def forward(m, image, ids):
        return m.conv(image).mean((2, 3)) + m.embed(ids).mean(1)

    module = Function(forward, conv=nn.Conv2d(3, 4, 3), embed=nn.Embedding(9, 4))
    answer = tw.size(module, ((3, 8, 8), (6,)))
    assert answer.totals == tw.size(module, "3x8x8, 6").totals
    assert answer.totals.macs == 36 * 27 * 4
    assert answer.totals.neurons == 36 * 4 + 4 + 6 * 4
    assert answer.complete


def test_wrapped_modules():
    assert tw.size(nn.DataParallel(nn.Linear(5, 3))).layers[0].name == "linear"
    compiled = nn.Module()
    compiled._orig_mod = nn.Sequential(nn.Linear(5, 3))  # what torch.compile makes
    assert tw.size(compiled).layers[0].name == "0"


@pytest.mark.parametrize(
    ("module", "shape", "sentence"),
    [
        (nn.Conv2d(5, 4, 3), None, "What the network takes is not known; give its input without the batch"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 2)), (3, 8, 8), "does not run on an input of 1 x 3 x 8 x 8"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), (4, 8, 8), "in '0'"),
        (nn.Sequential(nn.Conv2d(3, 4, 9)), (3, 8, 8), "in '0'"),
        (nn.Sequential(nn.MaxPool2d(9)), (3, 8, 8), "in '0'"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 0, 8), "every extent must be at least 1"),
        (networks.resnet(18), (224,), "in 'conv1'"),
        (nn.Bilinear(3, 3, 2), (3,), "takes (input1, input2)"),
        (Function(lambda m, x: x if x.sum() > 0 else -x), (3,), "depends on the values of its input ('is_nonzero'"),
        (Function(lambda m, x: 1 / 0), (3,), "division by zero"),
        (Function(lambda m, x: x["ids"]), (3,), "it asks for 'ids' as of a dictionary and gets a tensor (wrap it"),
    ],
)  # fmt: skip
def test_what_does_not_run_is_one_sentence(module, shape, sentence):
    with pytest.raises(InputError) as caught:
        tw.size(module, shape)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_copied():
    import threading

    module = nn.Linear(3, 2)
    module.lock = threading.Lock()
    with pytest.raises(InputError, match="cannot be copied"):
        tw.size(module)


def test_copies_are_made_before_anything_runs():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = copy.deepcopy(module.state_dict())
    with pytest.raises(InputError):
        tw.size(module, (2, 8, 8))
    assert all(torch.equal(state[name], each) for name, each in module.state_dict().items())
    assert not module[0]._forward_hooks


# As a file, and where PyTorch is missing.

LARGE = """
import torch
from torch import nn

def large():
    net = nn.Linear(1 << 20, 1 << 20)  # four terabytes
    assert net.weight.is_meta
    return net

def looks_at_values():
    return nn.Linear(int(torch.ones(3).sum().item()), 2)
"""


def test_models_of_a_module_are_built_without_weights(tmp_path, monkeypatch):
    (tmp_path / "a_module_of_large_networks.py").write_text(LARGE)
    monkeypatch.chdir(tmp_path)
    answer = tw.size("a_module_of_large_networks:large")
    assert answer.totals.parameters == (1 << 40) + (1 << 20)
    assert tw.size("a_module_of_large_networks:looks_at_values").totals.parameters == 8


@pytest.mark.parametrize(("file", "extra"), [("net.pt2", "torch"), ("config.json", "transformers")])
def test_without_pytorch_the_install_command_is_told(tmp_path, file, extra):
    (tmp_path / file).write_text('{"model_type": "llama"}')
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from thalweg.errors import MissingPackageError\nimport thalweg as tw\n"
        f"try:\n    tw.size({str(tmp_path / file)!r})\nexcept MissingPackageError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"needs the package 'torch', which is not installed; install it with: pip install \"thalweg[{extra}]\"." in (
        done.stdout
    )


class DividesEvenly(nn.Module):
    """Whole windows of four, and what is left over: nothing, where the length divides by four."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        usable = x.shape[2] // 4 * 4
        return torch.cat([x[:, :, :usable] * 2, x[:, :, usable:]], dim=2)


def test_a_rest_of_nothing_is_no_unit():
    answer = tw.size(DividesEvenly(), (2, 8))
    assert answer.complete
    assert answer.unit(-1, (7,)).clipped == ((6, 7),)
    answer = tw.size(DividesEvenly(), (2, 10))
    assert answer.complete
    assert answer.unit(-1, (7,)).clipped == ((6, 8),)
