"""Files that exist whole or not at all."""

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DRAFT = re.compile(r"\.[0-9a-f]{32}")


def load(path: Path | str) -> dict[str, Any]:
    """Reads a JSON file that holds a dict, or says which file does not."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
    except ValueError as error:
        raise ValueError(
            "A study's files must be JSON; if you delete the file of a row, "
            f"`run` makes it again. Received: {path}, where {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"A study's files must hold a dict. Received: {path} with {content}"
        )
    return content


def create(path: Path, content: Mapping[str, Any]) -> bool:
    """Writes a file unless it exists; returns whether it did not."""
    text = json.dumps(content, indent=1, allow_nan=False)
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        # Line ends stay as they are, on any system.
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:
            # Some file systems, such as FAT, have no links.
            if path.exists():
                return False
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return True
