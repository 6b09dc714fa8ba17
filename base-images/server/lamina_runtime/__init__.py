"""The server inside a serving runtime's image. Modules in reading order: settings, model_path, contract, backend, backends, prediction, health, server."""
