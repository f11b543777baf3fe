"""Tests of sqc. What they compile is theirs alone: some put faults into schedules."""

import os

os.environ["SQC_CACHE"] = "off"
