"""The lab: real servers in containers, a stand-in for the i-Reporter server, its data and its load. Test equipment only."""

import sys
from pathlib import Path

# The product's core, which the lab asks what a record says.
sys.path.append(str(Path(__file__).resolve().parent.parent / "module_utils"))
