"""Convolutions and their gradients in ONNX, depthwise ones alone where a gradient is asked for.

With x [B, C, H, W], kernel w [C, 1, k, k], output y and its gradient g, stride s::

    dx = Conv(g, w turned by half a turn)                    s = 1
    dx = ConvTranspose(g, w)                                 s > 1
    dw = Conv(x as [1, B C, H, W], g as [B C, 1, H', W'], dilation s), summed over B
    db = sum of g over B, H', W'

so that training needs no operator that inference lacks but ConvTranspose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from export.emitting import Context, Emitter, arguments, aten, shape_of
from reefleet.errors import UnsupportedOperator
from reefleet.model import Shape

_LAST = 1 << 31  # before the first position, for a slice that runs backwards


@dataclass(frozen=True, slots=True)
class _Depthwise:
    """A depthwise convolution whose gradient is wanted."""

    image: Shape  # B C H W
    out: Shape  # B C H' W'
    kernel: Shape  # C 1 k k
    stride: tuple[int, int]
    padding: tuple[int, int]


def convolution(context: Context, node: fx.Node) -> Sequence[str]:
    """Any convolution that is not transposed."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = arguments(node)
    if transposed:
        msg = "a transposed convolution is not lowered"
        raise UnsupportedOperator(msg)
    inputs = [context.value(x), context.value(weight)]
    if bias is not None:
        inputs.append(context.value(bias))
    attributes = {"strides": list(stride), "dilations": list(dilation), "group": groups}
    return [context.graph.add("Conv", inputs, pads=[*padding, *padding], **attributes)]


def convolution_backward(context: Context, node: fx.Node) -> Sequence[str]:
    """Gradients of input, kernel and bias of a depthwise convolution, those that are asked for."""
    gradient, x, weight, _, stride, padding, dilation, _, _, groups, wanted = arguments(node)
    shape = shape_of(weight)
    if (groups, shape[0], shape[1]) != (shape_of(x)[1], groups, 1) or set(dilation) != {1}:
        msg = f"the gradient of a convolution {shape} in {groups} groups is not lowered"
        raise UnsupportedOperator(msg)
    facts = _Depthwise(
        shape_of(x), shape_of(gradient), shape, (stride[0], stride[1]), (padding[0], padding[1])
    )
    g = context.value(gradient)
    return [
        _input_gradient(context, g, context.value(weight), facts) if wanted[0] else "",
        _kernel_gradient(context, g, context.value(x), facts) if wanted[1] else "",
        _bias_gradient(context, g) if wanted[2] else "",
    ]


def _input_gradient(context: Context, g: str, weight: str, facts: _Depthwise) -> str:
    graph, sizes = context.graph, facts.kernel[2:]
    groups = facts.kernel[0]
    if facts.stride == (1, 1):
        ends = graph.ints(-_LAST, -_LAST)
        turned = graph.add(
            "Slice", [weight, graph.ints(-1, -1), ends, graph.ints(2, 3), graph.ints(-1, -1)]
        )
        pads = [size - 1 - pad for size, pad in zip(sizes, facts.padding, strict=True)]
        return graph.add("Conv", [g, turned], pads=[*pads, *pads], group=groups)
    lost = [
        image - ((out - 1) * stride - 2 * pad + size)
        for image, out, stride, pad, size in zip(
            facts.image[2:], facts.out[2:], facts.stride, facts.padding, sizes, strict=True
        )
    ]
    return graph.add(
        "ConvTranspose",
        [g, weight],
        strides=list(facts.stride),
        pads=[*facts.padding, *facts.padding],
        output_padding=lost,
        group=groups,
    )


def _kernel_gradient(context: Context, g: str, x: str, facts: _Depthwise) -> str:
    graph = context.graph
    batch, channels, high, wide = facts.image
    lanes = batch * channels
    flat = graph.add("Reshape", [x, graph.ints(1, lanes, high, wide)])
    filters = graph.add("Reshape", [g, graph.ints(lanes, 1, *facts.out[2:])])
    # What the last output does not reach is cut off, so that the result is the kernel's size.
    ends = [
        (out - 1) * stride + size - image - pad
        for image, out, stride, pad, size in zip(
            facts.image[2:],
            facts.out[2:],
            facts.stride,
            facts.padding,
            facts.kernel[2:],
            strict=True,
        )
    ]
    found = graph.add(
        "Conv",
        [flat, filters],
        pads=[*facts.padding, *ends],
        dilations=list(facts.stride),
        group=lanes,
    )
    apart = graph.add("Reshape", [found, graph.ints(batch, *facts.kernel)])
    return graph.add("ReduceSum", [apart, graph.ints(0)], keepdims=0)


def _bias_gradient(context: Context, g: str) -> str:
    return context.graph.add("ReduceSum", [g, context.graph.ints(0, 2, 3)], keepdims=0)


EMITTERS: Mapping[Any, Emitter] = {
    aten.convolution.default: convolution,
    aten.convolution_backward.default: convolution_backward,
}
