"""At which hours of the business day the daily jobs run (spec section 6); the tidying is ours."""

from __future__ import annotations

from datetime import time
from typing import Final

GENERATE_AT: Final = time(0, 10)
OVERDUE_AT: Final = time(0, 20)
SEAL_AT: Final = time(0, 30)
INTEGRITY_AT: Final = time(2, 0)
TIDY_PAPERS_AT: Final = time(3, 10)
REMINDERS_AT: Final = time(8, 0)
