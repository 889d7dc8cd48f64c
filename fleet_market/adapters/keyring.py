"""Keys on disk, and the guard that uses them. Imports `cryptography`: import this module only where there are keys.

A folder of keys as `fleet-market keys` makes it; a party's machine needs these of it and no more::

    ca.pem           certificate of the authority, for TLS
    ca.did           did:key that signs the register: what all trust begins with
    registry.json    the signed register of keys
    ROLE/NAME/       message.key (Ed25519), tls.key, tls.pem: of this party alone
    market/NAME/sessions/  a certificate for each further session of a market, to the same tls.key
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import ValidationError

from fleet_market.adapters.guard import Guard, TlsFiles
from fleet_market.adapters.private_files import read_private, write_file
from fleet_market.errors import InputError, ProtocolError, UnreadableError
from fleet_market.ids import DidKey, OwnerId
from fleet_market.oracle.evidence import signature_fault
from fleet_market.protocol.did import decode_did, encode_did
from fleet_market.protocol.gate import LASTING, Gate, Limits
from fleet_market.protocol.messages import TelemetryRecord
from fleet_market.protocol.registry import Directory, Register, Role
from fleet_market.protocol.seal import LAST_SEQ, Seal, read_signature, to_sign, write_rest, write_signature
from fleet_market.protocol.topics import parse

log = logging.getLogger(__name__)

CA_CERTIFICATE, CA_DID, REGISTER = "ca.pem", "ca.did", "registry.json"
MESSAGE_KEY, TLS_KEY, TLS_CERTIFICATE, SESSION_CERTIFICATES = "message.key", "tls.key", "tls.pem", "sessions"
REGISTER_CONTEXT = "registry"
"""Stands for the topic under the signature of the register: no message has this topic."""
WATCH_S = 0.5
"""How often the register is looked at: a revocation counts within one batch."""
LIFE_S = 60
"""Of a message; a sender that is not answered says it again with a new seal."""
MAX_REGISTER_BYTES = 32 * 2**20
MAX_CACHED_KEYS = 50_000


class SigningKey:
    """An Ed25519 key (RFC 8032)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.did = encode_did(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Return the key in a PEM file.

        Raises
        ------
        InputError
            If it is not there, not such a key, or if others may read it.
        """
        pem = read_private(path)
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(str(path), "key", "not an Ed25519 key in PEM", "make one with `fleet-market keys issue`")
        return cls(key)

    def pem(self) -> bytes:
        """Return the private key as PKCS #8 in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`, 64 bytes."""
        return self._key.sign(message)


class Verifier:
    """Verifies signatures and keeps the parsed keys, since to parse one costs as much as to use it."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Ed25519PublicKey] = {}

    def __call__(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is that of the key's holder over `message`."""
        try:
            key = self._keys.get(public_key)
            if key is None:
                key = Ed25519PublicKey.from_public_bytes(public_key)
                if len(self._keys) < MAX_CACHED_KEYS:
                    self._keys[public_key] = key
            key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class RegisterFile:
    """The signed register on disk, read again when the file changes.

    Parameters
    ----------
    folder : Path
        Holds it, and the did:key of the authority.

    Raises
    ------
    InputError
        If it is not there, or not signed by the authority.
    """

    def __init__(self, folder: Path) -> None:
        self._path, anchor = folder / REGISTER, folder / CA_DID
        try:
            self.anchor = DidKey(anchor.read_text().strip())
        except OSError:
            raise InputError(
                str(folder), "--keys", str(folder), "no keys there: make them with `fleet-market keys init`"
            ) from None
        except ValueError as error:
            raise InputError(str(anchor), "key", "not a did:key", str(error)) from None
        self._stamp = self._look()
        self.register = self._read()

    def poll(self) -> bool:
        """Return whether the register has changed. One that cannot be believed changes nothing and is complained about."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            register = self._read()
        except InputError as error:
            log.warning("the register stays as it was: %s", error)
            return False
        if register.serial < self.register.serial:
            log.warning("the register stays as it was: %s is older (%d)", self._path, register.serial)
            return False
        self.register = register
        return True

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> Register:
        return read_register(self._path, self.anchor)


def read_register(path: Path, anchor: DidKey) -> Register:
    """Return the register in a file.

    Raises
    ------
    InputError
        If it is not there, not a register, or not signed by `anchor`.
    """
    try:
        if path.stat().st_size > MAX_REGISTER_BYTES:
            raise InputError(str(path), "size", path.stat().st_size, f"use at most {MAX_REGISTER_BYTES} bytes")
        signature, rest = read_signature(path.read_bytes())
    except OSError as error:
        raise UnreadableError(path, error, "copy the register there") from None
    except ProtocolError:
        raise InputError(str(path), "first line", "no signature", "use the file that `fleet-market keys` wrote") from None
    if not Verifier()(decode_did(anchor), signature, to_sign(REGISTER_CONTEXT, rest)):
        raise InputError(str(path), "signature", "not by the authority", f"use the register that {anchor} has signed")
    try:
        return Register.model_validate_json(rest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(str(path), ".".join(map(str, first["loc"])), "invalid", first["msg"]) from None


def write_register(path: Path, register: Register, authority: SigningKey) -> None:
    """Write a register, signed; whoever reads meanwhile sees the old one or the new one."""
    rest = register.model_dump_json(indent=1).encode() + b"\n"
    write_file(path, write_signature(authority.sign(to_sign(REGISTER_CONTEXT, rest))) + rest)


class KeyGuard(Guard):
    """Guards a connection with keys: seals what goes out, lets in only what is sealed by whoever may say it.

    Parameters
    ----------
    folder : Path
        Of keys.
    role, name
        Whose.
    limits : Limits
        For each sender.
    """

    def __init__(self, folder: Path, role: Role, name: str, limits: Limits) -> None:
        self._file, own = RegisterFile(folder), folder / role / name
        self.tls = TlsFiles(folder / CA_CERTIFICATE, own / TLS_CERTIFICATE, own / TLS_KEY)
        self._key = SigningKey.load(own / MESSAGE_KEY)
        if not any(entry.key == self._key.did and entry.valid(time.time()) for entry in self._file.register.of(role, name)):
            mend = f"the register does not know it, or no more: copy the newest {REGISTER} here, or `issue` a new key"
            raise InputError(str(own / MESSAGE_KEY), "key", str(self._key.did), mend)
        self._verifier = Verifier()
        super().__init__(Gate(limits, Directory(self._file.register), self._verifier))
        self._conn = self._seq = 0
        self._watched = time.monotonic()

    def connect(self) -> None:
        """Begin a connection: its number is larger than that of every earlier one."""
        self._conn, self._seq = max(int(1000 * self.unix_s()), self._conn + 1), 0

    def seal(self, topic: str, payload: bytes) -> bytes:
        """Return the sealed message."""
        self._seq += 1
        address = parse(topic)
        lasting = (address.direction, address.kind) in LASTING
        return self._sealed(topic, payload, self._seq, 0 if lasting else int(self.unix_s()) + LIFE_S)

    def seal_will(self, topic: str, payload: bytes) -> bytes:
        """Return the last will of the connection that begins: the last of its messages, whenever it comes."""
        return self._sealed(topic, payload, LAST_SEQ, 0)

    def sign(self, content: bytes) -> tuple[DidKey, bytes]:
        """Return the name of the key and its signature; `content` begins with a context that no seal begins with."""
        return self._key.did, self._key.sign(content)

    def record_fault(self, record: TelemetryRecord) -> str | None:
        """Return what is wrong with a record's signature."""
        directory = self.gate.directory
        return None if directory is None else signature_fault(record, directory, self._verifier)

    def open(self, topic: str, payload: bytes) -> bytes:
        """Return the message that came in, verified with the register of now."""
        self.watch()
        return super().open(topic, payload)

    def watch(self) -> None:
        """Read the register again if it is time to, and if it has changed."""
        now = time.monotonic()
        if now - self._watched >= WATCH_S:
            self._watched = now
            if self._file.poll():
                self.gate.directory = Directory(self._file.register)
                log.info("register %d with %d keys", self._file.register.serial, len(self._file.register.entries))

    def session_tls(self, number: int) -> TlsFiles | None:
        """Return the certificate of a further session; all of a party have one private key."""
        if (tls := self.tls) is None:
            return None
        return TlsFiles(tls.ca, tls.certificate.parent / SESSION_CERTIFICATES / f"{number}.pem", tls.key)

    def owner_of(self, robot: str) -> OwnerId | None:
        """Return whom the register names as a robot's owner."""
        return None if self.gate.directory is None else self.gate.directory.owner_of(robot)

    def remembered(self) -> bytes:
        """Return what has been let in, for `restore`: it must not come again after a restart."""
        return json.dumps(self.gate.order.marks()).encode()

    def restore(self, path: Path) -> None:
        """Read what `remembered` returned; a file that is not there says nothing.

        Raises
        ------
        InputError
            If the file is there and cannot be understood.
        """
        if not path.exists():
            return
        try:
            marks: Iterable[tuple[str, int, int]] = [(str(k), int(c), int(s)) for k, c, s in json.loads(path.read_bytes())]
            self.gate.order.restore(marks)
        except (ValueError, TypeError):
            mend = f"it is damaged: remove it; messages of the last {LIFE_S} s could then be replayed once"
            raise InputError(str(path), "file", "not what was written", mend) from None

    def _sealed(self, topic: str, payload: bytes, seq: int, exp: int) -> bytes:
        rest = write_rest(Seal(kid=self._key.did, conn=self._conn, seq=seq, exp=exp), payload)
        return write_signature(self._key.sign(to_sign(topic, rest))) + rest
