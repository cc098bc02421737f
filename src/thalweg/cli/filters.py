"""`thalweg filters KERNEL`: what does a filter detect?"""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, show


def filters(
    kernel: Annotated[
        str, typer.Argument(metavar="KERNEL|FILE", help="Rows of numbers, a name, or a file with a network's weights.")
    ],
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="What it answers to: a picture file, or rows of numbers.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which array of the file; by default the first layer.")
    ] = None,
    json: Json = False,
    save: Save = None,
) -> None:
    """What a filter, or each of a network's first layer, detects: with a score, a direction and the reason.

    thalweg filters "0 -1 0; -1 4 -1; 0 -1 0" --image "0 0 1; 0 1 1; 1 1 1"

    Names: sobel, prewitt, scharr, roberts, laplacian, gaussian, box, sharpen,
    identity, gabor; with parameters: sobel:size=5,angle=45, laplacian:centre=8,
    gabor:size=15,wavelength=6,angle=30.

    Files: .onnx, .safetensors, .npz, .npy, and PyTorch states (.pt, .pth, .bin).

    A semicolon or the end of a line ends a row.

    The answer to a small image is printed, by cross-correlation and by
    convolution, zeros around the image; --save page.html draws taps, the waves
    that pass, a sheet of all kernels, and the answers to a picture, of many
    kernels those of the first 24.
    """
    check_save(save)
    from thalweg.network.filters import filters as judge

    show(judge(kernel, image, layer=layer), json=json, save=save)
