"""A lock between processes on one file, let go when its holder ends for whatever reason."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import IO

_PAUSE = 0.1


class FileLock:
    """`with FileLock(path): ...` waits until no other process is inside.

    The file itself stays: removing it would let two holders in.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> FileLock:
        self._file = self.path.open("ab")
        while not _try_lock(self._file):
            time.sleep(_PAUSE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # which lets go
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: go on without
            return True
        return True
