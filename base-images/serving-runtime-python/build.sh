#!/usr/bin/env bash
# Makes `serving-runtime-python:3.11`: the recipe of old, which the shared ../build.sh has become.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../build.sh" serving-runtime-python:3.11 "$@"
