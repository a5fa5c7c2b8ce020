"""Exported folders on a hub: a server of our own stands in for it."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import ae_lab
from ae_lab.inference.hub import check_push

COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as creating, uploading to and downloading from one takes."""

    def answer(self, content: object = None, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(self.server.status if self.server.status != 200 else status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            prefix = "spaces/" if asked.get("type") == "space" else ""
            self.answer({"url": f"{self.server.address}/{prefix}somebody/{asked['name']}"})
        elif "/preupload/" in self.path:
            files = json.loads(content)["files"]
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in files
            ]
            self.answer({"files": modes})
        elif "/commit/" in self.path:
            for line in content.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            self.answer({"commitUrl": f"{self.server.address}/x/y/commit/{COMMIT}",
                         "commitOid": COMMIT, "success": True})  # fmt: skip
        else:
            self.answer({})

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if "/resolve/" in self.path:
            name = self.path.partition(f"/resolve/{COMMIT}/")[2]
            if name not in self.server.files:
                return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            content = self.server.files[name]
            tag = hashlib.sha1(content).hexdigest()
            return self.answer(content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
        names = [
            {"rfilename": name, "size": len(self.server.files[name])} for name in self.server.files
        ]
        tree = [{"type": "file", "path": name, "size": len(content), "oid": "0"}
                for name, content in self.server.files.items()]  # fmt: skip
        if "/tree/" in self.path:
            return self.answer(tree)
        return self.answer({"id": "somebody/digits", "sha": COMMIT, "siblings": names,
                            "private": False, "tags": []})  # fmt: skip

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.requests, server.status = {}, [], 200
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def of_hub(hub, tmp_path):
    """The environment of a command that finds the stand-in."""
    pytest.importorskip("huggingface_hub")
    folder = str(tmp_path / "hub")
    return {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": folder, "HF_TOKEN": "hf_secret",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip


LOAD = """
import sys, ae_lab
try:
    print(ae_lab.load(sys.argv[1]).generate(2, seed=1).sum().item())
except ae_lab.core.errors.UserError as error:
    print(error)
"""


def test_a_pushed_folder_is_loaded_by_its_name(hub, of_hub, model, process, tmp_path, python):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.txt").write_text("not to be pushed")
    words = [f"run={model.path}", "output=out", "push=somebody/digits"]
    done = process("export", *words, **of_hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.address}/somebody/digits"
    assert {"model.safetensors", "config.yaml", "README.md"} <= hub.files.keys()
    assert not [name for name in hub.files if "secret" in name or "app.py" in name]
    loaded = python(LOAD, "somebody/digits", **of_hub)
    assert float(loaded.stdout) == pytest.approx(model.generate(2, seed=1).sum().item()), loaded
    assert not [one for one in hub.requests if "README" in one]  # what is not needed stays there


def test_a_space_holds_the_app(hub, of_hub, model, process, tmp_path):
    words = [f"run={model.path}", "output=out", "format.space=true", "push=somebody/digits"]
    done = process("export", *words, **of_hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.address}/spaces/somebody/digits"
    assert hub.files["requirements.txt"].decode() == f"ae_lab[app]=={ae_lab.__version__}\n"
    assert "sdk: gradio\napp_file: app.py" in hub.files["README.md"].decode()
    compile(hub.files["app.py"], "app.py", "exec")


def test_a_hub_that_refuses_is_one_line(hub, of_hub, model, process, tmp_path, python):
    hub.status = 401
    words = [f"run={model.path}", "output=out", "push=somebody/digits"]
    done = process("export", *words, **of_hub)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: push=somebody/digits: the hub did not take it (")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    loaded = python(LOAD, "somebody/digits", **of_hub)
    assert loaded.stdout.startswith("somebody/digits is no folder here, and the hub does not")


def test_without_the_library_a_mistyped_folder_is_still_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ae_lab.inference.hub.find_spec", lambda name: None)
    with pytest.raises(ae_lab.core.errors.UserError, match="ouptuts/run is no folder here"):
        ae_lab.load("ouptuts/run")
    with pytest.raises(ae_lab.core.errors.UserError, match="push=me/digits takes huggingface_hub"):
        check_push("me/digits")


def test_names_and_folders_are_told_apart(model, command, tmp_path):
    done = command("export", f"run={model.path}", "output=out", "push=digits")
    assert done.returncode == 2
    assert "push=digits is no name on the hub: give user/name" in done.stderr
    (tmp_path / "here").mkdir()
    with pytest.raises(ae_lab.core.errors.UserError, match="is not a run folder"):
        ae_lab.load(tmp_path / "here" / "digits")
