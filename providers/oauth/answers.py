"""What the browser is sent out for, and what it comes back with."""

from collections.abc import Mapping

from pydantic import Field

from providers.oauth.discovery import Kept, Server, is_same_issuer
from providers.oauth.registration import Registered
from providers.oauth.tokens import OVERLOADED, connect
from providers.oauth.wire import AGAIN, complaint, host
from schemas import InvalidRequest, NotConnected, ProviderDown, SchedulingError


class Consent(Kept):
    """A sign-in that was begun: what must be the same when it is finished."""

    account: str
    holder: str
    target: str
    verifier: str | None = Field(repr=False)
    redirect_uri: str
    server: Server
    client: Registered
    resource: str | None
    scopes: tuple[str, ...]


def code_of(answer: Mapping[str, str], server: Server, kept_as: str) -> str:
    """The code, if this server sent it for that account.

    Raises: InvalidRequest if another one did (RFC 9207), NotConnected if there was no consent.
    """
    check_issuer(answer.get("iss"), server)
    code = answer.get("code")
    if "error" in answer or not code:
        raise _refusal(answer, server, kept_as)
    return code


def check_issuer(named: str | None, server: Server) -> None:
    """Raises InvalidRequest for an answer that another server sent (RFC 9207)."""
    # Of a vendor whose endpoints are configured it may not be known how it calls itself.
    if (named is None and not server.names_itself) or server.issuer is None:
        return
    if named is None or not is_same_issuer(named, server.issuer):
        raise InvalidRequest(
            "The browser came back from another server than it was sent to, so what it brought was not used. "
            "Begin again, and do not follow links of others to sign in."
        )


def _refusal(answer: Mapping[str, str], server: Server, kept_as: str) -> SchedulingError:
    where, error = host(server.authorization), answer.get("error")
    if error == "access_denied":
        return NotConnected(f"The consent was declined at {where}. {connect(kept_as)}, and consent there.")
    if error in OVERLOADED:
        return ProviderDown(f"The sign-in at {where} does not work for now ({error}). {AGAIN}")
    why = f"{where} did not let anybody sign in{complaint(answer)}."
    return NotConnected(f"{why} {connect(kept_as)} once that is mended.")
