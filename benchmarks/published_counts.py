"""The counts that torchvision and timm publish, against ours: `published_counts.py FILE.csv [name...]`.

The file has the columns library, model, img_size, params, params_as_published and gmacs (billions of
multiply-accumulates). Every model that can be built here is built without weights and measured; the share that agrees
in all published digits is printed, and every other one with the reason. Needs torchvision and timm.

timm's figures come from fvcore, which adds to the convolutions and matrix products of a network 2 operations for each
value of a batch normalisation, 5 for each value of any other (one less where it has no weights), also of one that
standardises the kernels of a convolution, 1 for each value that goes into an adaptive pool and 4 for each that bilinear
upsampling makes (fvcore/nn/jit_handles.py). They are compared with our multiply-accumulates both as they are and with
these added.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import sys
import time
from collections import Counter

import thalweg as tw
from thalweg.errors import ThalwegError
from thalweg.network.graph import Kind
from thalweg.network.readers.reading import read

CLIPS = ("mvit_v1_b", "r3d_18", "r2plus1d_18", "swin3d_t", "swin3d_b")
FRAMES = 16
"""torchvision counts videos of so many frames; the published sizes name rows and columns only."""

BUILD = {"googlenet": {"aux_logits": False, "init_weights": False}, "inception_v3": {"init_weights": False}}
"""How torchvision builds the models that its weights belong to."""

SEGMENTATION = {"aux_loss": True}
DETECTED = 800
SEGMENTED = 520


def torchvision_model(row):
    """A model of torchvision and the input that its published counts are for."""
    import torch
    import torchvision

    name = row["model"].partition(".")[0]
    builder = torchvision.models.get_model_builder(name)
    keywords = dict(BUILD.get(name, {}))
    source = builder.__module__
    if ".segmentation" in source:
        keywords |= {} if name.startswith("lraspp") else SEGMENTATION
        keywords["weights_backbone"] = None
    if ".detection" in source:
        keywords["weights_backbone"] = None
        keywords |= {"num_keypoints": 17} if name.startswith("keypoint") else {}
    size = row["img_size"].strip("() ").replace(" ", "").split(",")[0]
    if name.startswith("vit"):
        keywords["image_size"] = int(size)
    try:
        with torch.device("meta"):
            model = builder(weights=None, **keywords)
    except NotImplementedError:  # RegNets look at values while they are built
        model = builder(weights=None, **keywords)
    side = int(size) if size else DETECTED if ".detection" in source else SEGMENTED
    if name.startswith("ssd"):
        side = 300
    if "_320_" in name:
        side = 320
    shape = (3, FRAMES, side, side) if name in CLIPS else (3, side, side)
    if ".detection" in source:
        if not name.endswith("_v2"):
            freeze(model)
        model = of_one_image(model)
    return model, shape


def freeze(model):
    """Make batch normalisation what it is in torchvision's detectors that start from trained backbones."""
    import torch
    from torchvision.ops.misc import FrozenBatchNorm2d

    for holder in model.backbone.modules():
        for name, module in holder.named_children():
            if isinstance(module, torch.nn.BatchNorm2d):
                setattr(holder, name, FrozenBatchNorm2d(module.num_features))


def of_one_image(model):
    """A detector, which takes a list of images, as a module that takes one."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(list(images))

    return Wrapped()


def timm_model(row):
    """A model of timm and the input that its published counts are for."""
    import timm
    import torch

    side = int(row["img_size"])
    with torch.device("meta"):
        try:
            model = timm.create_model(row["model"], pretrained=False, img_size=side)
        except TypeError:  # convolutional networks take any size
            model = timm.create_model(row["model"], pretrained=False)
    return model, (3, side, side)


def added_by_fvcore(model, graph):
    """What fvcore counts besides convolutions and matrix products."""
    import torch

    batch = torch.nn.modules.batchnorm._BatchNorm
    pools = torch.nn.modules.pooling._AdaptiveAvgPoolNd
    modules = dict(model.named_modules())
    standardised = [each for each in model.modules() if "StdConv" in type(each).__name__]
    added = sum((4 + hasattr(each, "gain")) * each.weight.numel() for each in standardised)
    for step in graph.operations:
        module = modules.get(step.name)
        if step.kind in (Kind.NORMALISATION, Kind.SPATIAL_NORMALISATION):
            per_value = (1 if isinstance(module, batch) else 4) + bool(step.weights)
            added += per_value * step.output.size
        elif step.kind in (Kind.GLOBAL_POOL, Kind.AVERAGE_POOL) and isinstance(module, pools):
            added += step.input.size
        elif step.kind is Kind.UPSAMPLE and getattr(module, "mode", "") == "bilinear":
            added += 4 * step.output.size
    return added


BUILDERS = {"torchvision": (torchvision_model, 3), "timm": (timm_model, 2)}


def compare(row):
    """What is published and what we count: what agrees, by name, and why the rest does not."""
    build, digits = BUILDERS[row["library"]]
    model, shape = build(row)
    graph = read(model, shape)
    answer = tw.size(graph)
    mine = answer.totals
    agree, reasons = {}, [] if answer.complete else [f"depends on data or unknown: {', '.join(answer.unknown[:3])}"]
    if row["library"] == "torchvision":
        agree["parameters"] = mine.parameters == int(row["params"])
    else:
        agree["parameters"] = abs(mine.parameters / 1e6 - float(row["params_as_published"].rstrip("M"))) <= 0.0051
    if not agree["parameters"]:
        reasons.append(f"parameters {mine.parameters:,} for {row['params_as_published']}")
    if row["gmacs"]:
        counted = {"MACs": mine.macs}
        if row["library"] == "timm":
            counted["MACs with what fvcore adds"] = mine.macs + added_by_fvcore(model, graph)
        for what, number in counted.items():
            agree[what] = abs(number / 1e9 - float(row["gmacs"])) <= 0.51 * 10**-digits
        if not agree[what]:
            reasons.append(f"{what} {number / 1e9:.4f} G for {row['gmacs']}")
    return agree, "; ".join(reasons)


def main():
    if len(sys.argv) < 2:
        print("Give a CSV file of published counts; see the first lines of this script for its columns.")
        return
    with open(sys.argv[1], newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if not sys.argv[2:] or row["model"].split(".")[0] in sys.argv[2:]]
    for library in BUILDERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
        if library not in sys.modules:
            print(f"{library} is not importable here: its models are left out.")
            continue
        report(library, [row for row in rows if row["library"] == library])


def report(library, rows):
    """Measure the models of one library and print what does not agree."""
    agreed, compared, began = Counter(), Counter(), time.perf_counter()
    for row in rows:
        try:
            agree, why = compare(row)
        except ThalwegError as error:
            agree, why = {"parameters": False, "MACs": False}, str(error)
        except Exception as error:
            print(f"  {row['model']}: not built here ({type(error).__name__}: {str(error).splitlines()[0][:120]})")
            continue
        agreed.update({what: int(yes) for what, yes in agree.items()})
        compared.update(dict.fromkeys(agree, 1))
        if why:
            print(f"  {row['model']} at {row['img_size'] or '-'}: {why}")
    for what in compared:
        share = agreed[what] / compared[what]
        print(f"{library}: {what} agree for {agreed[what]} of {compared[what]} models ({share:.1%})")
    print(f"{library}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
