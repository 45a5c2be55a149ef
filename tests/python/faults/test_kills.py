"""Either side is killed at random moments, during commits and reads.

The environment variable `ZRS_FAULTS` sets how often, `ZRS_SEED` determines the moments.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from faults.world import World

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("ZRS_FAULTS", "4"))
SECONDS_EACH = 20


@pytest.mark.timeout(120 + SECONDS_EACH * KILLS)
def test_either_side_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("ZRS_SEED") or random.getrandbits(32))
    print(f"ZRS_SEED={seed}")  # noqa: T201 -- pytest shows it with a failure
    chance = random.Random(seed)  # noqa: S311 -- moments, not secrets
    with World(tmp_path) as world:
        world.start("primary")
        world.start("secondary")
        for number in range(KILLS):
            if number % 10 == 0:
                world.wait_for_replication()
            time.sleep(chance.uniform(0, 0.3))
            # Sometimes in turn, so that both sides are killed in short runs too.
            side = ("primary", "secondary")[number % 2 if number < 2 else chance.getrandbits(1)]
            world.kill(side)
            if chance.random() < 0.2:
                other = {"primary": "secondary", "secondary": "primary"}[side]
                world.kill(other)
                world.start(other)
            world.start(side)
        world.wait_for_replication()
        world.end()
