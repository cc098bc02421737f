"""Keras 3: the textbook table, keras.applications, shared and nested models, classes of one's own, hostile files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
import zipfile

import pytest

import thalweg as tw
from textbook_table import check_textbook, counted, same_network
from thalweg.errors import InputError, MissingPackageError

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")

from keras import layers, ops  # noqa: E402


@pytest.fixture(autouse=True)
def _light():
    """Nothing here allocates weights."""
    with keras.StatelessScope(initialize_variables=False):
        yield


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack])


def relu(channels):
    return layers.Conv2D(channels, 3, padding="same", activation="relu")


def textbook():
    stack = [relu(64), layers.MaxPooling2D(), relu(128), layers.MaxPooling2D(), relu(256), relu(256)]
    dense = [layers.Flatten(), layers.Dense(1024, activation="relu"), layers.Dense(100)]
    return sequential((112, 112, 3), *stack, layers.MaxPooling2D(), *dense)


def test_the_textbook_table_cell_by_cell():
    model = textbook()
    answer = tw.size(model)
    check_textbook(answer)
    assert [each.name for each in answer.layers if each.neurons] == [
        each.name for each in model.layers if not isinstance(each, layers.Flatten)
    ]
    assert answer.totals.parameters == model.count_params()
    assert all(each._value is None for each in model.weights)  # nothing was allocated on the way


def test_channels_first():
    def conv(channels, stride=1):
        return layers.Conv2D(channels, 3, stride, padding="same", data_format="channels_first")

    pool = layers.MaxPooling2D(data_format="channels_first")
    flat = layers.Flatten(data_format="channels_first")
    answer = tw.size(sequential((3, 12, 10), conv(4), pool, conv(8, 2), flat, layers.Dense(5)))
    same_network(answer, "input 12x10x3; conv3-4; maxpool; conv3-8/2; FC-5")
    assert answer.layers[0].output == (4, 12, 10)


def literal(model):
    """Multiply-accumulates from the shapes that Keras itself says."""
    macs = 0
    for layer in model._flatten_layers():
        if not layer.weights:
            continue
        kernel = next((each for each in layer.weights if each.path.rpartition("/")[2] == "kernel"), None)
        if isinstance(layer, layers.DepthwiseConv2D | layers.Conv2D | layers.Dense) and kernel is not None:
            macs += math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])
        if isinstance(layer, layers.SeparableConv2D):
            both = (layer.depthwise_kernel, layer.pointwise_kernel)
            macs += sum(math.prod(each.shape) for each in both) * math.prod(layer.output.shape[1:-1])
    return macs


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    # https://keras.io/api/applications gives 138.4M, 25.6M, 3.5M, 5.3M, 8.1M, 22.9M and 7.2M parameters; the fields are
    # those of the last map before the global pool, VGG-16's from Araujo, Norris and Sim (Distill 2019).
    [
        ("VGG16", 138_357_544, 212),
        ("ResNet50", 25_636_712, 483),
        ("MobileNetV2", 3_538_984, 491),
        ("EfficientNetB0", 5_330_571, 851),
        ("DenseNet121", 8_062_504, None),
        ("Xception", 22_910_480, None),
        ("EfficientNetV2B0", 7_200_312, None),
    ],
)
def test_applications(name, parameters, field):
    model = getattr(keras.applications, name)(weights=None)
    answer = tw.size(model)
    assert answer.complete
    assert answer.totals.parameters == model.count_params() == parameters
    trainable = sum(math.prod(each.shape) for each in model.trainable_weights)
    assert answer.totals.trainable == trainable
    assert answer.totals.macs == literal(model)
    if field is not None:
        seen = [each.receptive_field[0] for each in answer.layers if len(each.output) == 3 and each.output[0] > 1]
        assert seen[-1] == field


def test_a_model_on_another_input_than_its_own():
    model = sequential((None, None, 3), layers.Conv2D(4, 3, 2, padding="same"), layers.GlobalAveragePooling2D())
    with pytest.raises(InputError, match=r"takes inputs of \? x \? x 3; say what is open there"):
        tw.size(model)
    same_network(tw.size(model, (9, 8, 3)), "input 9x8x3; conv3-4/2; globalavgpool")
    nested = sequential((16, 16, 3), model, layers.Dense(2))
    answer = tw.size(nested)
    assert answer.totals.macs == 8 * 8 * 9 * 3 * 4 + 8
    assert answer.layers[0].name.startswith(f"{model.name}.conv2d")
    assert tw.size(nested, (20, 20, 3)).totals.macs == 10 * 10 * 9 * 3 * 4 + 8
    with pytest.raises(InputError, match=r"takes inputs of 16 x 16 x 3, not one of 16 x 3\."):
        tw.size(nested, (16, 3))


@pytest.mark.parametrize("extent", [10, 11, 12, 13])
def test_same_padding_depends_on_the_resolution(extent):
    model = sequential((extent, extent, 1), layers.Conv2D(2, 3, 2, padding="same"), layers.MaxPooling2D(3, 2, "same"))
    same_network(tw.size(model), f"input {extent}x{extent}x1; conv3-2/2; maxpool3/2 same")
    assert tw.size(model).layers[0].first == ((0, 0) if extent % 2 == 0 else (-1, -1))


def test_a_u_net():
    inputs = keras.Input((12, 12, 3))
    a = relu(4)(inputs)
    x = relu(8)(layers.MaxPooling2D()(a))
    x = layers.Conv2DTranspose(4, 2, 2)(x)
    x = layers.Concatenate()([x, a])
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    spec = "input 12x12x3; conv3-4; a: relu; maxpool; conv3-8; relu; convt2-4/2; concat a; conv1-2"
    same_network(tw.size(model), spec)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel", "stride", "extra"), [(3, 2, None), (3, 2, 1), (4, 2, None), (2, 3, None), (5, 1, None)]
)
def test_transposed_convolutions_are_where_the_backend_puts_them(kernel, stride, extra, padding):
    import numpy as np

    layer = layers.Conv1DTranspose(1, kernel, stride, padding, output_padding=extra, use_bias=False)
    answer = tw.size(sequential((7, 1), layer))
    impulses = np.eye(7)[:, :, None]
    made = ops.conv_transpose(impulses, np.ones((kernel, 1, 1)), stride, padding, extra, "channels_last")
    told = [answer.unit(0, (unit,)).clipped for unit in range(answer.layers[0].output[0])]
    seen = [np.flatnonzero(np.asarray(made)[:, unit, 0]) for unit in range(made.shape[1])]
    assert told == [((each[0], each[-1]),) if len(each) else None for each in seen]
    assert answer.layers[0].connections_inside == int(np.asarray(made).sum())


def test_depthwise_and_separable_convolutions_dilation_groups_and_one_dimension():
    model = sequential(
        (20, 6),
        layers.DepthwiseConv1D(3, padding="same", depth_multiplier=2),
        layers.SeparableConv1D(8, 5, padding="same"),
        layers.Conv1D(8, 3, padding="causal", dilation_rate=2, groups=4),
        layers.AveragePooling1D(2),
    )
    answer = tw.size(model)
    spec = """
        input 20x6; depthwise3-12; depthwise5 nobias; conv1-8; conv3-8 dilation 2 groups 4 pad 4,0; avgpool
    """
    same_network(answer, spec)
    assert [each.name.rpartition(".")[2] for each in counted(answer)][1:3] == ["depthwise", "pointwise"]


def test_a_volume():
    model = sequential((6, 8, 10, 1), layers.Conv3D(2, 3, padding="same"), layers.MaxPooling3D())
    same_network(tw.size(model), "input 6x8x10x1; conv3-2; maxpool")


def test_padding_cropping_and_upsampling():
    model = sequential(
        (8, 8, 3),
        layers.ZeroPadding2D(((1, 2), (0, 3))),
        layers.Conv2D(4, 3),
        layers.Cropping2D(1),
        layers.UpSampling2D(2),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Conv2D(2, 3, padding="same"),
    )
    spec = "input 8x8x3; pad 1x0,2x3; conv3-4 valid; crop 1; upsample2; upsample2 bilinear; conv3-2"
    answer = tw.size(model)
    same_network(answer, spec)
    assert answer.layers[-1].phases == tw.size(spec).layers[-1].phases


def test_shared_layers_are_a_row_for_each_call_and_frozen_ones_are_told_apart():
    inputs = keras.Input((8, 8, 4))
    conv, norm = layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()
    x = layers.Add()([norm(conv(inputs)), norm(conv(conv(inputs)))])
    model = keras.Model(inputs, x)
    answer = tw.size(model)
    assert [each.parameters for each in answer.layers if each.name == conv.name] == [148, 0, 0]
    assert answer.totals.parameters == model.count_params() == 148 + 16
    assert answer.totals.trainable == 148 + 8
    conv.trainable = False
    assert tw.size(model).totals.trainable == 8
    assert tw.size(model).totals.parameters == 164


def test_a_vision_transformer_against_counts_by_hand():
    width, hidden, tokens, heads = 32, 64, 16, 4
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((tokens, width))(layers.Conv2D(width, 4, 4)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads, name=f"attention{_}")(y, y)
        y = layers.Dense(hidden, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dropout(0.1)(layers.Dense(width)(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    answer = tw.size(model)
    each = 4 * width * width + 2 * width * hidden
    assert answer.complete
    assert answer.totals.macs == tokens * 48 * width + 2 * (tokens * each + 2 * tokens * tokens * width) + width * 10
    assert answer.totals.parameters == model.count_params()
    rows = {row.name: row for row in answer.layers}
    assert rows["attention0.query"].parameters == width * width + width
    assert rows["attention0.attention"].macs == 2 * tokens * tokens * width
    assert rows["attention0.query"].receptive_field == (4, 4)
    assert answer.layers[-1].receptive_field == (16, 16)


@pytest.mark.parametrize(("kind", "gates", "biases"), [("SimpleRNN", 1, 1), ("LSTM", 4, 1), ("GRU", 3, 2)])
def test_recurrent_layers(kind, gates, biases):
    layer = getattr(layers, kind)
    model = sequential((9,), layers.Embedding(50, 8), layers.Bidirectional(layer(6, return_sequences=True)), layer(5))
    answer = tw.size(model)
    assert answer.totals.parameters == model.count_params()
    first = gates * 6 * (8 + 6)
    assert [each.macs for each in answer.layers] == [0, 9 * first, 9 * first, 0, 9 * gates * 5 * (12 + 5)]
    assert answer.layers[1].parameters == first + gates * biases * 6
    assert [each.output for each in answer.layers] == [(9, 8), (9, 6), (9, 6), (9, 12), (5,)]
    assert answer.layers[-1].receptive_field == (9,)


class Block(keras.Model):
    """A class of one's own, with operations between its layers."""

    def __init__(self):
        super().__init__(name="block")
        self.conv = layers.Conv2D(4, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")
        self.head = layers.Dense(3, name="head")

    def call(self, x, training=False):
        y = ops.relu(self.norm(self.conv(x), training=training)) + x[..., :1]
        return self.head(ops.mean(y, axis=(1, 2)))


def test_a_class_of_ones_own_is_entered():
    model = Block()
    answer = tw.size(model, (8, 8, 3))
    kinds = [(each.name, each.kind) for each in counted(answer)]
    assert [kind for _, kind in kinds] == ["convolution", "global pool", "linear"]
    assert kinds[0][0] == "conv"
    assert answer.totals.parameters == model.count_params()
    assert answer.totals.macs == 64 * 27 * 4 + 12
    assert answer.complete
    inside = tw.size(sequential((8, 8, 3), Block()))
    assert counted(inside)[0].name == "block.conv"
    assert inside.totals == answer.totals
    before = [len(each._inbound_nodes) for each in model._flatten_layers()]
    tw.size(model, (8, 8, 3))
    assert [len(each._inbound_nodes) for each in model._flatten_layers()] == before


class Scaled(layers.Layer):
    """A layer without layers: what it computes is asked of the backend."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")
        self.gain = self.add_weight(shape=(5,), name="gain")

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.kernel)) * ops.exp(self.gain)


class Wider(layers.Dense):
    """A subclass that computes something else than the layer it comes from."""

    def call(self, x):
        return super().call(x) + super().call(x)


def test_layers_of_ones_own_and_other_operations():
    model = sequential((7, 4), Scaled(name="scaled"), layers.TimeDistributed(layers.Dense(6)))
    answer = tw.size(model)
    assert answer.complete
    assert answer.totals.parameters == model.count_params() == 25 + 36
    assert answer.totals.macs == 7 * (20 + 30)
    assert answer.layers[0].name == "scaled"
    assert all(each.receptive_field == (1,) for each in answer.layers)
    assert tw.size(sequential((4,), Wider(3))).totals.macs == 24


def test_what_no_table_has_is_named_under_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    answer = tw.size(sequential((7, 4), Scaled(name="scaled")))
    assert (answer.complete, answer.unknown) == (False, ("scaled",))


def test_weights_that_a_call_does_not_use_are_counted_and_said():
    class Half(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.spare = layers.Dense(3, name="used"), layers.Dense(2, name="spare")
            self.spare.build((None, 4))

        def call(self, x):
            return self.used(x)

    answer = tw.size(Half(), (4,))
    assert [(each.name, each.kind, each.parameters) for each in answer.layers] == [
        ("used", "linear", 15),
        ("spare", "not used", 10),
    ]


def test_several_inputs_and_outputs():
    left, right = keras.Input((8, 8, 3)), keras.Input((5,))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(left))
    y = layers.Dense(4)(right)
    joined = layers.Multiply()([x, y])
    model = keras.Model([left, right], [layers.Dense(2)(joined), x])
    answer = tw.size(model)
    assert answer.totals.macs == 36 * 27 * 4 + 20 + 8
    assert answer.totals.parameters == model.count_params()


# Files.


@pytest.fixture
def saved(tmp_path):
    """Writes the configuration of a model as a .keras file, changed by a function."""

    def write(model, change=lambda config: None):
        config = keras.saving.serialize_keras_object(model)
        change(config)
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", b"never read")
        return path

    return write


def test_a_file_without_its_weights(saved):
    answer = tw.size(saved(textbook()))
    check_textbook(answer)
    assert tw.size(str(saved(keras.applications.MobileNetV2(weights=None)))).totals.parameters == 3_538_984


def test_a_file_that_keras_wrote(tmp_path):
    model = sequential((4,), layers.Dense(3, activation="relu"), layers.Dense(2))
    path = tmp_path / "model.keras"
    zeros = [(each, ops.zeros(each.shape)) for each in model.weights]
    # h5py has something to say about NumPy.
    with keras.StatelessScope(zeros, initialize_variables=False), warnings.catch_warnings(action="ignore"):
        model.save(path)
    assert tw.size(path).totals.parameters == model.count_params() == 23


def hostile(path):
    """Configurations that would run code if they were believed."""
    canary = f"__import__('pathlib').Path({str(path)!r}).touch()"
    code = {"class_name": "__lambda__", "config": {"code": canary, "defaults": None, "closure": None}}
    yield {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": code}}
    yield {"module": "os", "class_name": "system", "config": f"touch {path}", "registered_name": "system"}
    yield {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    yield {"module": None, "class_name": "Own", "config": {"name": "o"}, "registered_name": "package>Own"}
    yield {"module": "subprocess", "class_name": "run", "config": {"args": ["touch", str(path)]}}


@pytest.mark.parametrize("number", range(5))
def test_files_that_hold_code_are_refused_by_name_and_run_nothing(saved, tmp_path, number):
    canary = tmp_path / "ran"
    layer = list(hostile(canary))[number]

    def change(config):
        config["config"]["layers"].append(layer)

    path = saved(sequential((4,), layers.Dense(3)), change)
    with pytest.raises(InputError, match=f"holds .*{layer['class_name']}.* nothing of it was run"):
        tw.size(path)
    assert not canary.exists()


def test_damaged_files_are_one_sentence(saved, tmp_path):
    path = saved(sequential((4,), layers.Dense(3)))
    whole = path.read_bytes()
    for what, content in (
        ("as a .keras file", b"no archive"),
        ("as a .keras file", whole[: len(whole) // 2]),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=what):
            tw.size(path)
    for text, sentence in (
        ("{", "is not JSON"),
        ("[1]", "describes no model"),
        ('{"class_name": 3}', "makes no Keras"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", text)
        with pytest.raises(InputError, match=sentence):
            tw.size(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(InputError, match=r"There is no config\.json"):
        tw.size(path)
    with pytest.raises(InputError, match="No such file"):
        tw.size(tmp_path / "missing.keras")


def test_a_function_that_makes_a_model_allocates_no_weights(tmp_path, monkeypatch):
    text = """
import keras

def network():
    model = keras.Sequential([keras.Input((50_000,)), keras.layers.Dense(50_000), keras.layers.Dense(10)])
    assert all(each._value is None for each in model.weights)
    return model
"""
    (tmp_path / "a_module_of_keras.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert tw.size("a_module_of_keras:network").totals.parameters == 50_000 * 50_001 + 500_010


def test_keras_is_imported_with_a_backend_that_is_there_and_the_environment_stays_as_it_was(saved):
    path = saved(sequential((4,), layers.Dense(3)))
    code = (
        "import os, importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'tensorflow' else found(name, *rest)\n"
        f"import thalweg as tw; print(tw.size({str(path)!r}).totals.parameters, 'KERAS_BACKEND' in os.environ)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["15", "False"]


def test_a_missing_keras_is_one_sentence(saved, monkeypatch):
    path = saved(sequential((4,), layers.Dense(3)))
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(sys, "meta_path", [_Nowhere(), *sys.meta_path])
    with pytest.raises(MissingPackageError, match=r"'keras', which is not installed; .*thalweg\[keras\]"):
        tw.size(path)


class _Nowhere:
    """An importer for a machine without Keras."""

    def find_spec(self, name, *rest):
        if name == "keras":
            raise ModuleNotFoundError("No module named 'keras'", name="keras")


def test_models_that_cannot_be_read():
    class Broken(keras.Model):
        def call(self, x):
            raise RuntimeError("first line\nsecond line")

    with pytest.raises(InputError, match=r"failed in .* with RuntimeError: first line"):
        tw.size(Broken(), (4,))
    with pytest.raises(InputError, match="does not say what its input is"):
        tw.size(Block())
