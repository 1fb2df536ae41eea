"""An account's sign-in by OAuth 2: authorization code with PKCE (RFC 7636), and a grant that is renewed and revoked.

The grant is kept with all that it takes to renew it, so after a restart nothing is looked for. A refresh token may be
good for one use: of all tasks and processes one renews, under a lease, and what it gets is kept before anyone uses it.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
from pydantic import ValidationError

from providers.clock import Clock
from providers.oauth.answers import Consent, code_of
from providers.oauth.config import OAuthAuth, Target
from providers.oauth.discovery import Kept, discover
from providers.oauth.registration import Registered, configured, forget, registered
from providers.oauth.tokens import UNKNOWN_CLIENT, Grant, Refused, connect, granted, revoke
from providers.oauth.wire import PATIENCE, Wire
from schemas import InvalidRequest, NotConnected, ProviderDown, SchedulingError

if TYPE_CHECKING:
    from providers.vault import Vault

T = TypeVar("T")
K = TypeVar("K", bound=Kept)

CONSENT = timedelta(minutes=10)
"""So long a person has to consent."""


class OAuthClient:
    """Begins, finishes, renews and ends the consent of one account. `transport` stands in for the network in tests."""

    def __init__(
        self,
        account: str,
        auth: OAuthAuth,
        target: Target,
        vault: "Vault",
        clock: Clock,
        transport: httpx2.AsyncBaseTransport | None,
        kept_as: str | None = None,
    ) -> None:
        self.account = account
        self.kept_as = kept_as or account
        self._auth = auth
        self._target = target
        self._vault = vault
        self._clock = clock
        self._wire = Wire(clock, transport)
        self.scopes: tuple[str, ...] | None = None
        """What was consented to when that was last looked at; None before that."""
        self._renewal: asyncio.Task[Grant] | None = None
        self._working: set[asyncio.Task[Any]] = set()

    @staticmethod
    def account_of(state: str) -> str:
        """Whose sign-in an answer with this `state` would finish; what it says is not checked."""
        return state.partition(".")[0]

    async def begin(self, redirect_uri: str, holder: str = "local", document: str | None = None) -> str:
        """The address to open in a browser; good for ten minutes, for `holder` alone, once.

        `document` is the address at which `client_document` is served, where it is.
        Raises: NotConnected if one cannot sign in there, ProviderDown or RateLimited if not now.
        """
        from mcp.client.auth import PKCEParameters

        found = await discover(self._target, self._wire)
        server = found.server
        client = configured(self._auth, server) or await registered(
            server, redirect_uri, document, self._vault, self._clock, self._wire
        )
        scopes = self._auth.scopes or _union(found.scopes, await self._scopes_so_far())
        state = f"{self.kept_as}.{secrets.token_urlsafe(32)}"
        query = {
            **self._target.extra,
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": redirect_uri,
            "state": state,
        }
        verifier = None
        if client.secret is None or server.pkce_with_secret:
            proof = PKCEParameters.generate()
            verifier = proof.code_verifier
            query |= {"code_challenge": proof.code_challenge, "code_challenge_method": "S256"}
        if scopes:
            query["scope"] = " ".join(scopes)
        if found.resource is not None:
            query["resource"] = found.resource
        consent = Consent(
            account=self.kept_as,
            holder=holder,
            target=self._target.name,
            verifier=verifier,
            redirect_uri=redirect_uri,
            server=server,
            client=self._without_secret(client),
            resource=found.resource,
            scopes=scopes,
        )
        await self._vault.put("consent", state, consent.model_dump(mode="json"), until=self._clock.now() + CONSENT)
        return str(httpx2.URL(server.authorization).copy_merge_params(query))

    async def finish(self, answer: Mapping[str, str], holder: str = "local") -> None:
        """Take the query that the browser came back with, and keep the grant that its code brings.

        Raises: InvalidRequest for an answer to nothing that this holder began, NotConnected if there was no consent.
        """
        taken = await self._vault.take("consent", answer.get("state", ""))
        consent = _known(Consent, taken)
        mine = (self.kept_as, holder, self._target.name)
        if consent is None or (consent.account, consent.holder, consent.target) != mine:
            raise InvalidRequest(
                "This sign-in was not begun here, was finished already, or took longer than ten minutes. Begin again.",
                account=self.account,
            )
        await self._unbroken(self._exchange(consent, code_of(answer, consent.server, self.kept_as)))

    async def token(self, refused: str | None = None) -> str:
        """An access token that serves: another one before it expires, or because `refused` was refused.

        Raises: NotConnected if there is none to be had, ProviderDown or RateLimited if there is none now.
        """
        grant = await self._grant()
        if not grant.serves(self._clock.now(), refused):
            grant = await self._renewed(refused)
        if grant.access == refused:  # somebody's renewal, which we joined, was over before ours was due
            grant = await self._renewed(refused)
        return grant.access

    async def _renewed(self, refused: str | None) -> Grant:
        """The grant after a renewal that all who need one meanwhile share, and that none of them can break off."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(refused))
            self._renewal.add_done_callback(_seen)
        try:
            return await asyncio.shield(self._renewal)
        except SchedulingError as error:
            # To each who waits one of its own: it is filled in on its way.
            raise copy(error) from None

    async def disconnect(self) -> bool:
        """Revoke the grant where there is a way to, and forget it. Whether the vendor was told."""
        return await self._unbroken(self._disconnect())

    async def is_connected(self) -> bool:
        """Whether there is a grant that serves or can be renewed, as far as can be told without asking."""
        try:
            grant = await self._grant()
        except NotConnected:
            return False
        return grant.refresh is not None or grant.serves(self._clock.now(), None)

    async def granted(self) -> tuple[str, ...]:
        """The scopes that the person consented to. Raises NotConnected."""
        return (await self._grant()).scopes

    async def lacks(self, scopes: tuple[str, ...]) -> None:
        """Remember scopes that the server wants besides, to ask for them next time."""
        async with self._vault.lease(self._lease):
            grant = await self._grant()
            lacking = _union(grant.lacking, scopes)
            if lacking != grant.lacking:
                await self._keep(grant.model_copy(update={"lacking": lacking}))

    async def _exchange(self, consent: Consent, code: str) -> None:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": consent.redirect_uri}
        if consent.verifier is not None:
            form["code_verifier"] = consent.verifier
        grant = Grant(
            target=consent.target,
            server=consent.server,
            client=self._with_secret(consent.client),
            resource=consent.resource,
            access="",
            scopes=consent.scopes,
        )
        async with self._vault.lease(self._lease):
            await self._keep(await self._granted(grant, form))

    async def _renew(self, refused: str | None) -> Grant:
        """The grant with a token that serves, be it renewed here or elsewhere meanwhile."""
        async with self._vault.lease(self._lease):
            grant = await self._grant()
            if grant.serves(self._clock.now(), refused):
                return grant
            if grant.refresh is None:
                raise NotConnected(f"The sign-in has ended, and nothing came with it to renew it. {self._advice}.")
            form = {"grant_type": "refresh_token", "refresh_token": grant.refresh}
            try:
                fresh = await self._granted(grant, form)
            except Refused as error:
                if error.error != "invalid_grant":
                    raise
                # Who held the lease before us too long may have renewed it since.
                now = await self._grant()
                if now.refresh != grant.refresh and now.serves(self._clock.now(), refused):
                    return now
                if now.refresh == grant.refresh:
                    await self._vault.drop("grant", self.kept_as)
                raise
            await self._keep(fresh)
            return fresh

    async def _granted(self, grant: Grant, form: Mapping[str, str]) -> Grant:
        try:
            return await granted(self._wire, grant, form, self._clock.now())
        except Refused as error:
            if error.error in UNKNOWN_CLIENT:
                await forget(grant.client, self._vault)
            ends = self._target.endpoints and error.error == "invalid_grant" and self._target.endpoints.ends
            error.message = " ".join([error.message, *([ends] if ends else []), f"{self._advice}."])
            raise

    async def _disconnect(self) -> bool:
        async with self._vault.lease(self._lease):
            try:
                return await revoke(self._wire, await self._grant())
            except (NotConnected, ProviderDown):
                return False
            finally:
                await self._vault.drop("grant", self.kept_as)

    @property
    def has_fixed_scopes(self) -> bool:
        """Whether the configuration says which scopes to ask for."""
        return bool(self._auth.scopes)

    async def close(self) -> None:
        """Wait a while for what is under way: a token that is not kept is lost."""
        if tasks := {*self._working, *([self._renewal] if self._renewal else [])}:
            await asyncio.wait(tasks, timeout=PATIENCE)

    @property
    def _advice(self) -> str:
        return connect(self.kept_as)

    @property
    def _lease(self) -> str:
        return f"grant:{self.kept_as}"

    async def _grant(self) -> Grant:
        """The grant as it is kept now. Raises NotConnected."""
        try:
            grant = _known(Grant, await self._vault.get("grant", self.kept_as))
        except NotConnected as error:
            raise NotConnected(f"{error.message} {self._advice}.") from None
        if grant is None:
            raise NotConnected(f"Nobody has signed in yet, or the sign-in has ended. {self._advice}.")
        another = "address" if grant.target != self._target.name else "client_id"
        if another == "address" or self._auth.client_id not in (None, grant.client.id):
            raise NotConnected(f"The sign-in was for another {another} than the configuration has now. {self._advice}.")
        self.scopes = grant.scopes
        return grant.model_copy(update={"client": self._with_secret(grant.client)})

    async def _keep(self, grant: Grant) -> None:
        grant = grant.model_copy(update={"client": self._without_secret(grant.client)})
        await self._vault.put("grant", self.kept_as, grant.model_dump(mode="json"))

    # The operator's client secret stays in the configuration, where it may be changed.
    def _without_secret(self, client: Registered) -> Registered:
        return client.model_copy(update={"secret": None}) if client.id == self._auth.client_id else client

    def _with_secret(self, client: Registered) -> Registered:
        secret = self._auth.client_secret
        if secret is None or client.id != self._auth.client_id:
            return client
        return client.model_copy(update={"secret": secret.get_secret_value()})

    async def _scopes_so_far(self) -> tuple[str, ...]:
        """What was granted and what was lacking: who signs in again keeps the one and gets the other."""
        try:
            grant = await self._grant()
        except NotConnected:
            return ()
        return _union(grant.scopes, grant.lacking) if grant.lacking else ()

    async def _unbroken(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which runs to its end even if nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        task.add_done_callback(_seen)
        return await asyncio.shield(task)


def _union(scopes: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*scopes, *more)))


def _known(model: type[K], row: Mapping[str, Any] | None) -> K | None:
    """What is kept; None if there is nothing, or nothing that this version can read."""
    try:
        return None if row is None else model.model_validate(row)
    except ValidationError:
        return None


def _seen(task: asyncio.Task[Any]) -> None:
    """Nobody may be left to be told of a failure."""
    if not task.cancelled():
        task.exception()
