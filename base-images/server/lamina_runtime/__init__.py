"""The server inside a serving runtime's image.

Modules in reading order: settings, logs, model_path; contract, dtypes, packed, tensors, checking, backend, prediction; backends (arrays is of the numpy
calling convention); work, services (bare), health, reflection; json_values, json_form, http_request, http_server, http_routes; server.
"""
