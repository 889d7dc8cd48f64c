"""X.509 certificates for mutual TLS (RFC 5280), made with `cryptography`; keys are ECDSA on P-256."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_market.errors import InputError

AUTHORITY_DAYS, SERVER_DAYS = 3650, 825
"""825 days is the longest that TLS clients commonly accept of a server (CA/Browser Forum, until 2020)."""
BACKDATED = timedelta(minutes=5)
"""A certificate counts from a little before now: clocks of robots differ. [assumption]"""
AUTHORITY_NAME = "Fleet Market authority"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes
    serial: str
    """Hexadecimal."""
    sessions: tuple[bytes, ...] = ()
    """Certificates of further sessions of the same party, to the same key; their serial numbers follow on `serial`."""


class Authority:
    """Issues certificates."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate

    @classmethod
    def found(cls, now: datetime) -> tuple[Authority, Issued]:
        """Return a new authority, and its own certificate and key."""
        key, name = ec.generate_private_key(ec.SECP256R1()), _name(AUTHORITY_NAME)
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS, x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        return cls(key, certificate), _issued(certificate, key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes, source: str) -> Authority:
        """Return the authority in two PEM files.

        Raises
        ------
        InputError
            If they are not a certificate and its key.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise InputError(source, "authority", "not a certificate and its key", "restore them from your backup")
        return cls(key, certificate)

    def issue_server(self, hosts: Sequence[str], now: datetime) -> Issued:
        """Return a certificate for an MQTT broker that is reached under the names and addresses `hosts`."""
        key, names = ec.generate_private_key(ec.SECP256R1()), x509.SubjectAlternativeName(map(_host, hosts))
        purpose, number = ExtendedKeyUsageOID.SERVER_AUTH, x509.random_serial_number()
        return _issued(self._sign(hosts[0], key, number, purpose, now, SERVER_DAYS, names), key)

    def issue_client(self, name: str, days: int, now: datetime, sessions: Sequence[str] = ()) -> Issued:
        """Return a certificate for the party `name`, and one for each of its further `sessions`.

        The common name is the MQTT user name and the client id: no two sessions may share one.
        """
        key, first = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
        made = [
            self._sign(common_name, key, first + n, ExtendedKeyUsageOID.CLIENT_AUTH, now, days, None)
            for n, common_name in enumerate((name, *sessions))
        ]
        return replace(_issued(made[0], key), sessions=tuple(c.public_bytes(Encoding.PEM) for c in made[1:]))

    def revocation_list(self, serials: Iterable[str], now: datetime) -> bytes:
        """Return the revocation list, PEM; it does not run out before the authority does."""
        builder = x509.CertificateRevocationListBuilder(
            self._certificate.subject, now - BACKDATED, self._certificate.not_valid_after_utc
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        serial: int,
        purpose: x509.ObjectIdentifier,
        now: datetime,
        days: int,
        names: x509.SubjectAlternativeName | None,
    ) -> x509.Certificate:
        builder = (
            _builder(_name(name), self._certificate.subject, key.public_key(), now, days, serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int, serial: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=serial,
        not_valid_before=now - BACKDATED,
        not_valid_after=now + timedelta(days=days),
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        f"{certificate.serial_number:x}",
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def today() -> datetime:
    """Return the time that certificates are dated with."""
    return datetime.now(UTC)
