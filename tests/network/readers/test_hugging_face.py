"""Models of Hugging Face from configurations: no weights, no network, no code of others."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
transformers = pytest.importorskip("transformers", reason="needs transformers, which CI installs")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import thalweg as tw  # noqa: E402
import torch_networks as networks  # noqa: E402
from thalweg.errors import InputError  # noqa: E402
from thalweg.network.readers.example import Example  # noqa: E402
from thalweg.network.readers.hugging_face import build  # noqa: E402
from thalweg.network.readers.reading import read  # noqa: E402
from thalweg.network.readers.torch_inputs import found_input, given_input  # noqa: E402

LLAMA_7B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 32000, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "float16",
}  # fmt: skip


def test_llama_7b_from_its_configuration(tmp_path):
    # The shape of meta-llama/Llama-2-7b; the count is derived by hand in test_torch.py.
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_7B))
    answer = tw.size(tmp_path / "config.json")
    assert answer.input == (2048,)
    assert answer.totals.macs == 14_630_806_093_824
    assert answer.totals.parameters == 6_738_415_616
    assert answer.complete
    assert tw.size(str(tmp_path), "1").totals.parameters == answer.totals.parameters
    names = [layer.name for layer in answer.layers if layer.macs]
    assert names[:4] == [f"model.layers.0.self_attn.{each}" for each in ("q_proj", "k_proj", "v_proj", "attention")]
    assert names[-1] == "lm_head"
    written = tw.size(networks.Llama(32000, 64, 2, 4, 2, 96), (8,)).totals
    small = LLAMA_7B | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    assert tw.size(transformers.LlamaConfig(**(small | {"num_key_value_heads": 2})), (8,)).totals.macs == written.macs


WHISPER = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 50, "pad_token_id": 1,
}  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (lambda: transformers.BertConfig(**SMALL, vocab_size=50), (9,)),
        (lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50), (9,)),
        (lambda: transformers.Qwen2Config(**SMALL, num_key_value_heads=2, vocab_size=50), (9,)),
        (lambda: transformers.ViTConfig(**SMALL, image_size=32, patch_size=8), (3, 32, 32)),
        (lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2]), (3, 32, 32)),
        (lambda: transformers.DebertaV2Config(**SMALL, vocab_size=50), (9,)),
    ],
)
def test_counts_are_those_of_a_real_run(config, shape):
    settings = config()
    answer = tw.size(settings, shape)
    model = transformers.AutoModel.from_config(settings)
    if type(model).__name__ in ("GPT2Model", "Qwen2Model"):  # without architectures: the model that predicts words
        model = transformers.AutoModelForCausalLM.from_config(settings)
    given = torch.ones(1, *shape, dtype=torch.int64 if len(shape) == 1 else torch.float32)
    model.set_attn_implementation("eager")  # PyTorch's counter does not see fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(given)
    assert answer.complete
    assert answer.totals.parameters == sum(each.numel() for each in model.parameters())
    assert 2 * answer.totals.macs == counter.get_total_flops()


def test_decoders_get_tokens_of_their_own():
    config = transformers.T5Config(d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4, vocab_size=50)
    config.decoder_start_token_id = 0
    one, two = tw.size(config, (6,)), tw.size(config, ((6,), (6,)))
    assert one.totals == two.totals
    assert any("The decoder gets tokens of its own, 6 of them" in note for note in one.table().notes)
    assert tw.size(config, ((6,), (3,))).totals.macs < one.totals.macs


def test_found_inputs():
    image = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8, num_channels=1)
    assert tw.size(image).input == (1, 32, 32)
    assert tw.size(transformers.BertConfig(**SMALL, max_position_embeddings=12)).input == (12,)


TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
CLIP = {
    "text_config": {**TOWER, "vocab_size": 50, "max_position_embeddings": 7},
    "vision_config": {**TOWER, "image_size": 16, "patch_size": 8},
    "projection_dim": 12,
}
FOLDED = {"patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2]}
FOLDED |= {"spec_size": 64, "num_mel_bins": 16, "window_size": 4}
WORDS = {**TOWER, "vocab_size": 50, "max_position_embeddings": 9}
SOUND = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
SOUND |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (lambda: transformers.CLIPConfig(**CLIP), ((7,), (3, 16, 16))),
        (lambda: transformers.SiglipConfig(**CLIP), ((7,), (3, 16, 16))),
        (lambda: transformers.ViTConfig(**TOWER, image_size=[16, 32], patch_size=8), ((3, 16, 32),)),
        (lambda: transformers.CLIPSegTextConfig(**TOWER, vocab_size=50, max_position_embeddings=9), ((9,),)),
        (lambda: transformers.AlignTextConfig(**TOWER, vocab_size=50, max_position_embeddings=9), ((9,),)),
        (lambda: transformers.RobertaConfig(**TOWER, vocab_size=50, max_position_embeddings=14), ((12,),)),
        (lambda: transformers.ASTConfig(**TOWER, max_length=48, num_mel_bins=32), ((48, 32),)),
        (lambda: transformers.VideoMAEConfig(**TOWER, image_size=32, num_frames=4), ((4, 3, 32, 32),)),
        (lambda: transformers.Wav2Vec2Config(**TOWER, **SOUND), ((16_000,),)),
        (lambda: transformers.ClapAudioConfig(**FOLDED), ((1, 256, 16),)),
        (lambda: transformers.ClapConfig(text_config=WORDS, audio_config=FOLDED), ((7,), (1, 256, 16))),
        (lambda: transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=50), ((512,),)),
    ],
)
def test_what_a_configuration_tells_of_the_inputs(config, inputs):
    settings = config()
    settings._attn_implementation = "eager"  # PyTorch's counter does not see fused attention on a CPU
    graph = read(settings, None)
    answer = tw.size(graph)
    assert tuple(each.shape for each in graph.given) == inputs
    assert answer.complete
    model = type(build(settings))(settings).eval()
    names = given_input(model, inputs).names
    given = [torch.ones(1, *each, dtype=torch.int64 if len(each) == 1 and each[0] < 1000 else None) for each in inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**dict(zip(names, given, strict=True)))
    assert answer.totals.parameters == sum(each.numel() for each in model.parameters())
    assert 2 * answer.totals.macs == counter.get_total_flops()
    guessed = any("guess" in note for note in answer.notes)
    assert guessed == (inputs in (((16_000,),), ((512,),)))


class ImageFirst(transformers.CLIPModel):
    def forward(self, pixel_values=None, position_ids=None, input_ids=None, attention_mask=None):
        return super().forward(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)


def test_a_codec_takes_one_channel_and_a_text_its_length():
    assert tw.size(transformers.DacConfig(**DAC)).input == (1, 800)
    example = found_input(transformers.XLMModel(transformers.XLMConfig(**SHORT)))
    assert example.numbers == (("lengths", (12,)),)


def test_inputs_are_told_by_name_in_the_order_of_the_model():
    example = found_input(ImageFirst(transformers.CLIPConfig(**CLIP)))
    assert example.names == ("pixel_values", "input_ids")
    assert example.shapes == ((3, 16, 16), (7,))
    assert example.masked == 1


def test_a_part_is_built_without_a_head():
    part = transformers.ClapTextConfig(**TOWER, vocab_size=50, max_position_embeddings=9)
    assert type(build(part)) is transformers.ClapTextModel


def test_an_input_that_is_neither_main_nor_required_is_found():
    from transformers.models.got_ocr2 import GotOcr2VisionConfig

    small = {**TOWER, "output_channels": 8, "mlp_dim": 24, "image_size": 32, "patch_size": 8, "window_size": 2}
    assert tw.size(GotOcr2VisionConfig(**small, global_attn_indexes=[0])).input == (3, 32, 32)


def test_a_mask_is_given_also_where_the_text_comes_late():
    vision = {"image_size": 32, "width_coefficient": 0.2, "depth_coefficient": 0.1, "hidden_dim": 16}
    text = {**TOWER, "vocab_size": 50, "max_position_embeddings": 9}
    answer = tw.size(transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=64))
    assert answer.complete, answer.unknown
    assert any("text_model" in layer.name for layer in answer.layers)


def test_images_among_words_are_left_out_and_said_to_be():
    words = {"model_type": "llama", **TOWER, "vocab_size": 50, "max_position_embeddings": 9}
    settings = transformers.LlavaConfig(
        text_config=words, vision_config={"model_type": "clip_vision_model", **CLIP["vision_config"]}
    )
    answer = tw.size(settings)
    assert answer.input == (9,)
    assert any("without images" in note for note in answer.notes)
    assert answer.totals.macs == tw.size(transformers.LlamaModel(settings.text_config), (9,)).totals.macs
    assert tw.size(settings.vision_config).input == (3, 16, 16)


def test_images_among_words_are_given_where_a_model_needs_them():
    words = {"model_type": "opt", "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 24}
    words |= {"max_position_embeddings": 9, "num_attention_heads": 2, "word_embed_proj_dim": 16}
    asking = {**TOWER, "vocab_size": 50, "encoder_hidden_size": 16, "max_position_embeddings": 9}
    for kind, notes in ((transformers.Blip2Config, 0), (transformers.InstructBlipConfig, 0)):
        settings = kind(
            text_config=words, vision_config=CLIP["vision_config"], qformer_config=asking, num_query_tokens=4,
            image_token_index=7,
        )  # fmt: skip
        answer = tw.size(settings)
        assert answer.complete
        assert answer.input == (3, 16, 16)
        assert len(answer.notes) == notes


def test_more_tokens_than_positions_keep_their_numbers_are_cut_off():
    settings = transformers.LlamaConfig(**TOWER, vocab_size=50, max_position_embeddings=2**20)
    answer = tw.size(settings)
    assert answer.input == (2**16,)
    assert "It takes 1,048,576 tokens; here it gets 65,536." in answer.notes


def test_inputs_that_no_configuration_tells_are_named():
    settings = transformers.PerceiverConfig(d_latents=32, d_model=16, num_self_attends_per_block=1)
    with pytest.raises(InputError, match=r"What PerceiverModel takes \(inputs\) is not told"):
        tw.size(settings)
    assert tw.size(settings, (20, 16)).complete


def test_spectrograms_come_frame_by_frame_unless_the_number_of_frames_is_told():
    told = tw.size(transformers.WhisperConfig(num_mel_bins=8, max_source_positions=20, **WHISPER))
    assert told.input == (8, 40)
    guessed = tw.size(transformers.Wav2Vec2BertConfig(**TOWER))
    assert guessed.input == (1000, 160)
    assert "The recording of 1,000 frames is a guess; give another number to change it." in guessed.notes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2", "is not JSON"),
        ("[1, 2]", "has no 'model_type'"),
        ('{"model_type": "no such type"}', "is of a model of type 'no such type', which transformers"),
        ('{"model_type": "llama", "hidden_size": -3, "num_attention_heads": 2}', "can build"),
        ('{"model_type": "llama", "hidden_size": "wide"}', ""),
    ],
)
def test_configurations_of_nothing_are_one_sentence(tmp_path, text, sentence):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError) as caught:
        tw.size(tmp_path / "config.json", (4,))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(InputError, match=r"is a folder without a config\.json"):
        tw.size(tmp_path)


def test_code_of_others_does_not_run(tmp_path):
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('canary').touch()")
    settings = LLAMA_7B | SMALL | {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert tw.size(tmp_path, (4,)).complete
    assert not (tmp_path / "canary").exists()


def test_an_encoder_with_a_decoder_is_built_whole():
    settings = networks.whisper_settings()
    answer = tw.size(settings)
    assert answer.input == (8, 40)
    assert "one token" in " ".join(answer.notes) or "1 of them" in " ".join(answer.notes)
    expected = sum(each.numel() for each in transformers.WhisperModel(settings).parameters())
    assert answer.totals.parameters == expected


SEEING = {
    "qwen2_vl": lambda: transformers.Qwen2VLConfig().vision_config.__class__(
        depth=2, embed_dim=32, hidden_size=48, num_heads=2, mlp_ratio=2, patch_size=4
    ),
    "qwen2_5_vl": lambda: transformers.Qwen2_5_VLConfig().vision_config.__class__(
        depth=2, hidden_size=32, out_hidden_size=48, num_heads=2, intermediate_size=40, patch_size=4, window_size=16,
        fullatt_block_indexes=[1],
    ),
    "qwen3_vl": lambda: transformers.Qwen3VLConfig().vision_config.__class__(
        depth=2, hidden_size=32, out_hidden_size=48, num_heads=2, intermediate_size=40, patch_size=4,
        num_position_embeddings=64, deepstack_visual_indexes=[0],
    ),
    "glm4v": lambda: transformers.Glm4vConfig().vision_config.__class__(
        depth=2, hidden_size=32, out_hidden_size=32, num_heads=2, intermediate_size=40, patch_size=4, image_size=24,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEING)
def test_the_part_that_sees_among_words_gets_patches_in_a_row(kind):
    config, patches = SEEING[kind](), 6 * 8
    answer = tw.size(config, (patches, 3 * 2 * 4 * 4))
    assert answer.complete
    assert answer.lost == ()
    torch.manual_seed(0)
    module = type(build(config))(config).eval()
    assert answer.totals.parameters == sum(each.numel() for each in module.parameters())
    module.set_attn_implementation("eager")  # as above
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(patches, 96), grid_thw=torch.tensor([[1, 6, 8]]))
    assert 2 * answer.totals.macs == counter.get_total_flops()
    assert tw.size(module).totals.macs == tw.size(config).totals.macs, "of an image of a size that is found"
    with pytest.raises(InputError, match=r"takes blocks of 2 x 2 of them; give a multiple of 4\."):
        tw.size(config, (patches + 2, 96))
    with pytest.raises(InputError, match=r"0 patches make no image"):
        tw.size(config, (0, 96))


def test_windows_of_patches_are_followed_and_measured():
    config = SEEING["qwen2_5_vl"]()
    config.fullatt_block_indexes = []
    config.depth = 1
    torch.manual_seed(0)
    module = type(build(config))(config).double().eval()
    answer = tw.size(module, (96, 96))
    assert [layer.receptive_field for layer in answer.layers[:2]] == [(1,), (1,)]
    x = torch.randn(96, 96, dtype=torch.float64, requires_grad=True)
    merged = module(x, grid_thw=torch.tensor([[1, 8, 12]])).pooler_output
    for unit in (0, 5, 13, 23):  # in the order of the windows until they are put back
        (gradient,) = torch.autograd.grad(merged[unit].sum(), x, retain_graph=True)
        (seen,) = gradient.abs().sum(1).nonzero(as_tuple=True)
        ends = ((int(seen[0]), int(seen[-1])),)
        last = max(place for place, layer in enumerate(answer.layers) if layer.kind == "gather")
        assert answer.unit(last, (unit,)).clipped == ends
    assert answer.measured("merger.mlp.2", (0,), samples=1).seen == 16


def test_examples_in_a_row_bring_their_own_grids():
    class Grids(torch.nn.Module):
        def forward(self, hidden_states, grid_thw):
            return hidden_states, grid_thw

    example = Example(((6, 4),), names=("hidden_states",), numbers=(("grid_thw", ((1, 2, 3),)),), in_a_row=True)
    patches, grids = example.run(Grids(), [torch.zeros(2, 6, 4)])
    assert patches.shape == (12, 4)
    assert grids.tolist() == [[1, 2, 3], [1, 2, 3]]


CODEC = {"num_filters": 4, "codebook_size": 16, "codebook_dim": 8, "upsampling_ratios": [4, 2], "sampling_rate": 800}
MIMI = {"num_key_value_heads": 2, "head_dim": 8, "vector_quantization_hidden_dimension": 8, "upsample_groups": 16}
MIMI |= {"num_quantizers": 3, "num_semantic_quantizers": 1, "sliding_window": 40, "frame_rate": 50}
DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "downsampling_ratios": [2, 4], "hidden_size": 16}
DAC |= {"upsampling_ratios": [4, 2], "n_codebooks": 2, "codebook_size": 16, "codebook_dim": 4, "sampling_rate": 800}
SHORT = {"emb_dim": 16, "n_layers": 1, "n_heads": 2, "n_words": 50, "max_position_embeddings": 12}
SWITCH = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
SWITCH |= {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4, "expert_capacity": 64}


LED = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
LED |= {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_encoder_position_embeddings": 400}
LOCAL = {**TOWER, "attention_window": [4], "max_position_embeddings": 402}


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (lambda: transformers.EncodecConfig(**CODEC, hidden_size=8, num_lstm_layers=1), ((1, 800),)),
        (lambda: transformers.MimiConfig(**CODEC, **MIMI, **TOWER), ((1, 800),)),
        (lambda: transformers.SwitchTransformersConfig(**SWITCH, vocab_size=50), ((32,), (32,))),
        (lambda: transformers.DacConfig(**DAC), ((1, 800),)),
        (lambda: transformers.XLMConfig(**SHORT), ((12,),)),
        (lambda: transformers.FlaubertConfig(**SHORT), ((12,),)),
        # Masks of 160,000 and 78,400 numbers, of which few differ, decide what these do.
        (lambda: transformers.LongformerConfig(**LOCAL, vocab_size=50), ((400,),)),
        (lambda: transformers.LongformerConfig(**LOCAL, vocab_size=50), ((398,),)),
        (lambda: transformers.LEDConfig(**LED, vocab_size=50, attention_window=[4, 4]), ((280,), (12,))),
    ],
)
def test_numbers_that_decide_are_kept_and_experts_that_data_chooses_are_even(config, shapes):
    settings = config()
    settings._attn_implementation = "eager"
    answer = tw.size(settings, shapes if len(shapes) > 1 else shapes[0])
    assert answer.complete
    model = transformers.AutoModel.from_config(settings).eval()
    names = ["input_ids", "decoder_input_ids"] if len(shapes[0]) == 1 else ["input_values"]
    kind = torch.float32 if names == ["input_values"] else torch.int64
    inputs = {name: torch.full((1, *shape), 3, dtype=kind) for name, shape in zip(names, shapes, strict=False)}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    unseen = sum(layer.macs for layer in answer.layers if layer.kind == "recurrent" or "cdist" in layer.name)
    assert answer.totals.parameters == sum(each.numel() for each in model.parameters())
    assert 2 * (answer.totals.macs - unseen) == counter.get_total_flops()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50), lambda unit: (0, unit)),
        (lambda: transformers.LlamaConfig(**SMALL, vocab_size=50), lambda unit: (0, unit)),
        (
            lambda: transformers.MistralConfig(**SMALL, vocab_size=50, sliding_window=3, num_key_value_heads=4),
            lambda unit: (max(0, unit - 2 * 2), unit),
        ),
        (lambda: transformers.BertConfig(**SMALL, vocab_size=50), lambda unit: (0, 8)),
    ],
)
def test_tokens_see_what_masks_leave(config, seen, attention):
    settings = config()
    settings._attn_implementation = attention
    answer = tw.size(settings, (9,))
    place = max(place for place, layer in enumerate(answer.layers) if layer.output[:1] == (9,))
    units = [answer.unit(place, (unit,)) for unit in range(9)]
    assert [unit.clipped[0] for unit in units] == [seen(unit) for unit in range(9)]
    assert not any(unit.masked for unit in units)
