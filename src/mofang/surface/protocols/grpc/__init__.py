"""The Open Inference Protocol, version 2, over gRPC; the only place that imports ``grpc``."""
