# SPDX-License-Identifier: Apache-2.0
"""Hypothesis tries the same examples in every run: a red test is red for everybody.

`METROPOLIS_EXPLORE=1` looks at new ones; what it finds becomes an example in the test.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("METROPOLIS_EXPLORE") else "repeatable")
