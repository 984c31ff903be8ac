"""Pulling from a small server on 127.0.0.1 that resumes, redirects, cuts connections, changes files and lies.

test_pull.py PULL_DRIVER; the standard library only.
"""
import hashlib
import http.server
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

DRIVER = os.path.abspath(sys.argv.pop(1))


def gguf(seed, size=300_000):
    """A valid GGUF file with one I8 array of noise."""
    noise = random.Random(seed).randbytes(size)
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    return head + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 1, size) + noise


MODEL, CHANGED = gguf(1), gguf(2)
SHA = hashlib.sha256(MODEL).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` at any path ending in .gguf; the fields say how."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.log = []  # (path, headers) of each request
        self.reset()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the test

    def reset(self):
        self.body, self.etag, self.linked = MODEL, '"one"', None
        self.ranges = True  # honour Range
        self.cuts = []  # bytes after which the next answers break off
        self.codes = []  # status codes of the next answers
        self.redirect = None  # path -> Location
        self.length = True  # send Content-Length
        self.after_cut = None  # called when a connection was cut
        self.wrong_range = False  # answer 206 from another offset
        self.log.clear()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server
        s.log.append((self.path, dict(self.headers)))
        location = s.redirect and s.redirect(self.path)
        if location:
            self.send_response(302)
            self.send_header("Location", location)
            if s.linked:
                self.send_header("X-Linked-Etag", f'"{s.linked}"')
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"moved"[:4])
            return
        code = s.codes.pop(0) if s.codes else 200
        if code != 200 or not self.path.split("?")[0].endswith(".gguf"):
            self.send_response(code if code != 200 else 404)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"sorry")
            return
        self.send_file(s)

    def send_file(self, s):
        body, start = s.body, 0
        wanted = self.headers.get("Range")
        if wanted and s.ranges and self.headers.get("If-Range") == s.etag:
            start = int(wanted[len("bytes="):-1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            shown = start + 1 if s.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if s.etag:
            self.send_header("ETag", s.etag)
        if s.linked:
            self.send_header("X-Linked-Etag", f'"{s.linked}"')
        data = body[start:]
        if s.length:
            self.send_header("Content-Length", str(len(data)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if s.cuts:
            self.wfile.write(data[: s.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            if s.after_cut:
                s.after_cut()
            return
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass


class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, cls.second = Server(), Server()
        for s in (cls.server, cls.second):
            threading.Thread(target=s.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        for s in (cls.server, cls.second):
            s.shutdown()
            s.server_close()

    def setUp(self):
        self.home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.home)
        self.server.reset()
        self.second.reset()

    def pull(self, source="hf:a/b/m.gguf", *args, env=None):
        full = {k: v for k, v in os.environ.items() if k.lower() not in ("http_proxy", "all_proxy", "hf_token")}
        full.update(TOQUE_HOME=self.home, HF_ENDPOINT=self.server.url, no_proxy="127.0.0.1", **(env or {}))
        done = subprocess.run([DRIVER, source, *args], env=full, capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)
        return done.returncode == 0, done.stdout.strip()

    def stored(self, name="m"):
        with open(f"{self.home}/models/{name}/model.gguf", "rb") as f:
            return f.read()

    def assert_pulled(self, result, name="m", body=MODEL):
        self.assertEqual(result, (True, name))
        self.assertEqual(self.stored(name), body)
        self.assertEqual(os.listdir(f"{self.home}/downloads"), [])

    def assert_refused(self, result, status, *words):
        self.assertFalse(result[0], result)
        self.assertTrue(result[1].startswith(status + ": "), result[1])
        for word in words:
            self.assertIn(word, result[1])
        self.assertFalse(os.path.isdir(f"{self.home}/models") and os.listdir(f"{self.home}/models"))

    def parts(self):
        folder = f"{self.home}/downloads"
        return {n: os.path.getsize(f"{folder}/{n}") for n in os.listdir(folder)}

    def test_a_file_of_the_hub(self):
        self.server.linked = SHA
        self.assert_pulled(self.pull())
        self.assertEqual([p for p, _ in self.server.log], ["/a/b/resolve/main/m.gguf"])
        with open(f"{self.home}/models/m/model.json") as f:
            note = json.load(f)
        self.assertEqual((note["name"], note["source"], note["sha256"], note["size"]),
                         ("m", "hf:a/b/m.gguf", SHA, len(MODEL)))
        ok, text = self.pull()
        self.assertFalse(ok)
        self.assertIn("already", text)

    def test_other_forms_and_names(self):
        self.assert_pulled(self.pull("a/b:q/m.gguf", "mine"), "mine")
        self.assertEqual(self.server.log[-1][0], "/a/b/resolve/main/q/m.gguf")
        self.assert_pulled(self.pull(self.server.url + "/x/web%20model.gguf?sig=1"), "web-20model")
        with open(f"{self.home}/models/web-20model/model.json") as f:
            self.assertNotIn("sig", f.read())

    def test_a_local_file(self):
        path = f"{self.home}/here.gguf"
        with open(path, "wb") as f:
            f.write(MODEL)
        self.assert_refused(self.pull(path, "-", "0" * 64), "EFORMAT", SHA)
        self.assertEqual(self.pull(path, "-", SHA.upper()), (True, "here"))
        self.assertEqual(self.stored("here"), MODEL)

    def test_cut_connections_are_resumed(self):
        self.server.cuts = [1000, 70_000, 1]
        self.assert_pulled(self.pull())
        ranges = [h.get("Range") for _, h in self.server.log]
        self.assertEqual(ranges, [None, "bytes=1000-", "bytes=71000-", "bytes=71001-"])

    def make_part(self):
        """Leaves a part of some ten thousand bytes behind; returns its path and size."""
        self.server.cuts = [100_000]
        self.assert_refused(self.pull("hf:a/b/m.gguf", "-", "-", "40000"), "ECANCELED", "goes on after")
        self.server.cuts = []
        self.server.log.clear()
        name, size = next((n, size) for n, size in self.parts().items() if n.endswith(".part"))
        self.assertGreaterEqual(size, 40_000)
        return f"{self.home}/downloads/{name}", size

    def test_giving_up_keeps_the_part(self):
        self.server.cuts = [100_000] + [0] * 10
        self.assert_refused(self.pull(), "EIO")
        self.assertIn(100_000, self.parts().values())
        self.assertEqual(len(self.server.log), 6)

    def test_a_later_pull_resumes(self):
        _, size = self.make_part()
        self.assert_pulled(self.pull())
        self.assertEqual([h.get("Range") for _, h in self.server.log], [f"bytes={size}-"])

    def test_a_changed_file_starts_over(self):
        def change():
            self.server.body, self.server.etag = CHANGED, '"two"'
        self.server.cuts, self.server.after_cut = [100_000], change
        self.assert_pulled(self.pull(), body=CHANGED)
        self.assertEqual(self.server.log[1][1].get("If-Range"), '"one"')

    def test_a_changed_announcement_starts_over(self):
        # The hub redirects to storage whose ETag (carelessly) stays the same.
        self.server.redirect = lambda path: self.second.url + "/store.gguf"
        self.server.linked = SHA
        def change():
            self.second.body, self.server.linked = CHANGED, hashlib.sha256(CHANGED).hexdigest()
        self.second.cuts, self.second.after_cut = [100_000], change
        self.assert_pulled(self.pull(), body=CHANGED)

    def test_servers_that_ignore_or_confuse_ranges(self):
        self.server.cuts, self.server.ranges = [100_000], False
        self.assert_pulled(self.pull())
        self.server.reset()
        self.server.cuts, self.server.wrong_range = [100_000], True
        self.assert_pulled(self.pull("hf:a/b/n.gguf"), "n")
        self.server.reset()
        self.server.cuts, self.server.etag = [100_000], None
        self.assert_pulled(self.pull("hf:a/b/o.gguf"), "o")
        self.assertNotIn("Range", self.server.log[-1][1])
        self.server.reset()
        self.server.cuts, self.server.etag = [100_000], 'W/"weak"'
        self.assert_pulled(self.pull("hf:a/b/p.gguf"), "p")
        self.assertNotIn("Range", self.server.log[-1][1])

    def test_a_part_that_is_whole_is_not_fetched_again(self):
        part, _ = self.make_part()
        with open(part, "wb") as f:
            f.write(MODEL)
        self.assert_pulled(self.pull())
        self.assertEqual([h.get("Range") for _, h in self.server.log], [f"bytes={len(MODEL)}-"])

    def test_a_part_that_is_too_long_starts_over(self):
        part, _ = self.make_part()
        with open(part, "wb") as f:
            f.write(MODEL + b"more")
        self.assert_pulled(self.pull())

    def test_without_a_length(self):
        self.server.length = False
        self.assert_pulled(self.pull("hf:a/b/m.gguf", "-", SHA))

    def test_wrong_hashes_are_refused_and_forgotten(self):
        self.assert_refused(self.pull("hf:a/b/m.gguf", "-", "0" * 64), "EFORMAT", SHA, "0" * 64)
        self.assertEqual(self.parts(), {})
        self.server.linked = "f" * 64
        self.assert_refused(self.pull(), "EFORMAT", "hub announces")
        self.assert_refused(self.pull("hf:a/b/m.gguf", "-", "123"), "EINVAL", "64 hexadecimal")

    def test_what_is_no_gguf_is_refused_and_forgotten(self):
        for body in (b"<html>login</html>", b"", MODEL[:-1]):
            self.server.body = body
            self.assert_refused(self.pull(), "EFORMAT")
            self.assertEqual(self.parts(), {})

    def test_codes(self):
        self.server.codes = [404]
        self.assert_refused(self.pull(), "ENOTFOUND", "404")
        self.server.codes = [401]
        self.assert_refused(self.pull(), "EINVAL", "HF_TOKEN")
        self.server.codes = [418]
        self.assert_refused(self.pull(), "EIO", "418")
        self.server.codes = [503, 429]
        self.assert_pulled(self.pull())

    def test_redirects(self):
        self.server.redirect = lambda path: "/final.gguf" if "resolve" in path else None
        self.assert_pulled(self.pull())
        self.server.redirect = lambda path: "/again.gguf"
        self.server.log.clear()
        ok, text = self.pull("hf:a/b/loop.gguf")
        self.assertFalse(ok)
        self.assertIn("redirects more than", text)
        self.assertEqual(len(self.server.log), 6)
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x.gguf", "gopher://127.0.0.1/"):
            self.server.redirect = lambda path: target
            ok, text = self.pull("hf:a/b/odd.gguf")
            self.assertFalse(ok)
            self.assertIn("only http and https", text)

    def test_the_token_goes_to_the_hub_only(self):
        self.server.redirect = lambda path: self.second.url + "/store.gguf"
        token = {"HF_TOKEN": "hf_secret"}
        self.assert_pulled(self.pull(env=token))
        self.assertEqual(self.server.log[-1][1].get("Authorization"), "Bearer hf_secret")
        self.assertEqual(len(self.second.log), 1)
        self.assertNotIn("Authorization", self.second.log[-1][1])
        self.assert_pulled(self.pull(self.second.url + "/direct.gguf", env=token), "direct")
        self.assertNotIn("Authorization", self.second.log[-1][1])
        self.assert_refused_with_token("a\nX-Injected: 1")

    def assert_refused_with_token(self, token):
        ok, text = self.pull("hf:a/b/token.gguf", env={"HF_TOKEN": token})
        self.assertFalse(ok)
        self.assertIn("HF_TOKEN", text)

    def test_two_at_once_do_not_mix(self):
        release = threading.Event()
        self.server.cuts, self.server.after_cut = [100_000], lambda: release.wait(20)
        results = []
        first = threading.Thread(target=lambda: results.append(self.pull()))
        first.start()
        deadline = time.time() + 20
        while time.time() < deadline and not self.server.log:  # the part is locked before the request is sent
            time.sleep(0.02)
        ok, text = self.pull()
        release.set()
        first.join()
        self.assertFalse(ok)
        self.assertTrue(text.startswith("EBUSY"), text)
        self.assert_pulled(results[0])

    def test_a_disk_that_is_full_or_fails_at_any_call(self):
        """The driver is linked with tests/faults/faulty.c, which TOQUE_FAULT tells what fails."""
        for mode in ("full", "error"):
            at, calls = 0, 0
            while calls >= at:  # the call that was to fail came
                at += 1
                shutil.rmtree(self.home)
                os.mkdir(self.home)
                count = f"{self.home}/calls"
                ok, text = self.pull(env={"TOQUE_FAULT": f"{mode} {at}", "TOQUE_FAULT_COUNT": count})
                self.assertEqual(len(text.splitlines()), 1, text)
                with open(count) as f:
                    calls = int(f.read())
                if not ok:
                    self.assert_refused((ok, text), text.split(":")[0])
                    self.assertIn(text.split(":")[0], ("EIO", "ENOTFOUND"), text)
                    self.assert_pulled(self.pull())  # what was left behind does no harm
                self.assertEqual(self.stored(), MODEL)
            self.assertGreater(at, 10)

    def test_an_unreachable_server(self):
        self.assert_refused(self.pull("http://127.0.0.1:1/x.gguf"), "EIO", "cannot fetch")


if __name__ == "__main__":
    unittest.main(verbosity=1)
