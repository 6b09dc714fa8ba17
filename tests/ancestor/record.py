#!/usr/bin/env python3
"""Records what the ancestor's real client sends, and how it takes each kind of answer.

What it is: runs the `hs` of hs 0.0.10 (see client.sh) on copies of model folders against a socket of its own and writes
  hs-0.0.10-upload.http        the request, byte for byte: request line, headers, blank line, body
  hs-0.0.10-upload-bare.http   the same for a folder without serving.yaml and contract: the SavedModel of ../models/half_plus_two
  hs-0.0.10-answers.json       per answer of the server: what the client printed and its exit code
What it is not: a server that understands the request; it reads Content-Length and no more.
What must stay true: the bytes are written as they came; only what the client *prints* is cleaned of this machine's paths and ports.

usage: record.py HS [DIR]     HS: the client, as client.sh prints it; DIR: where to write, default this folder
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "linear_regression"
BARE_MODEL = HERE.parent / "models" / "half_plus_two" / "saved_model"

MODEL_BUILD = {
    "id": 12,
    "model": {
        "id": 5,
        "name": "linear_regression",
        "modelType": "python:3.6",
        "description": "y = 2*a + 3*b, the getting-started model",
        "modelContract": 'model_name: "linear_regression"\nsignatures {\n  signature_name: "infer"\n}\n',
        "created": "2018-07-17T09:12:44.101",
        "updated": "2018-07-17T10:01:02.55",
    },
    "version": 3,
    "started": "2018-07-17T10:01:02.6",
    "status": "Pending",
}


def http(status, body, content_type="application/json", chunked=False):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
    if chunked:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
        return (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + framed
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def json_bytes(value):
    return json.dumps(value).encode()


# name -> (bytes to answer with, whether the request's body is read first). None: nothing listens.
ANSWERS = {
    "success": (http("200 OK", json_bytes(MODEL_BUILD)), True),
    "success-chunked": (http("200 OK", json_bytes(MODEL_BUILD), chunked=True), True),
    "400-json": (http("400 Bad Request", json_bytes({"error": "Client", "information": {"message": "no payload"}})), True),
    "500-json": (http("500 Internal Server Error", json_bytes({"error": "Client", "information": {"message": "no payload"}})), True),
    "500-text": (http("500 Internal Server Error", b"There was an internal server error.", "text/plain; charset=UTF-8"), True),
    "200-empty": (http("200 OK", b""), True),
    "200-text": (http("200 OK", b"OK", "text/plain"), True),
    "413-before-the-body": (http("413 Payload Too Large", json_bytes({"error": "Client", "information": {"message": "too large"}})), False),
    "closed-without-answer": (b"", True),
    "nothing-listens": None,
}


def read_request(connection, with_body):
    """The head, and the body when asked for; both as they came."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not with_body:
        return data
    length = int(re.search(rb"(?im)^content-length: *(\d+)", head).group(1))
    while len(body) < length:
        body += connection.recv(65536)
    assert len(body) == length, "more came than Content-Length says"
    return head + b"\r\n\r\n" + body


def serve_once(listener, answer, with_body, requests):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(20)
        requests.append(read_request(connection, with_body))
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass


def run_client(client, port, folder, name):
    with tempfile.TemporaryDirectory() as temp:
        model = pathlib.Path(temp, name)
        shutil.copytree(folder, model)
        environment = {"PATH": os.environ["PATH"], "HOME": temp, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [client, "upload", "--host", "localhost", "--port", str(port)],
            cwd=model, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
        )
    return {"exit": done.returncode, "stdout": clean(done.stdout, port), "stderr": last_lines(clean(done.stderr, port))}


def clean(output, port):
    text = output.decode().replace(f":{port}", ":PORT").replace(f"port={port}", "port=PORT")
    return re.sub(r"object at 0x[0-9a-f]+", "object at ADDRESS", text)


def last_lines(text):
    """Of a traceback, the final line; it names no path."""
    lines = text.splitlines()
    return lines if len(lines) < 4 else ["…", lines[-1]]


def upload(client, answer, folder=MODEL, name="linear_regression"):
    """One upload of a copy of `folder` under `name`: the request as it came, and what the client did."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if answer is not None:
            threading.Thread(target=serve_once, args=(listener, *answer, requests), daemon=True).start()
        else:
            listener.close()
        done = run_client(client, port, folder, name)
    return requests[0] if requests else None, done


def main():
    client = os.path.abspath(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE
    (out / "hs-0.0.10-upload.http").write_bytes(upload(client, ANSWERS["success"])[0])
    bare, _ = upload(client, ANSWERS["success"], BARE_MODEL, "half_plus_two")
    (out / "hs-0.0.10-upload-bare.http").write_bytes(bare)
    results = {name: upload(client, answer)[1] for name, answer in ANSWERS.items()}
    (out / "hs-0.0.10-answers.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
