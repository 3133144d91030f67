"""Certificates: made once, kept from others' eyes, refused where they are not fit."""

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from pipeline.errors import UsageError, WorkspaceError
from pipeline.provenance.certificate import given_identity, own_identity, own_root, valid_until
from pipeline.provenance.credentials import check_identity
from tests.conftest import ROOT

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of settings that nobody has used yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings" / "recast"


def written(key: Key, folder: Path, *, password: bytes | None = None, self_signed: bool = True) -> tuple[Path, Path]:
    """A certificate that is its own issuer, which C2PA does not take, or else issued by another; and its key."""
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ann")]), datetime.now(UTC)
    issuer = subject if self_signed else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bob")])
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 7, now, now + timedelta(days=9))
    folder.mkdir(parents=True, exist_ok=True)
    certificate, path = folder / "cert.pem", folder / "their.key"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    return certificate, path


def test_ones_own_is_made_once_and_for_ones_own_eyes(settings: Path) -> None:
    assert own_root() is None
    first = own_identity()
    check_identity(first)
    assert own_identity() == first
    assert stat.S_IMODE((settings / "key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in settings.iterdir()) == ["certificate.pem", "key.pem"]
    leaf, root = x509.load_pem_x509_certificates(first.certificates)
    assert own_root() == root.public_bytes(Encoding.PEM)
    leaf.verify_directly_issued_by(root)
    assert b"PRIVATE" not in (settings / "certificate.pem").read_bytes()


def test_two_users_have_two(settings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = own_identity()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert own_identity().key != first.key


def test_processes_that_make_it_at_once_agree(settings: Path) -> None:
    code = (
        "from pipeline.provenance.certificate import own_identity as own; import hashlib; print(hashlib.md5(own().key))"
    )
    code = code.replace("hashlib.md5(own().key)", "hashlib.sha256(own().key).hexdigest()")
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0] * 4
    assert own_root() is not None


def test_a_damaged_one_is_said(settings: Path) -> None:
    own_identity()
    (settings / "key.pem").write_bytes(b"gone")
    with pytest.raises(WorkspaceError, match=r"key\.pem.*delete it"):
        own_identity()


@pytest.mark.parametrize("content", [None, b"gone", b"\xff\xfe"])
def test_what_others_get_is_made_again_where_it_is_lost(settings: Path, content: bytes | None) -> None:
    own_identity()
    root = own_root()
    (settings / "certificate.pem").unlink()
    if content is not None:
        (settings / "certificate.pem").write_bytes(content)
    assert own_root() == root
    own_identity()
    assert (settings / "certificate.pem").read_bytes() == root


def test_no_place_for_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(WorkspaceError, match=r"--cert and --key.*--no-credentials"):
        own_identity()


def test_one_that_is_given(settings: Path) -> None:
    own = own_identity()
    (settings / "chain.pem").write_bytes(own.certificates)
    with pytest.raises(UsageError, match="no private key"):
        given_identity(settings / "key.pem", settings / "certificate.pem")  # the wrong way round
    given = given_identity(settings / "chain.pem", settings / "key.pem")
    assert (given.key, given.algorithm) == (own.key, "es256")
    check_identity(given)


@pytest.mark.parametrize(("curve", "name"), [(ec.SECP384R1(), "es384"), (ec.SECP521R1(), "es512"), (None, "ps256")])
def test_the_kind_of_key_says_how_is_signed(tmp_path: Path, curve: ec.EllipticCurve | None, name: str) -> None:
    key: Key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    assert given_identity(*written(key, tmp_path)).algorithm == name


def test_one_that_is_not_fit_is_refused_before_work_begins(tmp_path: Path) -> None:
    identity = given_identity(*written(ec.generate_private_key(ec.SECP256R1()), tmp_path))
    with pytest.raises(UsageError, match=r"certificate cannot sign.*--cert"):
        check_identity(identity)


def test_what_is_given_wrongly_is_said(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, path = written(key, tmp_path)
    other = written(ec.generate_private_key(ec.SECP256R1()), tmp_path / "other")[1]
    locked = written(key, tmp_path / "locked", password=b"1234")[1]
    for pair, words in (
        ((certificate, tmp_path / "none.key"), "--key .*none.key"),
        ((tmp_path / "none.pem", path), "--cert .*none.pem"),
        ((path, path), "no certificate"),
        ((certificate, certificate), "no private key"),
        ((certificate, other), "does not belong"),
        ((certificate, locked), "password"),
    ):
        with pytest.raises(UsageError, match=words):
            given_identity(*pair)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps files from others' eyes by folder, not by mode")
def test_the_key_is_hidden_whatever_the_umask(settings: Path) -> None:
    before = os.umask(0)
    try:
        own_identity()
    finally:
        os.umask(before)
    assert stat.S_IMODE((settings / "key.pem").stat().st_mode) == 0o600


def made_at(days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one's own certificate, for ten days, by a clock that is so many days wrong."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=days)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.provenance.certificate.datetime", Wrong)
        patch.setattr("pipeline.provenance.certificate.LIFETIME", timedelta(days=10))
        own_identity()


@pytest.mark.parametrize(("days", "words"), [(400, "is valid from"), (-400, "expired on")])
def test_one_made_by_a_wrong_clock_is_said_and_a_new_one_can_be_made(
    days: float, words: str, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_at(days, monkeypatch)
    with pytest.raises(
        WorkspaceError, match=rf"key\.pem {words} .*set the clock right, or, if it is, rename that file"
    ):
        own_identity()
    with pytest.raises(UsageError, match=rf"{words} .*give another with --cert"):
        given_identity(settings / "key.pem", settings / "key.pem")
    (settings / "key.pem").rename(settings / "old.pem")
    check_identity(own_identity())
    assert valid_until(own_identity()) > datetime.now(UTC) + timedelta(days=9000)
