"""What is done around every call: measuring and tracing wrap the handlers that gRPC holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc

Around = Callable[[], AbstractContextManager[Any]]


def wrapped(handler: Any, around: Around) -> Any:
    """The handler with `around` about each call, a stream's whole length included."""
    coding = handler.request_deserializer, handler.response_serializer
    if inner := handler.unary_stream:
        if hasattr(inner, "experimental_non_blocking"):
            return handler  # the health service's watch, which holds no thread

        def streamed(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with around():
                yield from inner(request, context)

        return grpc.unary_stream_rpc_method_handler(streamed, *coding)
    inner = handler.unary_unary or handler.stream_unary

    def called(request: Any, context: grpc.ServicerContext) -> Any:
        with around():
            return inner(request, context)

    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(called, *coding)
    return grpc.unary_unary_rpc_method_handler(called, *coding)
