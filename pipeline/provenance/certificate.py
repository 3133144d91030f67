"""Whose signature a result carries: a certificate made for this user at the first use, or one that is given.

One's own lies in the user's folder for settings (on Linux ``~/.config/recast``): ``key.pem``, for the user's eyes only,
holds the private key and the certificate, ``certificate.pem`` the root that others need to trust it. The root's own
key is thrown away as soon as it has signed that one certificate. Built as the C2PA specification asks (section 14.5,
X.509 certificates): ECDSA on P-256, no authority of its own, for signing e-mail and documents only.
"""

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from platformdirs import user_config_path

from pipeline.errors import MediaError, UsageError, WorkspaceError
from pipeline.media.probe import require_file
from pipeline.workspace import write_bytes

MOST_BYTES = 1e6  # of a certificate with its chain
TURN_S = 5  # a file is renamed in far less
LIFE = timedelta(days=30 * 365)  # the signature of an expired certificate counts no more
ISSUER = "Recast (self-issued)"
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}  # and their names in C2PA

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Identity:
    """What signs.

    Attributes:
        certificates: PEM, the signer's own first, then those that vouch for it.
        key: PEM, private.
        algorithm: C2PA's name of how is signed.
    """

    certificates: bytes
    key: bytes
    algorithm: str


def config_folder() -> Path:
    """Folder of the user's settings; not made yet."""
    return user_config_path("recast", appauthor=False)


def own_identity() -> Identity:
    """Read this user's identity; make it where there is none.

    Raises:
        WorkspaceError: it is damaged or out of its time, or the folder cannot be written.
    """
    folder = config_folder()
    path = folder / "key.pem"
    try:
        if not path.exists():
            _keep_new(folder)
        identity = _read(path.read_bytes(), path.read_bytes(), path)
        if late := _out_of_time(identity, path):
            raise WorkspaceError(
                f"{late}; set the clock right, or, if it is, rename that file: a new one is made, "
                "and what was signed before keeps its signature"
            )
        root, shown = own_root(), folder / "certificate.pem"
        if root and (not shown.exists() or shown.read_bytes() != root):
            with suppress(WorkspaceError):  # another process is writing the same
                write_bytes(shown, root)
        return identity
    except OSError as error:
        raise WorkspaceError(
            f"cannot keep the certificate for signing results in {folder}: {error.strerror or error}; "
            "give one with --cert and --key, or leave results unsigned with --no-credentials"
        ) from error
    except UsageError as error:
        raise WorkspaceError(f"{error}; delete it, and a new one is made") from error


def own_root() -> bytes | None:
    """Read the certificate that vouches for this user's own, PEM; None where there is none yet, or it is damaged."""
    with suppress(OSError, ValueError):
        chain = x509.load_pem_x509_certificates((config_folder() / "key.pem").read_bytes())
        return _pem(chain[1:])
    return None


def given_root(path: Path) -> bytes:
    """Read a certificate of somebody whose word is to be believed, PEM.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        return _pem(x509.load_pem_x509_certificates(_content("--trust", path)))
    except ValueError as error:
        raise UsageError(f"--trust {path}: no certificate in PEM form") from error


def given_identity(certificate: Path, key: Path) -> Identity:
    """Read an identity from two PEM files.

    Raises:
        UsageError: one cannot be read, is out of its time or protected by a password, or they do not belong together.
    """
    identity = _read(_content("--cert", certificate), _content("--key", key), key)
    if late := _out_of_time(identity, certificate):
        raise UsageError(f"{late}; set the clock right, or give another with --cert")
    return identity


def _content(option: str, path: Path) -> bytes:
    try:
        require_file(path, MOST_BYTES)
        return path.read_bytes()
    except MediaError as error:
        raise UsageError(f"{option} {error}") from error
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot read it: {error.strerror or error}") from error


def _read(certificates: bytes, private: bytes, path: Path) -> Identity:
    """Put an identity together; ``path`` is the key's file, for what is said of it."""
    try:
        key = load_pem_private_key(private, None)
    except TypeError as error:
        raise UsageError(f"the key in {path} is protected by a password: give one that is not") from error
    except ValueError as error:
        raise UsageError(f"no private key in PEM form in {path}") from error
    try:
        chain = x509.load_pem_x509_certificates(certificates)
        fits = isinstance(key, Key) and chain[0].public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"no certificate in PEM form beside the key {path}") from error
    if not isinstance(key, Key) or not fits:
        raise UsageError(f"the key in {path} does not belong to the first certificate")
    return Identity(_pem(chain), _private(key), _algorithm(key))


def valid_until(identity: Identity) -> datetime:
    """Say when the first of an identity's certificates expires, in UTC."""
    return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(identity.certificates))


def _out_of_time(identity: Identity, path: Path) -> str:
    """Say what is wrong with the time of an identity, by this computer's clock; empty where nothing is."""
    now = datetime.now(UTC)
    begins = max(one.not_valid_before_utc for one in x509.load_pem_x509_certificates(identity.certificates))
    if begins <= now <= valid_until(identity):
        return ""
    words = (
        f"is valid from {begins:%Y-%m-%d %H:%M} on"
        if now < begins
        else f"expired on {valid_until(identity):%Y-%m-%d %H:%M}"
    )
    return f"the certificate in {path} {words}, and this computer's clock says {now:%Y-%m-%d %H:%M} UTC"


def _algorithm(key: Key) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return CURVES.get(key.curve.name, key.curve.name)
    return "ps256" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"


def _keep_new(folder: Path) -> None:
    """Make an identity; of several processes that do so at once the first one's stays."""
    key, leaf, root = _new()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".key.{secrets.token_hex(4)}.part"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_private(key) + _pem([leaf, root]))
            os.fsync(file.fileno())
        _name_first(part, folder / "key.pem")
    finally:
        part.unlink(missing_ok=True)


def _name_first(part: Path, final: Path) -> None:
    """Give a file its name, unless another process has given it to its own meanwhile.

    Raises:
        OSError: that cannot be done.
    """
    try:
        os.link(part, final)
    except FileExistsError:
        return
    except OSError:  # there are no links on FAT and some network drives
        _name_by_turns(part, final)


def _name_by_turns(part: Path, final: Path) -> None:
    """Do the same by renaming, which would replace what is there: whoever makes the file of turns may do it."""
    turn, began = final.with_name(f".{final.name}.turn"), time.monotonic()
    while not final.exists():
        try:
            os.close(os.open(turn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if time.monotonic() - began > TURN_S:  # who made it was killed
                turn.unlink(missing_ok=True)
                began = time.monotonic()
            time.sleep(0.02)
            continue
        try:
            if not final.exists():
                part.replace(final)
        finally:
            turn.unlink(missing_ok=True)


def _new() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]:
    """Make a key, its certificate, and the root that signed it."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    number = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    issuer, subject = _name(f"Recast root {number}"), _name(f"Recast user {number}")
    root = _begun(issuer, issuer, root_key)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(_usage(signs_certificates=True), critical=True)
    leaf = _begun(subject, issuer, key)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    leaf = leaf.add_extension(_usage(signs_certificates=False), critical=True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    vouching = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    leaf = leaf.add_extension(vouching, critical=False)
    return key, leaf.sign(root_key, hashes.SHA256()), root.sign(root_key, hashes.SHA256())


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + LIFE)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, ISSUER), (NameOID.COMMON_NAME, text))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def _private(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
