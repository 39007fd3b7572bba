"""What both ends of the wire share: the generated protobuf messages and the raw form of tensors.

Used by the protocols on the server's side and by the SDK on the client's; knows nothing of either.
"""
