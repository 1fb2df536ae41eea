"""The token in each request of a person who consented in the browser, and which of the scopes they left out.

Quirks:
- A person may untick scopes. A request that needs one of those is refused with every scope that would do, the broadest
  among them, so what is lacking is told from what was granted. (google.rpc.ErrorInfo and WWW-Authenticate, 2026-11)
"""

from collections.abc import Mapping

import httpx2

from providers.google_calendar.auth import missing
from providers.oauth import OAuthClient, OAuthSignIn


class GoogleConsent(OAuthSignIn):
    def __init__(self, client: OAuthClient, needed: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(client)
        self._needed = needed

    @property
    def missing(self) -> tuple[str, ...]:
        """Scopes that are needed and were not granted, as far as was looked."""
        return () if self.client.scopes is None else missing(self.client.scopes, self._needed)

    def lacking(self, response: httpx2.Response) -> tuple[str, ...]:
        return self.missing
