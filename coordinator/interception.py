"""What is done around calls: measuring and tracing wrap handlers, chunks have their own coding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc

from reefleet.wire import chunks

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


class ChunkCoding(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no annotations
    """Has the two calls that carry bulk bytes work without copies: `Fetch` gives whole messages."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call, with another coding of what is bulky."""
        handler = continuation(details)
        if handler is None:
            return None
        if details.method == chunks.FETCH:
            return grpc.unary_stream_rpc_method_handler(
                handler.unary_stream, handler.request_deserializer, None
            )
        if details.method == chunks.PUT_UPDATE:
            return grpc.stream_unary_rpc_method_handler(
                handler.stream_unary, chunks.read_sent, handler.response_serializer
            )
        return handler
