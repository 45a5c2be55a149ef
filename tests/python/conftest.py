"""Where the tests find the modules that they share."""

import sys
from pathlib import Path

# Tests are imported with importlib, which leaves their directory off sys.path.
sys.path.insert(0, str(Path(__file__).parent))
