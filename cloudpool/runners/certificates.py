"""Certificates for a server of one session: an authority that signs once, and is thrown away."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cloudpool.errors import MissingExtraError

VALID = dt.timedelta(days=3650)  # the session ends before


def make(name: str) -> tuple[str, str, str]:
    """An authority's certificate, the server's, and the server's key, as PEM. The authority's key is not kept."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise MissingExtraError("kubernetes", "A server elsewhere") from None
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority, server = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]) for common in ("cloudpool", name)
    )
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)  # clocks differ

    def certificate(subject: x509.Name, public: Any, *extensions: tuple[x509.ExtensionType, bool]) -> str:
        builder = x509.CertificateBuilder(
            authority, subject, public, x509.random_serial_number(), begin, begin + VALID
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)

    known_by = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    own = certificate(
        authority,
        authority_key.public_key(),
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage(signs=True), True),
        (known_by, False),
    )
    signed = certificate(
        server,
        key.public_key(),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(signs=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known_by), False),
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return own, signed, key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()
