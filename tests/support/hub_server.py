"""A model hub on 127.0.0.1 that speaks what huggingface_hub says when it pushes, and keeps what arrives."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Hub:
    """What the hub has and was told. `answers` maps the end of a path to (status, headers) that it gives instead of
    doing its work.
    """

    endpoint: str = ""
    token: str = ""
    repositories: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status and JSON of one request."""
        if method == "PUT":  # the large files' own store, to which the hub sends the client without the token
            self.objects[path.rsplit("/", 1)[1]] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.repositories:
                return 409, {"error": "exists", "url": f"{self.endpoint}/{name}"}
            self.repositories[name] = wanted
            return 200, {"url": f"{self.endpoint}/{name}"}
        if path.endswith("/preupload/main"):
            modes = {True: "lfs", False: "regular"}
            files = [
                {"path": file["path"], "uploadMode": modes[file["path"].endswith(".safetensors")]}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": [{**file, "shouldIgnore": False} for file in files]}
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            actions = {"verify": {"href": f"{self.endpoint}/verify"}}
            objects = [
                {**each, "actions": {**actions, "upload": {"href": f"{self.endpoint}/store/{each['oid']}"}}}
                for each in wanted
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if path == "/verify":
            wanted = json.loads(body)
            content = self.objects[wanted["oid"]]
            return (
                (200, {})
                if len(content) == wanted["size"] and hashlib.sha256(content).hexdigest() == wanted["oid"]
                else (422, {})
            )
        return self._commit(path, body)

    def _commit(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                self.commits.append(value["summary"])
            elif operation["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            else:
                self.files[value["path"]] = self.objects[value["oid"]]
        return 200, {
            "success": True,
            "commitOid": COMMIT,
            "commitUrl": f"{self.endpoint}{path.removeprefix('/api/models').removesuffix('/main')}/{COMMIT}",
        }


@contextmanager
def running_hub(token: str) -> Iterator[Hub]:
    """The hub, which knows one token, until the block ends."""
    hub = Hub(token=token)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
            forced = next(
                (answer for end, answer in hub.answers.items() if self.path.endswith(end) or self.path.startswith(end)),
                None,
            )
            status, headers, content = 200, {}, {}
            if forced:
                status, headers = forced
            elif self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {hub.token}":
                status, headers = 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
            elif self.command == "GET":  # asked after a refusal: is the repository there?
                status, headers = 404, {"X-Error-Code": "RepoNotFound"}
            else:
                status, content = hub.respond(self.command, self.path, body)
            written = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(written)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(written)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: the requests are in `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
