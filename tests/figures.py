"""Lines of figures that tests leave for the summary at the end of a run."""

from __future__ import annotations

from typing import Final

# Their name among the properties of a test's report, which also come back from other processes.
FIGURES: Final = "figures"
