"""Standard streams that never end what a command does."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class LastingFile(io.FileIO):
    """The file of a stream that takes every write.

    Once one has failed, as where the reader has gone or the disk is full, all go nowhere, those of
    libraries and child processes too. `failure` says why.
    """

    failure: OSError | None = None

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def make_lasting(stream: TextIO) -> TextIO:
    """A stream to the same place that lasts, and writes "?" for what its encoding does not have."""
    try:
        file = LastingFile(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError, ValueError):  # of a notebook or a test: no file is behind it
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        stream.encoding,
        "replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextmanager
def lasting_output() -> Iterator[None]:
    """Standard output and error that last while the block, or the function decorated, runs.

    A reader that has gone, as of `| head`, is nobody's mistake. Other failures end the process with
    exit code 1 once the block has done its work.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = output, _ = [make_lasting(stream) for stream in before]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
    failure = getattr(getattr(getattr(output, "buffer", None), "raw", None), "failure", None)
    if failure is not None and not isinstance(failure, BrokenPipeError):
        sys.exit(
            f"error: cannot write to standard output ({failure.strerror}): files of this command "
            "are complete, but not all of what it shows"
        )
