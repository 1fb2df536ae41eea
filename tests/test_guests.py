"""Guests and what they were given: each is oneself, and a link is no way round what its maker may do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from gateway.callers import LOCAL, Caller, calling, guest_of
from gateway.core import Gateway
from gateway.policy import PerSpan, Policy
from providers.storage.tables import audit
from schemas import PolicyDenied
from tests.stages import LocalStage
from tests.test_pages import House
from tests.world import ELEVEN, NINE, TEN

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    async with house.open():
        yield house


async def test_who_books_the_same_by_the_same_link_is_not_shown_the_other_guests_booking(house: House) -> None:
    """The link may be used often, and the address of the other guest be known to many."""
    link = await house.link(single_use=False)
    async with house.visitor() as vera, house.visitor() as mallory:
        hers = await vera.fill_in(link, NINE.isoformat(), name="Vera", email="vera@example.com")
        assert urlsplit(str(hers.url)).path.startswith("/booked/")
        again = await vera.fill_in(link, NINE.isoformat(), name="Vera", email="vera@example.com")
        assert again.url == hers.url
        theirs = await mallory.fill_in(link, NINE.isoformat(), name="Mallory", email="vera@example.com")
        assert (theirs.status_code, urlsplit(str(theirs.url)).path.startswith("/booked/")) == (409, False)
        assert "Vera" not in theirs.text
    assert [each.attendees[0].name for each in await house.booked()] == ["Vera"]


async def test_guests_of_two_callers_own_accounts_are_not_taken_for_one(local: LocalStage) -> None:
    account = local.config.accounts["acme"].model_copy(update={"owner": "caller"})
    gateway = Gateway(local.config.model_copy(update={"accounts": {"acme": account}}), clock=local.clock)
    await gateway.open()
    made = []
    for owner in ("a" * 24, "b" * 24):
        with calling(guest_of(f"acme~{owner}", "the same browser")):
            guest: tuple[Any, ...] = ("Ana", "ana@example.com", None, None, (), {}, None, None, None)
            made.append(await gateway.bookings.create("acme:intro", TEN.isoformat(), *guest))
    rows = {(row.account, row.outcome) for row in await gateway.journal.recent(9)}
    assert rows == {(f"acme~{'a' * 24}", "done"), (f"acme~{'b' * 24}", "done")}
    for owner in ("a" * 24, "b" * 24):
        with calling(guest_of(f"acme~{owner}")):
            found = await gateway.listing.find(None, "all", None, None, None, None, None, 50, None)
            assert len(found.bookings) == 1
    await gateway.close()


async def test_a_link_is_a_booking_of_whoever_made_it(house: House) -> None:
    gateway, capped = house.gateway, Caller("key:laptop", Policy(bookings=PerSpan(hour=2, day=5)))
    guest: tuple[Any, ...] = ("Ana", "ana@example.com", None, None, (), {}, None, None, None)
    with calling(capped):
        with pytest.raises(PolicyDenied, match="good once"):
            await house.link(single_use=False)
        await gateway.bookings.create("home:intro", NINE.isoformat(), *guest)
        await house.link()
        with pytest.raises(PolicyDenied, match="2 links to book for you in an hour"):
            await house.link()
        with pytest.raises(PolicyDenied, match="2 bookings for you in an hour"):
            await gateway.bookings.create("home:intro", ELEVEN.isoformat(), *guest)


async def test_what_a_caller_gave_out_can_be_taken_back_at_once(house: House) -> None:
    with calling(Caller("key:laptop")):
        theirs = await house.link()
    with calling(LOCAL):
        ours = await house.link()
    assert await house.gateway.links.revoke_of("key:laptop") == 1
    async with house.visitor() as visitor:
        assert (await visitor.get(theirs)).status_code == 410
        assert (await visitor.get(ours)).status_code == 200


async def test_a_chain_of_the_audit_is_begun_by_nobody_who_calls(local: LocalStage) -> None:
    await local.gateway.open()
    with calling(Caller("key:laptop")):
        await local.gateway.audit.record("revoke_link", reference="one")
    async with local.gateway.storage.read() as connection:
        lines = list(await connection.scalars(select(audit.c.line).order_by(audit.c.number)))
    assert ['"caller":"local"' in lines[0], '"caller":"key:laptop"' in lines[1]] == [True, True]
