"""Signing in by OAuth 2: what the configuration says of it, an account's grant, and the token in each request.

config        what an account may say, and what it is signed in to
discovery     where a server lets people sign in (RFC 9728, RFC 8414)
registration  who we are there: a client that the operator registered, a document of ours, or one registered here
tokens        codes and refresh tokens exchanged for access tokens, and revoked
answers       what the browser is sent out for, and what it comes back with
wire          one request, and what its failure is called
client        the flow: begin, finish, token, disconnect
sign_in       the token in each request
"""

from providers.oauth.client import OAuthClient
from providers.oauth.config import Endpoints, OAuthAuth, Target
from providers.oauth.registration import client_document
from providers.oauth.sign_in import OAuthSignIn

__all__ = ["Endpoints", "OAuthAuth", "OAuthClient", "OAuthSignIn", "Target", "client_document"]
