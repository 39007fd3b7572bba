"""OpenID Connect: somebody else's server says who a person is (authorization code with PKCE, checked to the letter).

The browser goes to the provider and comes back to the command that sent it, on this machine; the code it brings is
exchanged here. What binds the two halves (state, nonce and the verifier of PKCE) never leaves this server, but for a
ticket that only the command has. Sources: OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 8252 (native
apps).
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mofang.base.domain.errors import InvalidRequest, InvalidSettings, ProviderFailed, SignInFailed

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"]  # no symmetric ones, and never "none"
_PENDING_SECONDS, _PENDING_KEPT = 600.0, 1000
_CACHED_SECONDS, _LEEWAY_SECONDS = 3600.0, 60
_ANSWER_BYTES = 1 << 20
log = logging.getLogger(__name__)

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A sign-in that went off to the provider."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    until: float


class Provider:
    """One provider, and our name there. ``issuer`` is its URL exactly as it calls itself."""

    def __init__(self, issuer: str, client_id: str, client_secret: str = "", *, timeout_seconds: float = 10.0) -> None:
        if not _is_safe(issuer):
            raise InvalidSettings(f"an OIDC provider is asked over https, not at {issuer!r}")
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._http = httpx.Client(timeout=timeout_seconds, follow_redirects=False, trust_env=False)
        self._pending: dict[str, _Pending] = {}
        self._lock = Lock()
        self._about: Claims = {}
        self._keys = KeySet([])
        self._known_until = 0.0

    def begin(self, redirect_uri: str) -> tuple[str, str]:
        """Return where the browser is to go, and the ticket with which whoever asked comes back."""
        place = urlsplit(redirect_uri)
        if place.scheme != "http" or place.hostname not in _LOOPBACK or place.query or place.fragment:
            raise InvalidRequest("the browser comes back to this machine: redirect_uri is http://127.0.0.1:PORT/PATH")
        ticket, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        pending = _Pending(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            verifier,
            redirect_uri,
            time.monotonic() + _PENDING_SECONDS,
        )
        with self._lock:
            self._pending = {key: it for key, it in self._pending.items() if it.until > time.monotonic()}
            if len(self._pending) >= _PENDING_KEPT:
                del self._pending[next(iter(self._pending))]
            self._pending[ticket] = pending
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid email profile",
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        return f"{self._discover()['authorization_endpoint']}?{urlencode(query)}", ticket

    def finish(self, ticket: str, state: str, code: str) -> Claims:
        """Return what the provider says of the person. Raises SignInFailed, or ProviderFailed; a ticket works once."""
        with self._lock:
            pending = self._pending.pop(ticket, None)
        if pending is None or pending.until < time.monotonic():
            raise SignInFailed("this sign-in is not known any more", hint="begin again: `mofang login --oidc`")
        if not secrets.compare_digest(state, pending.state):
            raise SignInFailed("the browser came back from another sign-in", hint="begin again: `mofang login --oidc`")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.redirect_uri,
            "client_id": self._client_id,
            "code_verifier": pending.verifier,
        }
        auth = (self._client_id, self._client_secret) if self._client_secret else None
        told = self._ask("POST", str(self._discover()["token_endpoint"]), data=form, auth=auth)
        return self._verify(str(told.get("id_token", "")), pending.nonce)

    def _verify(self, token: str, nonce: str) -> Claims:
        """Return the claims of an ID token: signature, issuer, audience, expiry and nonce are as they must be."""
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            claims = self._decode(token).claims
            rules.validate(claims)
        except (JoseError, ValueError) as error:
            log.warning("an ID token of %s was refused: %s", self.issuer, error)
            raise SignInFailed("the provider's word about you cannot be verified", hint="see the log") from error
        authorised = claims.get("azp", self._client_id)
        if authorised != self._client_id:
            raise SignInFailed("the provider's word was meant for another client", hint="see the log")
        return claims

    def _decode(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._keys, algorithms=_ALGORITHMS)
        except (JoseError, ValueError):  # the provider may have new keys
            self._known_until = 0.0
            self._discover()
            return jwt.decode(token, self._keys, algorithms=_ALGORITHMS)

    def _discover(self) -> Claims:
        """Return what the provider says of itself, and know its keys; asked anew every hour."""
        if time.monotonic() > self._known_until:
            about = self._ask("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if about.get("issuer") != self.issuer or not all(_is_safe(str(about.get(name))) for name in names):
                raise ProviderFailed(f"{self.issuer} calls itself by another name, or sends people to unsafe places")
            keys = self._ask("GET", str(about["jwks_uri"]))
            try:
                self._keys = KeySet.import_key_set(cast("Any", keys))
            except (JoseError, ValueError) as error:
                raise ProviderFailed(f"the keys of {self.issuer} cannot be read") from error
            self._about, self._known_until = about, time.monotonic() + _CACHED_SECONDS
        return self._about

    def _ask(self, method: str, url: str, **content: Any) -> Claims:
        try:
            answer = self._http.request(method, url, **content)
            found = answer.json() if len(answer.content) <= _ANSWER_BYTES else None
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderFailed(f"{self.issuer} does not answer: {type(error).__name__}") from error
        if method == "POST" and answer.status_code in (400, 401) and isinstance(found, dict):
            log.warning("%s refused a sign-in: %s", self.issuer, found.get("error"))
            raise SignInFailed("the provider refused the code", hint="begin again: `mofang login --oidc`")
        if answer.status_code != 200 or not isinstance(found, dict):
            raise ProviderFailed(f"{self.issuer} answered {answer.status_code} where it should tell of itself")
        return found


def _is_safe(url: str) -> bool:
    place = urlsplit(url)
    return place.scheme == "https" or (place.scheme == "http" and place.hostname in _LOOPBACK)


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
