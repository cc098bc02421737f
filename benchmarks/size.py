"""What `size` takes for spec texts, in this process after the import: counts and receptive fields of all layers.

The target is 10 ms for an ordinary network (peers need 0.17 s for counts alone, and seconds for receptive fields).
"""

from __future__ import annotations

import thalweg as tw
from harness import interleaved_medians
from thalweg.report import Table

TEXTBOOK = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"

VGG_16 = """
input 224x224x3; (conv3-64; relu) x2; maxpool; (conv3-128; relu) x2; maxpool; (conv3-256; relu) x3; maxpool
(conv3-512; relu) x3; maxpool; (conv3-512; relu) x3; maxpool; (FC-4096; relu; dropout) x2; FC-1000
"""


def resnet(stages):
    """Bottleneck residual networks, the stride in the 3x3 convolution."""
    lines = ["input 224x224x3; conv7-64/2 nobias pad 3; bn; relu; maxpool3/2 pad 1"]
    for number, blocks in enumerate(stages):
        width, stride = 64 * 2**number, 1 if number == 0 else 2
        body = "conv1-{0} nobias; bn; relu; conv3-{0}{1} nobias pad 1; bn; relu; conv1-{2} nobias; bn"
        lines.append(f"s{number}:; {body.format(width, f'/{stride}', 4 * width)}; e{number}:")
        lines.append(f"from s{number}; conv1-{4 * width}/{stride} nobias; bn; add e{number}; relu")
        lines.append(f"(i{number}:; {body.format(width, '', 4 * width)}; add i{number}; relu) x{blocks - 1}")
    return "\n".join([*lines, "globalavgpool; FC-1000"])


def u_net(depth=4, width=64):
    lines = ["input 512x512x1"]
    lines += [f"conv3-{width << level}; relu; d{level}: conv3-{width << level}; maxpool" for level in range(depth)]
    lines.append(f"(conv3-{width << depth}; relu) x2")
    for level in reversed(range(depth)):
        lines.append(f"convt2-{width << level}/2; concat d{level}; (conv3-{width << level}; relu) x2")
    return "\n".join([*lines, "conv1-2"])


SPECS = {
    "textbook": TEXTBOOK,
    "VGG-16": VGG_16,
    "U-Net": u_net(),
    "ResNet-50": resnet((3, 4, 6, 3)),
    "ResNet-152": resnet((3, 8, 36, 3)),
}


def main():
    times = interleaved_medians({name: lambda text=text: tw.size(text) for name, text in SPECS.items()}, repeats=15)
    unit_times = interleaved_medians(
        {name: lambda text=text: middle_unit(tw.size(text)) for name, text in SPECS.items()}, repeats=5
    )
    rows = []
    for name, text in SPECS.items():
        answer = tw.size(text)
        macs = answer.totals.macs
        rows.append(
            (name, len(answer.layers), answer.totals.parameters, macs, 1e3 * times[name], 1e3 * unit_times[name])
        )
    columns = ("network", "layers", "parameters", "MACs", "size, ms", "and one unit, ms")
    print(Table("size of a spec text, after the import", columns, rows).to_text())


def middle_unit(answer):
    """The clipped interval of the middle unit of the last layer that has positions."""
    place = max(place for place, each in enumerate(answer.layers) if len(each.output) > 1)
    return answer.unit(place, [extent // 2 for extent in answer.layers[place].output[:-1]])


if __name__ == "__main__":
    main()
