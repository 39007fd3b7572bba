# Written by proto/generate.py from proto/health.proto. Do not edit.
"""The messages of gRPC's health service, in a descriptor pool of their own."""

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
    b'\n\x0chealth.proto\x12\x0egrpc.health.v1".\n\x12HealthCheckRequest\x12\x18\n\x07service\x18'
    b'\x01 \x01(\tR\x07service"\xb1\x01\n\x13HealthCheckResponse\x12I\n\x06status\x18\x01 \x01(\x0e21.grpc.he'
    b'alth.v1.HealthCheckResponse.ServingStatusR\x06status"O\n\rServingStat'
    b'us\x12\x0b\n\x07UNKNOWN\x10\x00\x12\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0bNOT_SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN'
    b'\x10\x032\xb2\x01\n\x06Health\x12R\n\x05Check\x12".grpc.health.v1.HealthCheckRequest\x1a#.grp'
    b'c.health.v1.HealthCheckResponse"\x00\x12T\n\x05Watch\x12".grpc.health.v1.Heal'
    b'thCheckRequest\x1a#.grpc.health.v1.HealthCheckResponse"\x000\x01b\x06proto3'
)


def _message(name):
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("grpc.health.v1." + name))


HealthCheckRequest = _message("HealthCheckRequest")
HealthCheckResponse = _message("HealthCheckResponse")
