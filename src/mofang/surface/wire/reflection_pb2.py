# Written by proto/generate.py from proto/reflection.proto. Do not edit.
"""The messages of gRPC's server reflection, in a descriptor pool of their own."""

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
    b'\n\x10reflection.proto\x12\x12grpc.reflection.v1"\xf3\x02\n\x17ServerReflectionReque'
    b'st\x12\x12\n\x04host\x18\x01 \x01(\tR\x04host\x12*\n\x10file_by_filename\x18\x03 \x01(\tH\x00R\x0efileByFilena'
    b'me\x126\n\x16file_containing_symbol\x18\x04 \x01(\tH\x00R\x14fileContainingSymbol\x12b\n\x19fi'
    b'le_containing_extension\x18\x05 \x01(\x0b2$.grpc.reflection.v1.ExtensionRequ'
    b'estH\x00R\x17fileContainingExtension\x12B\n\x1dall_extension_numbers_of_type\x18'
    b'\x06 \x01(\tH\x00R\x19allExtensionNumbersOfType\x12%\n\rlist_services\x18\x07 \x01(\tH\x00R\x0clis'
    b'tServicesB\x11\n\x0fmessage_request"f\n\x10ExtensionRequest\x12\'\n\x0fcontaining_t'
    b'ype\x18\x01 \x01(\tR\x0econtainingType\x12)\n\x10extension_number\x18\x02 \x01(\x05R\x0fextensionNu'
    b'mber"\xae\x04\n\x18ServerReflectionResponse\x12\x1d\n\nvalid_host\x18\x01 \x01(\tR\tvalidHost'
    b'\x12V\n\x10original_request\x18\x02 \x01(\x0b2+.grpc.reflection.v1.ServerReflection'
    b'RequestR\x0foriginalRequest\x12f\n\x18file_descriptor_response\x18\x04 \x01(\x0b2*.grp'
    b'c.reflection.v1.FileDescriptorResponseH\x00R\x16fileDescriptorResponse'
    b'\x12r\n\x1eall_extension_numbers_response\x18\x05 \x01(\x0b2+.grpc.reflection.v1.Ex'
    b'tensionNumberResponseH\x00R\x1ballExtensionNumbersResponse\x12_\n\x16list_ser'
    b"vices_response\x18\x06 \x01(\x0b2'.grpc.reflection.v1.ListServiceResponseH\x00R"
    b'\x14listServicesResponse\x12J\n\x0eerror_response\x18\x07 \x01(\x0b2!.grpc.reflection.'
    b'v1.ErrorResponseH\x00R\rerrorResponseB\x12\n\x10message_response"L\n\x16FileDes'
    b'criptorResponse\x122\n\x15file_descriptor_proto\x18\x01 \x03(\x0cR\x13fileDescriptorPr'
    b'oto"j\n\x17ExtensionNumberResponse\x12$\n\x0ebase_type_name\x18\x01 \x01(\tR\x0cbaseType'
    b'Name\x12)\n\x10extension_number\x18\x02 \x03(\x05R\x0fextensionNumber"T\n\x13ListServiceRe'
    b'sponse\x12=\n\x07service\x18\x01 \x03(\x0b2#.grpc.reflection.v1.ServiceResponseR\x07se'
    b'rvice"%\n\x0fServiceResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"S\n\rErrorResponse\x12\x1d\n'
    b'\nerror_code\x18\x01 \x01(\x05R\terrorCode\x12#\n\rerror_message\x18\x02 \x01(\tR\x0cerrorMessag'
    b'e2\x8b\x01\n\x10ServerReflection\x12w\n\x14ServerReflectionInfo\x12+.grpc.reflection'
    b'.v1.ServerReflectionRequest\x1a,.grpc.reflection.v1.ServerReflectio'
    b'nResponse"\x00(\x010\x01b\x06proto3'
)


def _message(name):
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("grpc.reflection.v1." + name))


ServerReflectionRequest = _message("ServerReflectionRequest")
ExtensionRequest = _message("ExtensionRequest")
ServerReflectionResponse = _message("ServerReflectionResponse")
FileDescriptorResponse = _message("FileDescriptorResponse")
ExtensionNumberResponse = _message("ExtensionNumberResponse")
ListServiceResponse = _message("ListServiceResponse")
ServiceResponse = _message("ServiceResponse")
ErrorResponse = _message("ErrorResponse")
