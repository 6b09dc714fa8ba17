"""The server inside a serving-runtime-python image. Modules in reading order: settings, model_path, model, prediction, health, server."""
