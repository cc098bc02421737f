"""Networks that people know, written by hand in plain PyTorch under the names of their parts that people know.

Build them under `torch.device("meta")` to have no weights: `with torch.device("meta"): net = resnet(152)`.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402


def textbook():
    """The network of mission F3.2, for images of 3 x 112 x 112."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.MaxPool2d(2),
        nn.Conv2d(128, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256 * 14 * 14, 1024), nn.Linear(1024, 100),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride, as torchvision has it) and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def _shortcut(channels, width, stride):
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """Of He et al. 2016, with torchvision's names."""

    def __init__(self, block, stages, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, blocks in enumerate(stages):
            width, layers = 64 << number, []
            for place in range(blocks):
                layers.append(block(channels, width, 2 if number and not place else 1))
                channels = width * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet(depth=50):
    """ResNet-18, 34, 50, 101 or 152, for images of 3 x 224 x 224."""
    block = BasicBlock if depth < 50 else Bottleneck
    stages = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    return ResNet(block, stages)


def _double_convolution(channels, width):
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Of Ronneberger et al. 2015, padded, with 2x2 transposed convolutions on the way up."""

    def __init__(self, channels=3, classes=2, width=32, depth=4):
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(_double_convolution(*pair) for pair in zip([channels, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_double_convolution(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            kept.append(x)
        kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([kept.pop(), up(x)], dim=1))
        return self.head(x)


class Attention(nn.Module):
    """Self-attention of several heads, as vision transformers write it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class EncoderBlock(nn.Module):
    """Attention and a perceptron, each after a normalisation and beside a shortcut."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT of Dosovitskiy et al. 2021; B/16 by default."""

    def __init__(self, side=224, patch=16, width=768, depth=12, heads=12, classes=1000):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (side // patch) ** 2, width))
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class SwinBlock(nn.Module):
    """Attention in windows that are shifted over the map, of Liu et al. 2021; images are (batch, rows, columns, width).

    What a shift brings together from opposite borders is masked.
    """

    def __init__(self, width, heads, window, shift):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        batch, rows, columns, width = x.shape
        y, mask = self.norm1(x), None
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
            mask = self._mask(rows, columns, x.device)
        y = self._windows(y, rows, columns).reshape(-1, self.window**2, width)
        y = self.attn(y, mask).reshape(-1, self.window, self.window, width)
        y = y.reshape(batch, rows // self.window, columns // self.window, self.window, self.window, width)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, width)
        x = x + (torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y)
        return x + self.mlp(self.norm2(x))

    def _windows(self, x, rows, columns):
        x = x.reshape(-1, rows // self.window, self.window, columns // self.window, self.window, x.shape[-1])
        return x.permute(0, 1, 3, 2, 4, 5)

    def _mask(self, rows, columns, device):
        place = torch.zeros(1, rows, columns, 1, device=device)
        parts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for number, (row, column) in enumerate((row, column) for row in parts for column in parts):
            place[:, row, column] = number
        place = self._windows(place, rows, columns).reshape(-1, 1, 1, self.window**2)
        return torch.zeros_like(place.transpose(2, 3) - place).masked_fill(place.transpose(2, 3) != place, -100.0)


class Swin(nn.Module):
    """A small Swin transformer: patches, two blocks, a merging of patches, two more blocks."""

    def __init__(self, width=16, heads=2, window=4, classes=10):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 4, 4)
        self.stage1 = nn.Sequential(SwinBlock(width, heads, window, 0), SwinBlock(width, heads, window, window // 2))
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.stage2 = nn.Sequential(
            SwinBlock(2 * width, heads, window, 0), SwinBlock(2 * width, heads, window, window // 2)
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.stage1(self.patch_embed(x).permute(0, 2, 3, 1))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = self.stage2(self.reduction(self.norm(torch.cat(corners, dim=-1))))
        return self.head(x.mean((1, 2)))


class RMSNorm(nn.Module):
    """Scaled to a root mean square of one, as LLaMA writes it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def _rotated(x):
    """Rotary position embedding, of Su et al. 2021."""
    tokens, depth = x.shape[-2:]
    rates = 10000.0 ** (-torch.arange(0, depth, 2, device=x.device) / depth)
    angles = torch.outer(torch.arange(tokens, device=x.device).float(), rates)
    angles = torch.cat([angles, angles], dim=-1)
    one, other = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-other, one], dim=-1) * angles.sin()


class LlamaLayer(nn.Module):
    """One layer of LLaMA; keys and values may have fewer heads than queries."""

    def __init__(self, width, heads, key_heads, hidden):
        super().__init__()
        self.heads, self.key_heads, self.depth = heads, key_heads, width // heads
        self.attention_norm, self.ffn_norm = RMSNorm(width), RMSNorm(width)
        self.wq = nn.Linear(width, heads * self.depth, bias=False)
        self.wk = nn.Linear(width, key_heads * self.depth, bias=False)
        self.wv = nn.Linear(width, key_heads * self.depth, bias=False)
        self.wo = nn.Linear(heads * self.depth, width, bias=False)
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x):
        batch, tokens, width = x.shape
        y = self.attention_norm(x)
        q = self.wq(y).view(batch, tokens, self.heads, self.depth).transpose(1, 2)
        k = self.wk(y).view(batch, tokens, self.key_heads, self.depth).transpose(1, 2)
        v = self.wv(y).view(batch, tokens, self.key_heads, self.depth).transpose(1, 2)
        y = functional.scaled_dot_product_attention(
            _rotated(q), _rotated(k), v, is_causal=True, enable_gqa=self.heads != self.key_heads
        )
        x = x + self.wo(y.transpose(1, 2).reshape(batch, tokens, width))
        y = self.ffn_norm(x)
        return x + self.w2(functional.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    """Of Touvron et al. 2023; with 7 billion parameters by default. Takes token ids."""

    def __init__(self, words=32000, width=4096, depth=32, heads=32, key_heads=None, hidden=11008):
        super().__init__()
        self.tok_embeddings = nn.Embedding(words, width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, key_heads or heads, hidden) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.output = nn.Linear(width, words, bias=False)

    def forward(self, ids):
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


class SqueezeExcite(nn.Module):
    """A gate for each channel, of Hu et al. 2018."""

    def __init__(self, width, hidden):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(self.pool(x)).relu()).sigmoid()


class MobileBlock(nn.Module):
    """An inverted residual with a depthwise convolution and a gate, of Howard et al. 2019."""

    def __init__(self, width, hidden):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.gate = SqueezeExcite(hidden, hidden // 4)
        self.project = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return x + self.project(self.gate(self.depthwise(self.expand(x))))


class ShuffleUnit(nn.Module):
    """Grouped convolutions with a channel shuffle between, of Zhang et al. 2018."""

    def __init__(self, width, groups):
        super().__init__()
        self.groups = groups
        self.first = nn.Conv2d(width, width, 1, groups=groups)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.second = nn.Conv2d(width, width, 1, groups=groups)

    def forward(self, x):
        y = self.first(x)
        batch, width, rows, columns = y.shape
        y = y.view(batch, self.groups, width // self.groups, rows, columns).transpose(1, 2).reshape(y.shape)
        return functional.relu(x + self.second(self.depthwise(y)))


def generator(noise=100, width=64):
    """Transposed convolutions from a vector to an image of 3 x 64 x 64 (Radford et al. 2016)."""
    layers = [nn.Linear(noise, 8 * width * 16), nn.Unflatten(1, (8 * width, 4, 4)), nn.ReLU()]
    for level in (4, 2, 1):
        layers += [
            nn.ConvTranspose2d(2 * level * width, level * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(level * width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 5, 2, 2, output_padding=1, bias=False), nn.Tanh())


def super_resolution(width=32, factor=3):
    """Convolutions and a pixel shuffle (Shi et al. 2016), for one channel."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2), nn.Tanh(),
        nn.Conv2d(width, factor**2, 3, padding=1), nn.PixelShuffle(factor),
    )  # fmt: skip


def waveform(width=16):
    """Dilated convolutions over one axis, for sound of 1 x n."""
    layers = [nn.Conv1d(1, width, 10, stride=5), nn.GroupNorm(4, width), nn.GELU()]
    for dilation in (1, 2, 4):
        layers += [nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.AvgPool1d(4, ceil_mode=True), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 5)
    )


def video(width=8):
    """Convolutions over time, rows and columns, for clips of 3 x 8 x 32 x 32."""
    return nn.Sequential(
        nn.Conv3d(3, width, (3, 5, 5), (1, 2, 2), (1, 2, 2)), nn.InstanceNorm3d(width), nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)), nn.Conv3d(width, 2 * width, 3, padding="same"),
        nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(2 * width, 7),
    )  # fmt: skip


class Tagger(nn.Module):
    """An embedding, two recurrent layers both ways, and a label for every word. Takes token ids."""

    def __init__(self, words=500, width=24, hidden=32, labels=9):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.label = nn.Linear(2 * hidden, labels)

    def forward(self, ids):
        x, _ = self.lstm(self.embed(ids))
        return self.label(x)


def whisper_settings():
    """A small encoder of sound with a decoder of text, as a configuration of Hugging Face."""
    from transformers import WhisperConfig

    return WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=50, num_mel_bins=8, max_source_positions=20,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip


class LearnedQuery(nn.Module):
    """A query of its own that asks a sequence, as SigLIP pools."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.read = nn.Linear(width, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):
        x = self.read(x)
        return self.attention(self.query.repeat(x.shape[0], 1, 1), x, x)[0]
