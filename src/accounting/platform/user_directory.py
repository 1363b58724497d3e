"""The platform's users by id, as they were a few seconds ago (spec section 5, "Auth")."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from accounting.platform.reader import Platform
from accounting.platform.rules import PlatformUser, UserId

REMEMBERED_SECONDS: Final = 5.0
USERS_MAX: Final = 10_000


class UserDirectory:
    """Users that were asked for lately; one process asks once for what a screen shows again."""

    def __init__(
        self, platform: Platform, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._platform = platform
        self._monotonic = monotonic
        self._known: OrderedDict[UserId, tuple[float, PlatformUser | None]] = OrderedDict()

    async def find_user(self, user_id: UserId) -> PlatformUser | None:
        """The user as he was at most REMEMBERED_SECONDS ago."""
        return (await self.find_users([user_id])).get(user_id)

    async def find_users(self, user_ids: Iterable[UserId]) -> dict[UserId, PlatformUser]:
        """Those that exist, by id; one read for all that are not remembered."""
        wanted = set(user_ids)
        read_at = self._monotonic()
        oldest = read_at - REMEMBERED_SECONDS
        found = {
            user_id: known[1]
            for user_id in wanted
            if (known := self._known.get(user_id)) is not None and known[0] >= oldest
        }
        if missing := wanted - found.keys():
            read = await self._platform.find_users(missing)
            found |= {user_id: read.get(user_id) for user_id in missing}
            self._remember({user_id: found[user_id] for user_id in missing}, read_at)
        return {user_id: user for user_id, user in found.items() if user is not None}

    def _remember(self, users: dict[UserId, PlatformUser | None], read_at: float) -> None:
        for user_id, user in users.items():
            self._known[user_id] = (read_at, user)
            self._known.move_to_end(user_id)
        while len(self._known) > USERS_MAX:
            self._known.popitem(last=False)
