"""Verify, as a person types it."""

import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import main
from pipeline.errors import RecastError
from pipeline.provenance.certificate import own_identity, own_root, valid_until
from pipeline.provenance.credentials import Disclosure, sign
from tests.provenance.test_credentials import made, signed


def verify(*arguments: str | Path) -> int:
    return main(["verify", *map(str, arguments)])


def test_it_tells_what_when_from_what_and_whether_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = signed(made(tmp_path / "made.mp4"), made(tmp_path / "seen.mp4"))
    assert verify(result) == 0
    shown = capsys.readouterr().out
    for words in ("made by: Recast 0.", " on 20", "seen.mp4", "portraits", "trusted", "compositeWithTrained"):
        assert words in shown


def test_a_stranger_sees_that_it_holds_and_not_who_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    root = own_root()
    assert root is not None
    (tmp_path / "their.pem").write_bytes(root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "stranger"))
    assert verify(result) == 0
    assert "unknown" in capsys.readouterr().out
    assert not (tmp_path / "stranger").exists(), "looking makes no certificate"
    assert verify(result, "--trust", tmp_path / "their.pem") == 0
    assert "valid and trusted" in capsys.readouterr().out


def test_a_changed_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = signed(made(tmp_path / "made.mp4"), made(tmp_path / "seen.mp4"))
    content = bytearray(result.read_bytes())
    content[-20] ^= 1
    result.write_bytes(content)
    assert verify(result) == 1
    shown = capsys.readouterr()
    assert "TAMPERED" in shown.out
    assert "made.mp4" in shown.err


def test_a_file_without_fails_and_several_are_all_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, result = made(tmp_path / "plain.png"), signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    stripped = tmp_path / "stripped.png"
    shutil.copy(plain, stripped)
    stripped.write_bytes(stripped.read_bytes() + Disclosure("portraits", {}).comment().encode())
    assert verify(plain, tmp_path / "none.png", result, stripped) == 1
    shown = capsys.readouterr()
    assert shown.out.count("signature: none") == 2
    assert shown.out.count("signature removed, or stripped.png.c2pa is not beside it") == 1
    assert "trusted" in shown.out
    assert [line.split(":")[0] for line in shown.err.splitlines()] == ["error"] * 3


def test_a_sidecar_goes_with_its_file_and_is_found_through_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = signed(made(tmp_path / "made.mkv"), made(tmp_path / "seen.mkv"))
    assert verify(tmp_path / "made.mkv.c2pa") == 1
    assert f"name that one, {result}" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.mkv").symlink_to(result)
    assert verify(tmp_path / "elsewhere" / "link.mkv") == 0


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_identity()
    assert verify(made(tmp_path / "a.png"), "--trust", tmp_path / "none.pem") == 2
    assert "none.pem" in capsys.readouterr().err
    (tmp_path / "odd.pem").write_text("no certificate")
    assert verify(made(tmp_path / "a.png"), "--trust", tmp_path / "odd.pem") == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://example.org/a.mp4", "is an address"),
        (".", "is a folder"),
        ("/dev/null", "is a pipe"),
        ("", "is a folder"),
    ],
)
def test_what_is_no_file_is_one_line_and_does_not_silence_the_others(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = signed(made(tmp_path / "made.png"), made(tmp_path / "seen.png"))
    assert verify(name, result, "n" * 300) == 1
    said = capsys.readouterr()
    assert "trusted" in said.out
    first, second = said.err.splitlines()
    assert words in first
    assert "cannot read nnn" in second


def test_a_certificate_that_has_expired_is_not_tampering(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    result = made(tmp_path / "made.png")
    for seconds in (2, 20, 120):  # within which a machine, however busy, signs
        monkeypatch.setattr("pipeline.provenance.certificate.LIFETIME", timedelta(seconds=seconds))
        shutil.rmtree(tmp_path / "settings", ignore_errors=True)
        with suppress(RecastError):
            identity = own_identity()
            sign(result, Disclosure("portraits", {}), identity, made(tmp_path / "seen.png"))
            break
    while datetime.now(UTC) <= valid_until(identity) + timedelta(seconds=1):
        time.sleep(0.1)
    assert verify(result) == 1
    said = capsys.readouterr()
    assert "unchanged, but by this computer's clock" in said.out
    assert "is the clock right?" in said.err
    content = bytearray(result.read_bytes())
    content[-20] ^= 1
    result.write_bytes(content)
    assert verify(result) == 1
    assert "TAMPERED" in capsys.readouterr().out
