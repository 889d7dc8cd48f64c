"""Ed25519 signatures (RFC 8032) with a key from a file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fleet_market.errors import InputError, UnreadableError

MAKE_ONE = "make one: openssl genpkey -algorithm ed25519 -out FILE; chmod 600 FILE"


class Ed25519Signer:
    """Signs with one private key. Implements `fleet_market.ledger.HeadSigner`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._key_id = key.public_key().public_bytes_raw().hex()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load the private key from a PEM file (PKCS #8, no password).

        Raises
        ------
        InputError
            If the file cannot be read, holds no such key, or others may read it.
        """
        try:
            content, mode = path.read_bytes(), path.stat().st_mode
        except OSError as error:
            raise UnreadableError(path, error, MAKE_ONE) from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(
                str(path), "permissions", oct(stat.S_IMODE(mode)), "nobody else may read a private key: chmod 600"
            )
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise InputError(str(path), "key", str(error)[:80], MAKE_ONE) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(str(path), "kind of key", type(key).__name__, MAKE_ONE)
        return cls(key)

    @property
    def key_id(self) -> str:
        """The public key, 64 hexadecimal digits."""
        return self._key_id

    def sign(self, content: bytes) -> bytes:
        """Return the signature of `content`, 64 bytes."""
        return self._key.sign(content)


def verify(key_id: str, signature: bytes, content: bytes) -> bool:
    """Return whether `signature` is that of the key `key_id` (hexadecimal) over `content`."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_id)).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
