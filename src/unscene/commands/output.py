"""What commands write into files besides their results: tables as JSON, figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unscene.files import replacing


def write_json(content: Any, path: Path | None) -> None:
    """Write ``content`` to ``path``, whole or not at all; nothing if there is no path."""
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
