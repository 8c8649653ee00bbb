"""`python yosys_process.py commands.json`: Yosys commands, one after another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyosys import libyosys

if __name__ == "__main__":
    design = libyosys.Design()
    for command in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        libyosys.run_pass(command, design)
