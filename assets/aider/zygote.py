"""Imports Aider once and forks agents from it.

Usage: python -I -X utf8 zygote.py MODULES        MODULES: file with names to import, or "-"

A new process that runs Aider spends over two seconds on imports, and ten of them hold ten copies
of the same pages. A fork of this process starts with everything imported and shares the pages.

Standard input is a Unix stream socket to the keeper. One JSON document per line:

  keeper -> {"fork":N,"args":[...],"cwd":"...","env":{...},"nice":0}   with the pty slave beside it
            and "room":"..." with the file of a control group, if the agent has one
  zygote -> {"ready":{"pid":P,"modules":M,"cpu_ms":C}}                 once, after the imports
  zygote -> {"forked":N,"pid":P}    or    {"refused":N,"why":"..."}

Every agent is forked twice, and the process between ends at once: the agent is an orphan that the
keeper, a subreaper, adopts. So an agent outlives this process, and the keeper reaps it as any
other child. An agent waits for its go, which comes only after its process id was reported: none
can run that the keeper does not know of.

There are no threads and no connections here: a fork would copy locks that nobody releases.
Requests are read completely before anything is done, and are bounded in size.
"""

import array
import ctypes
import fcntl
import gc
import json
import os
import random
import signal
import socket
import sys
import termios
import time
import traceback

# Beside this file; isolated, Python does not look there.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ahead  # noqa: E402
import launch  # noqa: E402
import share  # noqa: E402

del sys.path[0]

# Before anything heavy is imported: thread pools are made at import.
for name, value in {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(name, value)

REQUEST_LIMIT = 8 << 20
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
EXIT_NO_GO = 0
EXIT_CHILD = 120
LIBC = ctypes.CDLL(None, use_errno=True)


def read_names(path):
    if path == "-":
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return [line for line in file.read().split("\n") if line and not line.startswith("#")]
    except OSError as error:
        print(f"the list of modules cannot be read: {error}", file=sys.stderr)
        return []


class Keeper:
    """The socket to the keeper: whole requests in, whole answers out."""

    def __init__(self, stream):
        self.stream = stream
        self.data = bytearray()
        self.descriptors = []

    def say(self, **message):
        self.stream.sendall(json.dumps(message).encode() + b"\n")

    def next(self):
        """The next request and the descriptor beside it; None when the keeper is gone."""
        while b"\n" not in self.data:
            if len(self.data) > REQUEST_LIMIT:
                raise ValueError(f"a request has more than {REQUEST_LIMIT} bytes")
            room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
            data, control, _, _ = self.stream.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, payload in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                    self.descriptors.extend(received)
            if not data:
                return None
            self.data += data
        end = self.data.index(b"\n")
        line = bytes(self.data[:end])
        del self.data[: end + 1]
        tty = self.descriptors.pop(0) if self.descriptors else None
        return json.loads(line), tty


def become_terminal_process(tty):
    """A session of its own with `tty` as terminal and standard streams, and nothing else open."""
    os.setsid()
    fcntl.ioctl(tty, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(tty, number)
    os.closerange(3, 65536)
    # The streams of the zygote were set up for its own input and log.
    text = {"encoding": "utf-8", "closefd": False}
    sys.stdin = sys.__stdin__ = open(0, "r", errors="surrogateescape", **text)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, errors="surrogateescape", **text)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", **text)


def reset_signals():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def die_with(keeper):
    """Killed when the keeper ends, as every job; false when it has ended already."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == keeper


def enter(room):
    """Into the agent's own control group: what it starts is in it as well."""
    try:
        # 0 is whoever writes it. Nothing is made: the file is there, or there is no such group.
        room = os.open(room, os.O_WRONLY)
        try:
            os.write(room, b"0")
        finally:
            os.close(room)
    except OSError as error:
        print(f"the agent's limits are not enforced: {error}", file=sys.stderr)


def name_process(text):
    """Shows `text` where a list of processes would show the zygote's own command."""
    LIBC.prctl(PR_SET_NAME, b"aider", 0, 0, 0)
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):
        return
    room = end - start
    if start > 0 and room > 1:
        # The words this process was started with: its own memory, and nobody reads them any more.
        ctypes.memmove(start, text.encode()[: room - 1].ljust(room, b"\0"), room)


def agent(request, tty, go, keeper):
    """The agent, from its go to its end; never returns."""
    status = EXIT_CHILD
    try:
        if os.read(go, 1) != b"g" or not die_with(keeper):
            os._exit(EXIT_NO_GO)
        if request.get("room"):
            enter(request["room"])
        become_terminal_process(tty)
        reset_signals()
        gc.enable()
        if request.get("nice"):
            os.nice(request["nice"])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        random.seed()
        name_process(f"aider {request['env'].get('SQUAD_JOB', '')} {request['cwd']}")
        sys.argv = ["launch.py", *request["args"]]
        status = launch.main()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        # litellm leaves idle threads behind that a normal exit would wait for.
        os._exit(status)


def fork(keeper, request, tty, owner):
    """Forks an agent that `owner`, the keeper's process, adopts."""
    go_read, go_write = os.pipe()
    said_read, said_write = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            agent(request, tty, go_read, owner)
        os.write(said_write, str(pid).encode())
        os._exit(0)
    os.close(go_read)
    os.close(said_write)
    try:
        # Once it is reaped, the agent has been adopted.
        os.waitpid(between, 0)
        said = os.read(said_read, 32)
        if not said:
            raise OSError("the agent's process could not be made")
        keeper.say(forked=request["fork"], pid=int(said))
        os.write(go_write, b"g")
    finally:
        os.close(go_write)
        os.close(said_read)


def serve(keeper):
    owner = os.getppid()
    while True:
        received = keeper.next()
        if received is None:
            return 0
        request, tty = received
        number = request.get("fork")
        try:
            if tty is None:
                raise ValueError("no terminal came with the request")
            fork(keeper, request, tty, owner)
        except (OSError, ValueError) as error:
            keeper.say(refused=number, why=str(error))
        finally:
            if tty is not None:
                os.close(tty)


def main():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = os.environ.get("SQUAD_AGENT_HOME")
    if not home or len(sys.argv) != 2:
        print("usage: zygote.py MODULES, with SQUAD_AGENT_HOME set", file=sys.stderr)
        return 64
    # Aider reads its home at import, so all agents share this one.
    launch.live_in(home)
    # Nothing that is imported becomes garbage: looking for it takes a fifth of the time.
    gc.disable()
    ahead.import_everything(read_names(sys.argv[1]))
    ahead.rehearse()
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    if threads > 1:
        print(f"{threads} threads run after the imports: a fork would not be safe", file=sys.stderr)
        return 1
    share.keep_shared()
    keeper = Keeper(socket.socket(fileno=0))
    used = os.times()
    cpu = int((used.user + used.system) * 1000)
    keeper.say(ready={"pid": os.getpid(), "modules": len(sys.modules), "cpu_ms": cpu})
    return serve(keeper)


if __name__ == "__main__":
    sys.exit(main())
