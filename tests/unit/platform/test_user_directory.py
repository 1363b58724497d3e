"""Users by id, as they were a few seconds ago: read once for many, and never told too late."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from accounting.ids import new_id
from accounting.platform.rules import PlatformUser, UserId
from accounting.platform.user_directory import REMEMBERED_SECONDS, USERS_MAX, UserDirectory
from builders import a_customer
from fakes import FakePlatform, Stopwatch


class CountingPlatform(FakePlatform):
    """Keeps who was asked for, read by read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[set[UserId]] = []

    async def find_users(self, user_ids: Iterable[UserId]) -> dict[UserId, PlatformUser]:
        self.reads.append(set(user_ids))
        return await super().find_users(self.reads[-1])


@pytest.fixture
def host() -> CountingPlatform:
    return CountingPlatform()


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch(1_000.0)


@pytest.fixture
def directory(host: CountingPlatform, watch: Stopwatch) -> UserDirectory:
    return UserDirectory(host, monotonic=watch)


async def test_only_those_who_are_not_remembered_are_read(
    host: CountingPlatform, directory: UserDirectory
) -> None:
    ada, bob = host.add_user(a_customer(name="Ada")), host.add_user(a_customer(name="Bob"))

    assert await directory.find_users([ada.id]) == {ada.id: ada}
    assert await directory.find_users([ada.id, bob.id, bob.id]) == {ada.id: ada, bob.id: bob}
    assert await directory.find_user(bob.id) == bob
    assert host.reads == [{ada.id}, {bob.id}]


async def test_that_somebody_does_not_exist_is_remembered_too(
    host: CountingPlatform, directory: UserDirectory
) -> None:
    nobody = new_id()

    assert await directory.find_users([nobody]) == {}
    assert await directory.find_user(nobody) is None
    assert len(host.reads) == 1


async def test_what_is_told_is_never_older_than_five_seconds(
    host: CountingPlatform, directory: UserDirectory, watch: Stopwatch
) -> None:
    ada = host.add_user(a_customer(name="Ada"))
    await directory.find_users([ada.id])
    renamed = host.add_user(a_customer(id=ada.id, name="Ada Holm"))

    watch.seconds += REMEMBERED_SECONDS
    assert await directory.find_user(ada.id) == ada
    watch.seconds += 0.001
    assert await directory.find_user(ada.id) == renamed


async def test_no_more_users_are_remembered_than_there_is_room_for(
    host: CountingPlatform, directory: UserDirectory
) -> None:
    ada = host.add_user(a_customer(name="Ada"))
    await directory.find_user(ada.id)

    await directory.find_users(new_id() for _ in range(USERS_MAX))

    assert await directory.find_user(ada.id) == ada
    assert host.reads[-1] == {ada.id}
