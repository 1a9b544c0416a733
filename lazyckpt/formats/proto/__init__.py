"""Protobuf messages of MindSpore's files: the schemas, and the classes that protoc makes of them."""
