"""Proofs of possession (RFC 9449) for calls over Stockade's socket, for clients that use httpx2.

Needs `pyjwt`, `cryptography` and `httpx2`; the SDK `mcp` brings all three.
"""

import base64, hashlib, json, time, uuid

import httpx2
import jwt
from cryptography.hazmat.primitives import serialization


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class DPoP(httpx2.Auth):
    """Adds token and proof to each request; shows the nonce that the broker gave last."""

    requires_response_body = False

    def __init__(self, key_pem: bytes, token: str, resource: str):
        self.key = serialization.load_pem_private_key(key_pem, password=None)
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        self.jwk = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
        self.token, self.resource, self.nonce = token, resource, None

    def proof(self) -> str:
        claims = {
            "jti": str(uuid.uuid4()),
            "htm": "POST",
            "htu": self.resource,
            "iat": int(time.time()),
            "ath": base64url(hashlib.sha256(self.token.encode()).digest()),
        }
        if self.nonce:
            claims["nonce"] = self.nonce
        header = {"typ": "dpop+jwt", "jwk": self.jwk}
        return jwt.encode(claims, self.key, algorithm="ES256", headers=header)

    def auth_flow(self, request):
        for _ in range(2):
            request.headers["Authorization"] = f"DPoP {self.token}"
            request.headers["DPoP"] = self.proof()
            response = yield request
            self.nonce = response.headers.get("DPoP-Nonce", self.nonce)
            if response.status_code != 401 or "use_dpop_nonce" not in response.headers.get("WWW-Authenticate", ""):
                return
