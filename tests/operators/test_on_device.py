"""A JAX array that is spread over several devices, which a process of its own plays on one CPU."""

from __future__ import annotations

import os
import subprocess
import sys

SPREAD = """
import jax, numpy as np, thalweg as tw
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

generator = np.random.default_rng(0)
X, t = generator.standard_normal((64, 20)), generator.standard_normal(64)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("half",), axis_types=(kind,))
    for dtype in (np.float64, np.float32):
        truth = tw.rates(tw.LeastSquares(X.astype(dtype), t), 8).best_loss(range(1, 9))
        for spec in (P("half", None), P(None, "half"), P()):
            with jax.enable_x64(True):
                spread = jax.device_put(X.astype(dtype), NamedSharding(mesh, spec))
            assert len(spread.devices()) == 2
            ours = tw.rates(tw.LeastSquares(spread, t), 8)
            assert len(ours.problem.X.devices()) == 2, "X stays where it is"
            np.testing.assert_allclose(ours.best_loss(range(1, 9)), truth, rtol=1e-12)
print("all spread")
"""


def test_an_array_over_several_devices_stays_there():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SPREAD], capture_output=True, text=True, env=environment)
    assert done.stdout == "all spread\n", done.stderr
