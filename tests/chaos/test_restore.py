"""Yesterday's database is put in place of today's: what it does not know is waited for, then goes."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.oracles import check_runs, judge, left_in_cloud
from tests.chaos.stage import Stage, standing, wait_for
