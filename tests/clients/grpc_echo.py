"""A gRPC server (`serve`) and client (`call PORT`) by grpcio, without generated code: messages are plain bytes.

The server prints the port it listens on. The client makes a unary and a streaming call and checks messages, metadata and status.
"""

import sys
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/echo.Echo/Say":
            return grpc.unary_unary_rpc_method_handler(self.say)
        if call.method == "/echo.Echo/Chat":
            return grpc.stream_stream_rpc_method_handler(self.chat)
        return None

    def say(self, request, context):
        context.send_initial_metadata([("x-initial", "yes")])
        context.set_trailing_metadata([("x-trailing", "yes")])
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wish")
        return b"you said " + request

    def chat(self, requests, context):
        context.set_trailing_metadata([("x-trailing", "yes")])
        for request in requests:
            yield b"you said " + request


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Echo()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        say = channel.unary_unary("/echo.Echo/Say")
        answer, details = say.with_call(b"hello", timeout=10)
        assert answer == b"you said hello", answer
        assert ("x-initial", "yes") in details.initial_metadata(), details.initial_metadata()
        assert ("x-trailing", "yes") in details.trailing_metadata(), details.trailing_metadata()
        try:
            say(b"fail", timeout=10)
            raise AssertionError("the failure did not arrive")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "as you wish", error
        chat = channel.stream_stream("/echo.Echo/Chat")(iter([b"1", b"2", b"3"]), timeout=10)
        assert list(chat) == [b"you said 1", b"you said 2", b"you said 3"]
        assert ("x-trailing", "yes") in chat.trailing_metadata()
        big = b"x" * 3_000_000
        assert say(big, timeout=20) == b"you said " + big
    print("fine")


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(sys.argv[2])
