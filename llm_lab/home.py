"""Where things are kept, and how they are written: the one place that knows folders.

`LLM_LAB_HOME` (a folder on a Colab Drive, say) moves everything that a reader makes; without it the repository holds
it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def root() -> Path:
    """The folder that holds what a reader makes: `LLM_LAB_HOME` if it is set, else the repository."""
    return Path(os.environ.get("LLM_LAB_HOME") or REPOSITORY).expanduser()


def cache_folder() -> Path:
    """Where built corpora, tokenizers and packed rows wait to be used again. Safe to delete."""
    return root() / "data" / "cache"


def runs_folder() -> Path:
    """Where training runs go when no other folder is named."""
    return root() / "runs"


def is_fast() -> bool:
    """True when `LLM_LAB_FAST=1` asks for runs that are small enough for a test (seconds each)."""
    return os.environ.get("LLM_LAB_FAST") == "1"


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that a reader finds the old content or the new, never a part.

    The bytes go to a temporary file in the same folder, are forced to the disk, and are renamed over `path`.
    On any error (a full disk, say) the old content stays and the temporary file is removed. Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
