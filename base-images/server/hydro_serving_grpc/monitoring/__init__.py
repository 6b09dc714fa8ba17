"""A plain namespace: its modules are made by protoc and imported by their full names."""

from pkgutil import extend_path

# Modules of the ancestor that are not here come from the model's own copy, where it has one.
__path__ = extend_path(__path__, __name__)
