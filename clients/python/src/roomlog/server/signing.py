"""Signs tokens: an application's own server decides who a user is, and what that user may do."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..errors import RoomlogError

Permission = Literal["read", "write", "manage"]
"""`read`: subscribe, history. `write`: publish, signal. `manage`: delete, revoke, list."""

Key = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

PERMISSIONS = ("read", "write", "manage")

# The server's limits.
MIN_SECRET, MAX_USER = 32, 256


def sign_token(
    *,
    user: str,
    rooms: Mapping[str, Collection[Permission]],
    expires_in: float | timedelta = 3600,
    secret: str | bytes | None = None,
    private_key: str | bytes | None = None,
    id: str | None = None,
) -> str:
    """Returns a token, a JWT, for one user.

    - `user`: the user's name, which others see on the messages, 1 to 256 bytes.
    - `rooms`: permissions by pattern of room names, such as `{"chat.*": ["read", "write"]}`. `*` stands for any run of characters.
    - `expires_in`: the lifetime, in seconds. Clients fetch the next token in time, so short lifetimes are no trouble.
    - `secret`: the server's `auth.hs256_secret`. Signs with HS256.
    - `private_key`: a private key in PEM, whose public key the server has: RSA (RS256), EC P-256 (ES256) or Ed25519 (EdDSA).
    - `id`: a name of the token (`jti`) by which it alone can be revoked.

    Raises `RoomlogError` with the code `bad_request` for arguments that the server would refuse.
    """
    if (secret is None) == (private_key is None):
        raise _refused("pass either `secret` or `private_key`")
    if not 1 <= len(user.encode()) <= MAX_USER:
        raise _refused(f"`user` must have 1 to {MAX_USER} bytes")
    for pattern, permissions in rooms.items():
        if isinstance(permissions, str) or not set(permissions) <= set(PERMISSIONS):
            raise _refused(f"the permissions of {pattern!r} must be a list of {', '.join(map(repr, PERMISSIONS))}, and are {permissions!r}")
    lifetime = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
    if lifetime <= 0:
        raise _refused("`expires_in` must be more than 0 seconds")
    now = int(time.time())
    claims = {
        "sub": user,
        "iat": now,
        "exp": now + max(1, int(lifetime)),
        "rooms": {pattern: list(permissions) for pattern, permissions in rooms.items()},
    }
    if id is not None:
        claims["jti"] = id
    if secret is not None:
        if len(secret) < MIN_SECRET:
            raise _refused(f"`secret` must have at least {MIN_SECRET} bytes: make one with `openssl rand -hex 32`")
        return jwt.encode(claims, secret, "HS256")
    assert private_key is not None
    key, algorithm = _load(private_key)
    return jwt.encode(claims, key, algorithm)


def _load(pem: str | bytes) -> tuple[Key, str]:
    try:
        key = load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, password=None)
    except (TypeError, ValueError) as error:
        raise _refused(f"`private_key` must be a private key in PEM without a password: {error}") from None
    if isinstance(key, RSAPrivateKey):
        return key, "RS256"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA"
    raise _refused("`private_key` must be an RSA, an EC P-256 or an Ed25519 key")


def _refused(why: str) -> RoomlogError:
    return RoomlogError("bad_request", f"the token cannot be signed: {why}")
