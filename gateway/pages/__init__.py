"""The pages: accounts for the operator, booking for guests. Server-rendered, complete without scripts."""

from typing import TYPE_CHECKING

from starlette.routing import Route

if TYPE_CHECKING:
    from gateway.core import Gateway


BOOK, BOOKED = "/book", "/booked"
"""Where guests book, and where they find what they booked."""


def routes(gateway: "Gateway") -> list[Route]:
    from gateway.pages import signin
    from gateway.pages.accounts import AccountsPages
    from gateway.pages.booked import BookedPages
    from gateway.pages.booking import BookingPages
    from gateway.pages.shown import ROUTES

    pages = (AccountsPages(gateway), BookingPages(gateway), BookedPages(gateway))
    return [*ROUTES, *signin.routes(gateway), *(route for page in pages for route in page.routes())]
