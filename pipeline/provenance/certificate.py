"""The certificate that signs results: one made for this user at first use, or a given one.

The user's own is in the settings folder (on Linux ``~/.config/recast``): ``key.pem``, readable by the user only, holds
the private key and the certificate; ``certificate.pem`` is the root that others need to trust it. The root's own key is
discarded after it has signed that one certificate. Form: C2PA specification, section 14.5, X.509 certificates.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock
from platformdirs import user_config_path

from pipeline.errors import MediaError, UsageError, WorkspaceError
from pipeline.media.probe import require_file
from pipeline.workspace import atomic_path, write_bytes

MAX_BYTES = 1e6  # of a certificate chain
LOCK_TIMEOUT_S = 60  # another process makes a key in far less
LIFETIME = timedelta(days=30 * 365)  # a signature is no longer valid when its certificate expires
ISSUER = "Recast (self-issued)"
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}  # and their names in C2PA
OTHER_USAGES: tuple[str, ...] = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
OTHER_USAGES += ("encipher_only", "decipher_only")

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Identity:
    """A key with its certificate.

    Attributes:
        certificates: PEM, the signer's own first, then those that signed it.
        key: PEM, private.
        algorithm: C2PA's name of the signature algorithm.
    """

    certificates: bytes
    key: bytes
    algorithm: str


def config_folder() -> Path:
    """Return the folder of the user's settings; it may not exist yet."""
    return user_config_path("recast", appauthor=False)


def own_identity() -> Identity:
    """Read this user's identity; create it if there is none."""
    folder = config_folder()
    path, root_path = folder / "key.pem", folder / "certificate.pem"
    try:
        if not path.exists():
            _create_identity(path)
        content = path.read_bytes()
    except (OSError, WorkspaceError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkspaceError(
            f"cannot keep the certificate for signing results in {folder}: {reason}; "
            "give one with --cert and --key, or leave results unsigned with --no-credentials"
        ) from error
    try:
        identity = _parse(content, content, path)
    except UsageError as error:
        raise WorkspaceError(f"{error}; delete it, and a new one is made") from error
    if problem := _check_validity(identity, path):
        raise WorkspaceError(
            f"{problem}; set the clock right, or, if it is, rename that file: a new one is made, "
            "and results signed before keep their signature"
        )
    if (root := own_root()) and (not root_path.exists() or root_path.read_bytes() != root):
        with suppress(WorkspaceError):  # another process is writing the same
            write_bytes(root_path, root)
    return identity


def own_root() -> bytes | None:
    """Read the root of this user's own certificate, PEM; None if there is none yet or it is damaged."""
    with suppress(OSError, ValueError):
        chain = x509.load_pem_x509_certificates((config_folder() / "key.pem").read_bytes())
        return _certificates_pem(chain[1:])
    return None


def given_root(path: Path) -> bytes:
    """Read a certificate to trust, PEM."""
    try:
        return _certificates_pem(x509.load_pem_x509_certificates(_read_option("--trust", path)))
    except ValueError as error:
        raise UsageError(f"--trust {path}: no certificate in PEM form") from error


def given_identity(certificate: Path, key: Path) -> Identity:
    """Read an identity from two PEM files; UsageError if they cannot sign."""
    identity = _parse(_read_option("--cert", certificate), _read_option("--key", key), key)
    if problem := _check_validity(identity, certificate):
        raise UsageError(f"{problem}; set the clock right, or give another with --cert")
    return identity


def _read_option(option: str, path: Path) -> bytes:
    try:
        require_file(path, MAX_BYTES)
        return path.read_bytes()
    except MediaError as error:
        raise UsageError(f"{option} {error}") from error
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot read it: {error.strerror or error}") from error


def _parse(certificates: bytes, private_key: bytes, key_path: Path) -> Identity:
    try:
        key = load_pem_private_key(private_key, None)
    except TypeError as error:
        raise UsageError(f"the key in {key_path} is protected by a password: give one that is not") from error
    except ValueError as error:
        raise UsageError(f"no private key in PEM form in {key_path}") from error
    try:
        chain = x509.load_pem_x509_certificates(certificates)
        fits = isinstance(key, Key) and chain[0].public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"no certificate in PEM form with the key {key_path}") from error
    if not isinstance(key, Key) or not fits:
        raise UsageError(f"the key in {key_path} does not belong to the first certificate")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = CURVES.get(key.curve.name, key.curve.name)
    else:
        algorithm = "ps256" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"
    return Identity(_certificates_pem(chain), _key_pem(key), algorithm)


def valid_until(identity: Identity) -> datetime:
    """Return when the first of an identity's certificates expires, UTC."""
    chain = x509.load_pem_x509_certificates(identity.certificates)
    return min(certificate.not_valid_after_utc for certificate in chain)


def _check_validity(identity: Identity, path: Path) -> str | None:
    """Return why a certificate is not valid by this computer's clock; None if it is."""
    now, end = datetime.now(UTC), valid_until(identity)
    chain = x509.load_pem_x509_certificates(identity.certificates)
    start = max(certificate.not_valid_before_utc for certificate in chain)
    if start <= now <= end:
        return None
    problem = f"is valid from {start:%Y-%m-%d %H:%M} on" if now < start else f"expired on {end:%Y-%m-%d %H:%M}"
    return f"the certificate in {path} {problem}, and this computer's clock says {now:%Y-%m-%d %H:%M} UTC"


def _create_identity(path: Path) -> None:
    """Create an identity; if several processes do so at once, all use the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock, timeout=LOCK_TIMEOUT_S):
        if not path.exists():
            with atomic_path(path) as temporary:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # readable by the user only
                with os.fdopen(file, "wb") as opened:
                    opened.write(_generate())
        if os.name != "nt":  # Windows deletes no open file
            lock.unlink(missing_ok=True)  # while it is held: a process that has it open tries again


def _generate() -> bytes:
    """Generate a key and its certificate, signed by its own root; return key, certificate and root as PEM."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    number = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    issuer, subject = _name(f"Recast root {number}"), _name(f"Recast user {number}")
    root, leaf = _issue(issuer, issuer, root_key, root_key), _issue(subject, issuer, key, root_key)
    return _key_pem(key) + _certificates_pem([leaf, root])


def _issue(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signing_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Issue a certificate for a key: a root if it is self-signed, else one for signing documents."""
    is_root, public_key, now = key is signing_key, key.public_key(), datetime.now(UTC)
    usage = {"digital_signature": not is_root, "key_cert_sign": is_root, "crl_sign": is_root}
    constraints = x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None)
    builder = (
        x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(constraints, critical=True)
        .add_extension(x509.KeyUsage(**dict.fromkeys(OTHER_USAGES, False), **usage), critical=True)
    )
    if not is_root:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
        email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(email, critical=False).add_extension(authority, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, ISSUER), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificates_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
