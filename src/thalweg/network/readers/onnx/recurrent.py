"""Recurrent layers: LSTM, GRU and the plain one, in one direction or both."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.network.graph import written
from thalweg.network.readers.onnx.operations import Call, handles
from thalweg.network.readers.onnx.values import Value

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@handles(*_GATES)
def _recurrent(call: Call) -> Sequence[Value]:
    x, gates = call.array(0), _GATES[call.node.operator]
    batch_first = call.node.integer("layout", 0) == 1
    inputs, states = call.weight(1), call.weight(2)
    if len(x.shape) != 3 or inputs is None or states is None or len(inputs.shape) != 3 or len(states.shape) != 3:
        call.fail(f"needs a sequence of vectors and its weights, not {written(x.shape)}")
    ways, rows, width = inputs.shape
    hidden = rows // gates
    if x.shape[2] != width or rows != gates * hidden or states.shape != (ways, rows, hidden) or ways not in (1, 2):
        call.fail(
            f"has weights {written(inputs.shape)} and {written(states.shape)}, which do not go with its input "
            f"{written(x.shape)}"
        )
    bias = call.weight(3)
    if bias is not None and bias.shape != (ways, 2 * rows):
        call.fail(f"has biases {written(bias.shape)} for {rows} rows")
    time, batch = (1, 0) if batch_first else (0, 1)
    steps, examples = x.shape[time], x.shape[batch]
    if not x.is_constant and steps < 1:
        call.fail("has no steps to take")
    way = call.node.text("direction", "forward")
    reverse = None if ways == 2 else way == "reverse"
    recorder, name, module = call.recorder, call.name, call.module
    shape = (examples, steps, ways * hidden) if batch_first else (steps, examples, ways * hidden)
    weights = [inputs, states, *call.weights(3, 7)]
    begun = [call.array(place) for place in (5, 6) if call.has(place)]
    if all(each.is_constant for each in (x, *begun)):
        out = recorder.constant(shape)
    else:
        macs = examples * steps * ways * rows * (width + hidden)
        out = recorder.recurrent(x, time, shape, macs, weights, name, module, reverse, begun, examples=batch)
    split = recorder.reshape(out, (*shape[:2], ways, hidden), name, module)
    every = split if batch_first else recorder.permute(split, (0, 2, 1, 3))
    if not (call.wants(1) or call.wants(2)):
        return [Value(every)]
    last = (examples, ways, hidden) if batch_first else (ways, examples, hidden)
    return [Value(every), *(Value(recorder.state(out, time, last, (batch, 0 if batch_first else 1))) for _ in range(2))]
