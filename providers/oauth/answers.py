"""What the browser comes back with."""

from collections.abc import Mapping

from providers.oauth.discovery import Server, is_same_issuer
from providers.oauth.tokens import CONNECT, OVERLOADED
from providers.oauth.wire import AGAIN, complaint, host
from schemas import InvalidRequest, NotConnected, ProviderDown, SchedulingError


def code_of(answer: Mapping[str, str], server: Server) -> str:
    """The code, if this server sent it.

    Raises: InvalidRequest if another one did (RFC 9207), NotConnected if there was no consent.
    """
    _check_issuer(answer.get("iss"), server)
    code = answer.get("code")
    if "error" in answer or not code:
        raise _refusal(answer, server)
    return code


def _check_issuer(named: str | None, server: Server) -> None:
    if named is None and not server.names_itself:
        return
    if named is None or server.issuer is None or not is_same_issuer(named, server.issuer):
        raise InvalidRequest(
            "The browser came back from another server than it was sent to, so what it brought was not used. "
            "Begin again, and do not follow links of others to sign in."
        )


def _refusal(answer: Mapping[str, str], server: Server) -> SchedulingError:
    where, error = host(server.authorization), answer.get("error")
    if error == "access_denied":
        return NotConnected(f"The consent was declined at {where}. {CONNECT}, and consent there.")
    if error in OVERLOADED:
        return ProviderDown(f"The sign-in at {where} does not work for now ({error}). {AGAIN}")
    return NotConnected(f"{where} did not let anybody sign in{complaint(answer)}. {CONNECT} once that is mended.")
