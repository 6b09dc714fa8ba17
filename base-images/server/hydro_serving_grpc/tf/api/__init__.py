# A plain namespace: its modules are made by protoc and imported by their full names.
