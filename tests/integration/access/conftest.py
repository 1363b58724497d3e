"""What these tests share asserts, and is no test module: a failure shall say what differs."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("integration.access.everything")
