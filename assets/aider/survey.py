"""Lists what one message imports, for the installed Aider.

Usage: python -I -X utf8 survey.py LIST

Runs Aider under the launcher in a terminal and a repository of its own, against a few lines of
Ollama's API in this process, has it edit and commit one file, and writes the names of all modules
that were imported by then to LIST. Nothing but loopback is used; nothing is kept but LIST.
"""

import http.server
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

# Beside this file; isolated, Python does not look there.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import launch  # noqa: E402

del sys.path[0]

MODEL = "survey:1b"
REPLY = "hello.py\n```\nprint('hello')\n```\n"
PATIENCE = 120.0
PROMPT = re.compile(rb'\x1b\]7717;survey;\{"cue":"prompt"[^\x07]*\x07.*?\x1b\[\?2004h', re.DOTALL)


class Ollama(http.server.BaseHTTPRequestHandler):
    """Answers every chat with the same edit."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        message = {"role": "assistant", "content": REPLY}
        first = {"model": MODEL, "message": message, "done": False}
        last = {"model": MODEL, "message": {"role": "assistant", "content": ""}, "done": True}
        last.update(done_reason="stop", prompt_eval_count=9, eval_count=9)
        data = (json.dumps(first) + "\n" + json.dumps(last) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def make_repository(directory):
    repository = os.path.join(directory, "repository")
    os.mkdir(repository)
    write(os.path.join(repository, "hello.py"), "print('hi')\n")
    # Names that refer to each other: the map ranks them.
    write(os.path.join(repository, "one.py"), "def one(x):\n    return x + 1\n")
    write(os.path.join(repository, "two.py"), "from one import one\n\n\ndef two(x):\n    return one(x)\n")
    write(os.path.join(repository, "three.js"), "function three(x) { return two(x); }\n")
    identity = ["-c", "user.name=survey", "-c", "user.email=survey@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "begin"]):
        subprocess.run(["git", *words], cwd=repository, check=True, stdin=subprocess.DEVNULL)
    return repository


def arguments(directory):
    known = {
        "max_tokens": 8192,
        "max_input_tokens": 8192,
        "max_output_tokens": 8192,
        "litellm_provider": "ollama",
        "mode": "chat",
    }
    inside = lambda name: os.path.join(directory, name)  # noqa: E731
    write(inside("metadata.json"), json.dumps({f"ollama_chat/{MODEL}": known}))
    model = f"ollama_chat/{MODEL}"
    words = ["--model", model, "--weak-model", model, "--editor-model", model]
    words += ["--model-metadata-file", inside("metadata.json"), "--map-tokens", "1024"]
    words += ["--chat-history-file", inside("chat.md"), "--input-history-file", inside("input")]
    words += ["--llm-history-file", inside("log"), "--file", "hello.py", "--no-check-update"]
    words += ["--no-show-release-notes", "--no-analytics", "--no-show-model-warnings"]
    words += ["--no-gitignore", "--no-suggest-shell-commands", "--no-detect-urls"]
    return words


def aider(directory, repository, port, out):
    """The child: Aider in the terminal, then the list."""
    os.chdir(repository)
    os.environ.update(
        SQUAD_CUE_NONCE="survey",
        SQUAD_AGENT_DIR=directory,
        SQUAD_AGENT_HOME=os.path.join(directory, "home"),
        OLLAMA_API_BASE=f"http://127.0.0.1:{port}",
        TERM="xterm-256color",
        GIT_AUTHOR_NAME="survey",
        GIT_AUTHOR_EMAIL="survey@localhost",
        GIT_COMMITTER_NAME="survey",
        GIT_COMMITTER_EMAIL="survey@localhost",
    )
    before = set(sys.modules)
    sys.argv = ["launch.py", "--", *arguments(directory)]
    status = launch.main()
    names = sorted(name for name in sys.modules if name not in before and name.isprintable())
    write(out + ".new", "\n".join(names) + "\n")
    os._exit(status)


def drive(master):
    """Gives one message at the first prompt and leaves at the second."""
    said, told = b"", 0
    lines = [b"\x1b[200~Say hello.\x1b[201~\r", b"/exit\r"]
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([master], [], [], left)
        try:
            data = os.read(master, 65536) if ready else b""
        except OSError:
            data = b""
        if not data:
            break
        said += data
        while told < len(lines) and len(PROMPT.findall(said)) > told:
            os.write(master, lines[told])
            told += 1
    return told == len(lines), said


def main():
    if len(sys.argv) != 2:
        print("usage: survey.py LIST", file=sys.stderr)
        return 64
    out = os.path.abspath(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
    with tempfile.TemporaryDirectory() as directory:
        repository = make_repository(directory)
        child, master = pty.fork()
        if child == 0:
            aider(directory, repository, server.server_address[1], out)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done, said = drive(master)
        if not done:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        edited = open(os.path.join(repository, "hello.py"), encoding="utf-8").read()
        if not done or edited != "print('hello')\n":
            sys.stderr.write(said.decode("utf-8", "replace")[-2000:])
            print("Aider did not make the edit that it was told to", file=sys.stderr)
            return 1
    os.replace(out + ".new", out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
