"""Property tests find the same examples on every run; `RATER_HYPOTHESIS=explore` looks further, with other ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", max_examples=200, derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=3000, database=None, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("RATER_HYPOTHESIS", "ci"))
