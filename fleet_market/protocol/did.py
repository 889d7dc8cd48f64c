"""Public keys as names: ``did:key`` for Ed25519.

Sources: W3C CCG, "The did:key Method v0.9" (``did:key:`` + multibase of multicodec and key); multicodec table:
``ed25519-pub`` = 0xed, as unsigned varint the bytes ed 01; multibase: ``z`` = base58btc; base58: S. Nakamoto, Bitcoin's
``base58.h`` (the alphabet without 0, O, I and l).
"""

from __future__ import annotations

from fleet_market.ids import DidKey

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
PREFIX = "did:key:z"
ED25519_PUB = bytes([0xED, 0x01])
KEY_BYTES = 32


def encode_did(key: bytes) -> DidKey:
    """Return the name of a raw Ed25519 public key of 32 bytes.

    Raises
    ------
    ValueError
        If `key` has another length.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"an Ed25519 public key must have {KEY_BYTES} bytes, was {len(key)}")
    number, digits = int.from_bytes(ED25519_PUB + key), ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    return DidKey(PREFIX + digits)


def decode_did(name: DidKey) -> bytes:
    """Return the raw public key that `name` says, 32 bytes.

    Raises
    ------
    ValueError
        If it is not the name of an Ed25519 key.
    """
    number = 0
    for digit in name[len(PREFIX) :]:
        number = 58 * number + ALPHABET.index(digit)
    raw = number.to_bytes(len(ED25519_PUB) + KEY_BYTES + 1)
    if raw[0] or raw[1:3] != ED25519_PUB:
        raise ValueError(f"{name} is not the name of an Ed25519 key")
    return raw[3:]
