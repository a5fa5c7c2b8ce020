"""Jobs that start within a second, because what they import was imported once.

A fork server is a process that has imported modules and waits. At each request it forks, and the
child becomes the process that `python -m MODULE WORDS...` would have started.
"""

import atexit
import contextlib
import gc
import importlib
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class ForkServer:
    """A fork server as its launcher sees it.

    Its process starts at the first request, and ends with the launcher. What it has forked goes on.
    """

    def __init__(self, *modules: str):
        self.modules = modules
        self.process: subprocess.Popen | None = None
        self.connection: Connection | None = None

    def open(self, environment: dict[str, str]) -> None:
        """Start the server's process, if none runs, and do not wait for it.

        Numeric libraries read in this environment how many threads to start; torch alone can be
        told another number later.
        """
        if self.process is not None and self.process.poll() is None:
            return
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *self.modules],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, command: list[str], environment: dict[str, str], log: Path) -> "Forked":
        """Start `[python, "-m", MODULE, WORDS...]` with an output file, in a session of its own.

        Raises:
            ChildProcessError: the server was killed meanwhile.
        """
        self.open(environment)
        pid = ask(self.connection, (command[2:], environment, str(log.absolute())))
        return Forked(pid, self.process, self.connection)


def ask(connection: Connection, request: Any) -> Any:
    """The server's answer to a request.

    Raises:
        ChildProcessError: the server has ended.
    """
    try:
        connection.send(request)
        return connection.recv()
    except (OSError, EOFError):
        raise ChildProcessError("the process that starts jobs was killed") from None


@dataclass
class Forked:
    """A forked process, with what `subprocess.Popen` offers of one."""

    pid: int
    server: subprocess.Popen
    connection: Connection
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended, minus the signal's number if one killed it. If the
        server was killed before, the server's code is all that is known."""
        if self.returncode is None:
            try:
                self.returncode = ask(self.connection, self.pid)
            except ChildProcessError:
                self.returncode = None if is_running(self.pid) else self.server.wait()
        return self.returncode


def is_running(pid: int) -> bool:
    """Whether a process runs, which need not be a child of this one."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # ended, and nobody has asked for its exit code


def main() -> None:
    """Be the server, and in each child the process that was asked for."""
    os.dup2(2, 1)  # what modules print is no output of a command
    # At the very end extensions complain of objects that nobody took down.
    atexit.register(redirect_output, os.devnull)
    connection = Connection(int(sys.argv[1]))
    for name in sys.argv[2:]:
        with contextlib.suppress(Exception):  # the job that needs it will say why it cannot be
            importlib.import_module(name)
    gc.freeze()  # to look through all of it for garbage takes a child seconds at its end
    if request := serve(connection):
        become(*request)


def serve(connection: Connection) -> tuple | None:
    """Answer requests until the launcher has ended; in a child what it is to become."""
    with connection, contextlib.suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            if isinstance(request, int):
                connection.send(find_exit_code(request))
            elif os.fork() == 0:
                os.setsid()  # before the launcher knows of it, whose signals are for the session
                connection.send(os.getpid())
                return request
    return None


def find_exit_code(pid: int) -> int | None:
    """The exit code of a child, None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def become(words: list[str], environment: dict[str, str], log: str) -> None:
    """Run a module as `python -m` does."""
    redirect_output(log)
    os.environ.clear()
    os.environ.update(environment)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def redirect_output(name: str) -> None:
    """Send standard output and error to the end of a file."""
    file = os.open(name, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


if __name__ == "__main__":
    main()
