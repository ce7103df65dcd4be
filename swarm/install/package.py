"""Makes the launcher one file that runs with the standard library alone, apart from every release."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

PARTS: Final = ("filesystem", "records", "selection", "launcher")
"""Modules of this room that import only each other and the standard library."""

_MAIN: Final = "import sys\n\nfrom swarm.install.launcher import main\n\nsys.exit(main())\n"
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def pack_launcher() -> bytes:
    """Return `launch.pyz`, a Python zip application; equal sources give equal bytes.

    Write it beside the slots, owned by root, and start it with `python3 -I launch.pyz --root DIR -- ARGUMENTS`.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", _DATE), _MAIN)
        # Whole packages: from a zip Python does not import one that has no file of its own.
        for package in ("swarm", "swarm/install"):
            archive.writestr(zipfile.ZipInfo(f"{package}/__init__.py", _DATE), "")
        for part in PARTS:
            source = Path(__file__).with_name(f"{part}.py").read_bytes()
            archive.writestr(zipfile.ZipInfo(f"swarm/install/{part}.py", _DATE), source)
    return file.getvalue()
