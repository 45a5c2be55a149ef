"""``python -m dobbin``: the same as the command."""

import sys

from dobbin.command import main

sys.exit(main())
