"""Before anybody consents: where to sign in, for which scopes and as whom, and metadata that is not to be believed."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from providers.oauth import Endpoints, OAuthAuth, Target, client_document
from schemas import NotConnected, PermissionDenied, ProviderDown
from tests import oauth_desk
from tests.emulators.authorization import AuthorizationServer, browser, hosts
from tests.oauth_desk import BACK, HOUR, ISSUER, OWN, REST, SCOPES, SERVER, WEB, Made, instead, rest

pytestmark = pytest.mark.anyio
clock, kept, desk = oauth_desk.clock, oauth_desk.kept, oauth_desk.desk


# Where to sign in.


async def test_metadata_is_looked_for_where_the_refusal_says_and_then_by_path(desk: Made) -> None:
    it = desk(protected={"hint": None})
    await it.consented()
    assert it.network.paths[:3] == [
        "/mcp",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ]


async def test_a_server_that_lets_anyone_in_for_now_is_signed_in_to_all_the_same(desk: Made) -> None:
    it = desk()
    it.server.holder = lambda token: SCOPES  # type: ignore[method-assign]  # in its place
    await it.client.finish(await it.consented())
    assert await it.client.is_connected()


@pytest.mark.parametrize("issuer", ["https://auth.test", "https://auth.test/", "https://auth.test/tenant/"])
@pytest.mark.parametrize("at", ["oauth", "openid"])
async def test_a_last_slash_tells_no_issuers_apart(desk: Made, issuer: str, at: str) -> None:
    other = issuer.removesuffix("/") if issuer.endswith("/") else f"{issuer}/"
    it = await desk(issuer=issuer, protected={"issuer": other}, at=at).connected()
    assert await it.works()


@pytest.mark.parametrize("issuer", ["https://mcp.test", "https://evil.test"])
async def test_a_server_without_metadata_of_its_own_is_asked_as_an_authorization_server(
    desk: Made, issuer: str
) -> None:
    """The way of the specification of 2025-03-26."""
    it = desk()
    metadata = AuthorizationServer(it.clock, issuer)

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if "protected" in path:
            await PlainTextResponse("none", 404)(scope, receive, send)
        else:
            await (it.protected if path == "/mcp" else metadata.app)(scope, receive, send)

    it.network._app = hosts({"mcp.test": both})
    it.protected.server = metadata
    if issuer == "https://evil.test":
        with pytest.raises(NotConnected, match="another server"):
            await it.client.begin(BACK)
    else:
        await it.client.finish(await it.consented())
        assert await it.works()


async def test_a_resource_is_called_as_its_metadata_does(desk: Made) -> None:
    it = await desk(protected={"named": "https://mcp.test/"}, resources=("https://mcp.test/",)).connected()
    it.clock.advance(3 * HOUR)
    assert await it.works()
    sent = it.server.authorized + it.server.sent("authorization_code") + it.server.sent("refresh_token")
    assert [form["resource"] for form in sent] == ["https://mcp.test/"] * 3


# Which scopes are asked for.


async def test_scopes_of_the_configuration_are_asked_for_alone(desk: Made) -> None:
    it = await desk(auth={"scopes": ["scheduling:read"]}).connected()
    assert it.server.authorized[0]["scope"] == "scheduling:read"
    assert await it.client.granted() == ("scheduling:read",)


async def test_scopes_of_the_target_are_asked_for_where_the_server_says_none(desk: Made) -> None:
    none = {"alter": lambda metadata: {**metadata, "scopes_supported": None}}
    it = await desk(target=Target(SERVER, scopes=("scheduling:read",)), protected=none).connected()
    assert it.server.authorized[0]["scope"] == "scheduling:read"


async def test_where_nobody_says_which_scopes_none_are_asked_for(desk: Made) -> None:
    it = await desk(protected={"alter": lambda metadata: {**metadata, "scopes_supported": None}}).connected()
    assert "scope" not in it.server.authorized[0]
    assert await it.client.granted() == SCOPES


async def test_a_refresh_token_is_asked_for_where_that_is_a_scope(desk: Made) -> None:
    offered = {"alter": lambda metadata: {**metadata, "scopes_supported": [*SCOPES, "offline_access"]}}
    it = await desk(**offered, scopes=(*SCOPES, "offline_access"), protected={}).connected()
    assert it.server.authorized[0]["scope"].split().count("offline_access") == 1


async def test_a_scope_that_is_lacking_is_named_and_asked_for_next_time(desk: Made) -> None:
    narrow = {"alter": lambda metadata: {**metadata, "scopes_supported": ["scheduling:read"]}}
    it = await desk(protected=narrow).connected()
    it.protected.needs = ("scheduling:write",)
    with pytest.raises(PermissionDenied, match=r"scheduling:write.*`scheduling-gateway connect work`") as caught:
        await it.call()
    assert "auth.scopes" not in caught.value.message
    fixed = it.another(auth=OAuthAuth(type="oauth", scopes=("scheduling:read",)))
    with pytest.raises(PermissionDenied, match=r"Add that to the account's `auth\.scopes`"):
        await it.call(fixed)
    await it.connected()
    assert it.server.authorized[-1]["scope"] == "scheduling:read scheduling:write"
    assert await it.works()


# Who we are there.


async def test_one_registration_serves_all_accounts_at_a_server(desk: Made) -> None:
    it = await desk().connected()
    other = it.another("team")
    await other.finish(await it.consented(other))
    assert await it.works(other)
    assert len(it.server.clients) == 1


async def test_accounts_that_begin_at_once_register_once(desk: Made) -> None:
    it = desk()
    async with anyio.create_task_group() as group:
        for account in ("work", "team", "home"):
            group.start_soon(it.another(account).begin, BACK)
    assert len(it.server.clients) == 1


async def test_another_redirect_uri_is_registered_beside_the_first(desk: Made) -> None:
    it = await desk().connected()
    again = BACK.replace("8080", "9090")
    await it.client.finish(await it.consented(back=again))
    await it.consented(back=BACK)
    assert [client["redirect_uris"] for client in it.server.clients.values()] == [[BACK], [again, BACK]]
    await it.consented(back=WEB)
    assert [client["redirect_uris"] for client in it.server.clients.values()][2:] == [[WEB]]


async def test_a_refused_registration_is_told_field_by_field(desk: Made) -> None:
    it = desk()
    with pytest.raises(NotConnected, match=r"redirect_uri: must start with https in Production.*auth\.client_id"):
        await it.client.begin("http://gateway.example.com/callback")


@pytest.mark.parametrize(
    "errors",
    [{"scopes": {"0": ["must be one of: a"]}}, {"scopes": "x" * 100_000}, [], "no", {"deep": {"er": {"est": [{}]}}}],
)
async def test_a_refused_registration_is_told_however_it_is_said(desk: Made, errors: object) -> None:
    it = desk()
    refusal = JSONResponse({"error": "invalid_client_metadata", "errors": errors}, 400)
    it.network._app = instead(it.network._app, "/oauth/register", refusal)
    with pytest.raises(NotConnected, match="invalid_client_metadata") as raised:
        await it.client.begin(BACK)
    assert len(raised.value.message) < 600


@pytest.mark.parametrize(("registration", "said"), [("refused", "Not for you"), ("none", "client_id.*127.0.0.1:8080")])
async def test_a_server_that_registers_nobody_wants_a_client_made_by_hand(
    desk: Made, registration: str, said: str
) -> None:
    it = desk(registration=registration)
    with pytest.raises(NotConnected, match=said):
        await it.client.begin(BACK)
    it = await desk(registration=registration, clients={"mine": None}, auth={"client_id": "mine"}).connected()
    assert await it.works()


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_client_that_was_given_a_secret_shows_it(desk: Made, method: str) -> None:
    it = await desk(methods=(method,)).connected()
    it.clock.advance(3 * HOUR)
    assert await it.works()
    assert await it.client.disconnect()
    forms = [form for _, form in it.server.asked]
    assert len(forms) == 4
    assert all(("client_secret" in form) == (method == "client_secret_post") for form in forms)


async def test_a_secret_that_has_ended_is_registered_anew(desk: Made) -> None:
    it = await desk(methods=("client_secret_post",), secret_life=HOUR).connected()
    await it.connected()
    assert len(it.server.clients) == 1
    it.clock.advance(HOUR)
    await it.connected()
    assert len(it.server.clients) == 2


async def test_a_client_that_the_server_has_forgotten_is_registered_anew(desk: Made) -> None:
    it = await desk().connected()
    it.server.clients.clear()
    it.clock.advance(3 * HOUR)
    with pytest.raises(NotConnected, match="invalid_client"):
        await it.call()
    await it.connected()
    assert await it.works()


async def test_an_address_of_a_document_is_our_id_where_documents_are_taken(desk: Made) -> None:
    ours = "https://gateway.example.com/oauth/client.json"
    document = client_document(ours, [WEB])
    it = desk(documents={ours: document})
    answer = await browser(await it.client.begin(WEB, document=ours), it.network.transport, WEB)
    await it.client.finish(answer)
    assert await it.works()
    assert it.server.clients == {}
    without = desk()
    assert "client_id=client-1" in await without.client.begin(WEB, document=ours)


# A client of the operator's at a vendor without discovery.


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_vendor_that_is_known_is_not_looked_for(desk: Made, method: Any) -> None:
    it = desk(
        target=Target(None, Endpoints(REST.authorization, REST.token, REST.revocation, ISSUER, method)),
        auth=OWN,
        clients={OWN["client_id"]: OWN["client_secret"]},
        methods=(method,),
    )
    await it.client.finish(await it.consented())
    assert set(it.network.paths) == {"/oauth/authorize", "/oauth/token"}
    assert "resource" not in it.server.authorized[0]
    it.clock.advance(3 * HOUR)
    assert await it.works()
    assert await it.client.disconnect()


async def test_what_a_vendor_wants_besides_goes_into_the_request(desk: Made) -> None:
    extra = {"access_type": "offline", "prompt": "consent"}
    it = desk(target=rest(extra=extra, scopes=SCOPES), auth={"client_id": "own"}, clients={"own": None}, rotates=False)
    await it.client.finish(await it.consented())
    assert it.server.authorized[0].items() >= extra.items()
    for _ in range(3):
        it.clock.advance(3 * HOUR)
        assert await it.works()
    assert len({form["refresh_token"] for form in it.server.sent("refresh_token")}) == 1


async def test_a_vendor_that_takes_no_proof_beside_a_secret_gets_none(desk: Made) -> None:
    known = Endpoints(REST.authorization, REST.token, issuer=ISSUER, pkce_with_secret=False)
    own = {"clients": {OWN["client_id"]: OWN["client_secret"]}, "methods": ("client_secret_post", "none")}
    it = desk(target=Target(None, known), auth=OWN, pkce_with_secret=False, **own)
    await it.client.finish(await it.consented())
    assert "code_challenge" not in it.server.authorized[0]
    public = desk(target=Target(None, known), auth={"client_id": "own"}, clients={"own": None})
    await public.client.finish(await public.consented())
    assert public.server.authorized[0]["code_challenge_method"] == "S256"


async def test_a_known_vendor_of_an_mcp_server_is_signed_in_to_for_it(desk: Made) -> None:
    it = desk(target=Target(SERVER, REST), auth={"client_id": "own"}, clients={"own": None})
    await it.client.finish(await it.consented())
    assert it.server.authorized[0]["resource"] == SERVER
    assert await it.works()


async def test_the_operators_secret_is_read_from_the_configuration_each_time(desk: Made, tmp_path: Path) -> None:
    it = await desk(
        target=rest(), auth=OWN, clients={OWN["client_id"]: OWN["client_secret"]}, methods=("client_secret_post",)
    ).connected()
    assert OWN["client_secret"] not in str(await it.vault.get("grant", "work"))
    it.server.clients[OWN["client_id"]]["client_secret"] = "rolled"
    it.clock.advance(3 * HOUR)
    with pytest.raises(NotConnected, match="invalid_client"):
        await it.client.token()
    rolled = OAuthAuth(type="oauth", client_id=OWN["client_id"], client_secret="rolled")
    assert await it.works(it.another(auth=rolled))


@pytest.mark.parametrize(
    "answer",
    [
        {"client_id": ""},
        {"client_id": "a", "token_endpoint_auth_method": "private_key_jwt"},
        {"client_id": "a", "token_endpoint_auth_method": "client_secret_basic"},
        {"client_id": "a", "client_secret_expires_at": 10**20},
        {},
    ],
)
async def test_a_registration_that_cannot_be_used_is_not_kept(desk: Made, answer: dict[str, Any]) -> None:
    it = desk()
    whole = it.network._app
    it.network._app = instead(whole, "/oauth/register", JSONResponse(answer, 201))
    with pytest.raises(NotConnected, match="registered this gateway"):
        await it.client.begin(BACK)
    it.network._app = instead(whole, "/oauth/register", PlainTextResponse("", 503))
    with pytest.raises(ProviderDown):
        await it.client.begin(BACK)
    it.network._app = whole
    await it.connected()


# Metadata that is not to be believed.


def changed(**values: Any) -> dict[str, Any]:
    return {"alter": lambda metadata: {**metadata, **values}}


@pytest.mark.parametrize(
    ("quirks", "said"),
    [
        ({"protected": changed(resource="https://evil.test/mcp")}, "another resource, https://evil.test/mcp"),
        ({"protected": changed(resource="https://mcp.test/other")}, "another resource"),
        ({"protected": changed(authorization_servers=["http://auth.test"])}, "not encrypted"),
        ({"protected": changed(authorization_servers=["http://127.0.0.1:9"])}, "an address of this machine"),
        ({"protected": changed(authorization_servers=["https://localhost:9"])}, "an address of this machine"),
        ({"protected": changed(authorization_servers=["https://me:pw@auth.test"])}, "no plain web address"),
        ({"protected": {"hint": "https://evil.test/metadata"}}, "another host, evil.test"),
        ({"protected": {"hint": "http://mcp.test/metadata"}}, "another host"),
        (changed(issuer="https://evil.test"), "another server, https://evil.test"),
        (changed(issuer="https://auth.test/tenant"), "another server"),
        (changed(authorization_endpoint="http://auth.test/oauth/authorize"), "authorization endpoint.*not encrypted"),
        (changed(token_endpoint="http://auth.test/oauth/token"), "token endpoint.*not encrypted"),
        (changed(token_endpoint="https://127.0.0.2/oauth/token"), "this machine as its token endpoint"),
        (changed(registration_endpoint="http://auth.test/oauth/register"), "registration endpoint.*not encrypted"),
        (changed(revocation_endpoint="http://auth.test/oauth/revoke"), "revocation endpoint.*not encrypted"),
        (changed(code_challenge_methods_supported=["plain"]), "S256"),
        (changed(token_endpoint_auth_methods_supported=["private_key_jwt"]), "not built"),
    ],
)
async def test_metadata_that_leads_astray_is_not_followed(desk: Made, quirks: dict[str, Any], said: str) -> None:
    it = desk(**quirks)
    with pytest.raises(NotConnected, match=said):
        await it.client.begin(BACK)
    assert it.server.clients == {}


@pytest.mark.parametrize(
    "host",
    [
        *("localhost.", "a.localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"),  # noqa: S104 - it is refused
        *("169.254.169.254", "[fe80::1]"),
    ],
)
async def test_a_server_elsewhere_names_no_address_of_this_machine_however_it_is_written(desk: Made, host: str) -> None:
    for endpoint in ("token_endpoint", "registration_endpoint", "revocation_endpoint"):
        it = desk(**changed(**{endpoint: f"https://{host}/oauth"}))
        with pytest.raises(NotConnected, match=r"this machine|no plain web address|does not say"):
            await it.client.begin(BACK)


async def test_endpoints_of_another_host_are_its_own_business(desk: Made) -> None:
    it = desk(others={}, **changed(token_endpoint="https://token.test/oauth/token"))
    it.network._app = hosts({"mcp.test": it.protected, "auth.test": it.server.app, "token.test": it.server.app})
    await it.connected()
    assert await it.works()


@pytest.mark.parametrize("target", [Target("http://mcp.test/mcp"), Target(None, Endpoints("http://a.test", "", None))])
async def test_nobody_signs_in_where_it_is_not_encrypted(desk: Made, target: Target) -> None:
    it = desk(target=target)
    with pytest.raises(NotConnected):
        await it.client.begin(BACK)
    assert it.network.paths == []


async def test_a_server_that_says_nothing_of_signing_in_cannot_be_signed_in_to(desk: Made) -> None:
    it = desk(others={})
    it.network._app = hosts({"mcp.test": PlainTextResponse("none", 404)})
    with pytest.raises(NotConnected, match="does not say how to sign in"):
        await it.client.begin(BACK)


@pytest.mark.parametrize("path", ["oauth-protected-resource/mcp", "oauth-authorization-server"])
async def test_a_server_that_is_down_is_asked_later(desk: Made, path: str) -> None:
    it = desk()
    whole = it.network._app
    it.network._app = instead(whole, f"/.well-known/{path}", PlainTextResponse("", 502))
    with pytest.raises(ProviderDown):
        await it.client.begin(BACK)
    it.network._app = whole
    await it.connected()


async def test_metadata_that_is_none_is_looked_for_elsewhere(desk: Made) -> None:
    it = desk(protected={"hint": "https://mcp.test/nonsense"})
    it.network._app = instead(it.network._app, "/nonsense", JSONResponse({"resource": 1}))
    await it.connected()
    assert await it.works()
