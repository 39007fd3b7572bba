"""HTTP/2 (RFC 9113) as gRPC needs it, and no more: frames, heads, streams, connections, a listener."""
