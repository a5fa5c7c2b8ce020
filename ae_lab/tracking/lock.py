"""One process at a time in a run's folder."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ae_lab.core.errors import UserError


@contextmanager
def lock_folder(folder: Path, wait: bool) -> Iterator[None]:
    """Make a folder and hold it; remove it again if nothing was written to it.

    Raises:
        UserError: another process holds it and we do not `wait`, or it cannot be written to.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    said = False
    try:
        while not _acquire(lock, folder):
            if not wait:
                raise UserError(f"{folder} is being trained by another process: wait for it")
            if not said:
                print(f"waiting for the process that trains it: {folder}", flush=True)
            said = True
            time.sleep(1)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}): choose another folder with "
            "paths.outputs=..."
        ) from error
    try:
        for unfinished in folder.rglob("*.part"):  # by a process that was killed
            unfinished.unlink(missing_ok=True)
        yield
    finally:
        try:
            left = [path.name for path in folder.iterdir()]
            if left == [".lock"]:  # it did not come to a start; held until it is gone
                shutil.rmtree(folder)
        finally:
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return False
    if Path(lock.lock_file).exists():
        return True
    lock.release()  # another process has removed the folder meanwhile: this lock locks nothing
    return False
