"""Draw the README's picture anew: `make docs`. Needs a Chromium browser, which kaleido drives."""

from __future__ import annotations

from pathlib import Path

import thalweg as tw

HERE = Path(__file__).parent


def main() -> None:
    data = tw.load("digits")
    figure = tw.rates(tw.LeastSquares(data.X, data.t), steps=100).figure()
    figure.update_layout(title="Handwritten digits: the loss for every learning rate and every step, from one run")
    figure.write_image(HERE / "rates.png", width=900, height=480, scale=1)


if __name__ == "__main__":
    main()
