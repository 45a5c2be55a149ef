"""A process is killed at random moments, during commits, packs, closes and opens.

The environment variable `ZRS_KILLS` sets how often, `ZRS_SEED` determines the moments.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ARENA = Path(__file__).with_name("arena.py")
KILLS = int(os.environ.get("ZRS_KILLS", "12"))
SECONDS_EACH = 20


@pytest.mark.timeout(60 + SECONDS_EACH * KILLS)
def test_acknowledged_commits_survive_the_process(tmp_path: Path) -> None:
    seed = os.environ.get("ZRS_SEED") or str(random.getrandbits(32))
    arguments = [sys.executable, str(ARENA), str(tmp_path / "storage"), str(KILLS), seed]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ZRS_SEED={seed}: {done.stderr}"
    did = json.loads(done.stdout.splitlines()[-1])
    assert did["transactions"] > KILLS, did
    assert did["packs"] > 0, did
