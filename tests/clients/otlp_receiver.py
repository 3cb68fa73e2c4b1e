"""An OTLP receiver (HTTP and gRPC) that decodes with the official Python messages and serves what it got as JSON.

Prints the HTTP and the gRPC port. `GET /seen` answers everything received so far, one entry per export; `POST /reset` forgets it;
`POST /fail?status=503&times=2` makes the next HTTP exports fail, over gRPC with UNAVAILABLE.
"""

import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SIGNALS = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}

lock = threading.Lock()
seen = []
failing = {"status": 0, "times": 0}


def refusal():
    with lock:
        if failing["times"] > 0:
            failing["times"] -= 1
            return failing["status"]
    return None


def keep(signal, transport, headers, message):
    with lock:
        seen.append({"signal": signal, "transport": transport, "headers": headers, "message": MessageToDict(message)})


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def do_GET(self):
        with lock:
            body = json.dumps(seen).encode()
        self.answer(200, body)

    def do_POST(self):
        body = self.body()
        url = urlsplit(self.path)
        if url.path == "/reset":
            with lock:
                seen.clear()
            return self.answer(200, b"")
        if url.path == "/fail":
            asked = parse_qs(url.query)
            with lock:
                failing.update(status=int(asked["status"][0]), times=int(asked["times"][0]))
            return self.answer(200, b"")
        status = refusal()
        if status:
            return self.answer(status, b"")
        signal = url.path.rsplit("/", 1)[-1]
        if signal not in SIGNALS:
            return self.answer(404, b"")
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request, response = SIGNALS[signal]
        message = request.FromString(body)
        keep(signal, "http " + url.path, {name.lower(): value for name, value in self.headers.items()}, message)
        self.answer(200, response().SerializeToString(), "application/x-protobuf")


def servicer(signal, base):
    class Servicer(base):
        def Export(self, request, context):
            if refusal():
                context.abort(grpc.StatusCode.UNAVAILABLE, "told to fail")
            keep(signal, "grpc", dict(context.invocation_metadata()), request)
            return SIGNALS[signal][1]()

    return Servicer()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer("traces", trace_service_pb2_grpc.TraceServiceServicer), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(servicer("metrics", metrics_service_pb2_grpc.MetricsServiceServicer), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(servicer("logs", logs_service_pb2_grpc.LogsServiceServicer), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    print(web.server_port, grpc_port, flush=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    # It ends with the test that started it.
    sys.stdin.read()


if __name__ == "__main__":
    main()
