"""Measures whole commands of this project against what people would use instead. No part of what runs on a server."""

import sys
from pathlib import Path

# Part estimate computes with the project's own estimate.
sys.path.append(str(Path(__file__).resolve().parent.parent / "module_utils"))
