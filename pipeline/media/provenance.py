"""Content Credentials (C2PA): what a result says of how it was made, signed, and read back.

Nothing is asked of the network: no time stamp, no remote manifests. c2pa runs in a thread of its own, for it swallows
what is raised while it calls Python, and takes a file that Ctrl-C broke off for a whole one.
"""

import io
import json
import mmap
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import c2pa
import cv2
import numpy as np

from pipeline import __version__
from pipeline.errors import MediaError, UsageError
from pipeline.media.certificate import Identity
from pipeline.media.files import is_file, require_file
from pipeline.media.kinds import media_type
from pipeline.media.notice import Claim
from pipeline.prefetch import run_aside

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
ORIGINAL = "original"  # what the manifest calls the file the result was made from
MODEL, FROM_PEOPLE, TO_PEOPLE = "recast.model", "recast.from", "recast.to"  # names of our own in it
UNKNOWN_TYPE = "application/octet-stream"
SIDECAR = ".c2pa"  # ending of a file that carries the credentials of another
UNTRUSTED = "signingCredential.untrusted"
EXPIRED = "signingCredential.expired"  # or not valid yet
LABEL = b"urn:c2pa:"  # what every set of credentials has in it, however it is stored
LONGEST = 200  # characters of one thing that a file says
UNFOUND = "there are credentials in it, and what leads to them is damaged"
SETTINGS: dict[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}

State = Literal["trusted", "valid", "expired", "tampered", "none"]


@dataclass(frozen=True)
class Credentials:
    """What a file says of how it was made, and whether that holds.

    Attributes:
        state: ``trusted`` and ``valid`` hold, and the signer is known or not; ``expired``: they would hold if the
            certificate were in its time; ``tampered`` does not; ``none``: nothing.
        maker: program and version.
        actions: what was done, a line each.
        when: as the maker says; no clock of anybody else has vouched for it.
        originals: names of the files it was made from.
        signer: name in the certificate.
        problems: what does not hold, a line each.
    """

    state: State
    maker: str = ""
    actions: tuple[str, ...] = ()
    when: str = ""
    originals: tuple[str, ...] = ()
    signer: str = ""
    problems: tuple[str, ...] = ()


def sign(path: Path, claim: Claim, identity: Identity, original: Path) -> bytes | None:
    """Sign a file, which from now on carries its credentials, where its kind can.

    Args:
        path: the file; changed.
        claim: what to say of it.
        identity: who signs.
        original: what it was made from.

    Returns:
        The credentials, where they have to lie beside the file; None where they are in it.

    Raises:
        MediaError: it cannot be signed.
    """
    part = path.with_name(f"{path.name}.signed")
    can_carry = _kind(path) in c2pa.Builder.get_supported_mime_types()

    def work(is_unwanted: threading.Event) -> bytes:
        with _builder(claim, identity) as builder:
            _add_original(builder, original, is_unwanted)
            if not can_carry:
                builder.set_no_embed()
            with path.open("rb") as source, part.open("w+b") as signed:
                streams = _Stream(source, is_unwanted), _Stream(signed, is_unwanted)
                manifest: bytes = builder.sign(_kind(path), *streams)
                return manifest

    try:
        manifest = run_aside(work)
        if can_carry:
            part.replace(path)
        return None if can_carry else manifest
    except c2pa.C2paError as error:
        raise MediaError(f"cannot sign {path}: {error}; --no-credentials would leave it unsigned") from error
    except OSError as error:
        raise MediaError(f"cannot sign {path}: {error.strerror or error}; check the disk") from error
    finally:
        part.unlink(missing_ok=True)


class _Stream:
    """A file for c2pa that fails as soon as nobody waits for what is made of it, so that c2pa ends."""

    def __init__(self, file: IO[bytes], is_unwanted: threading.Event) -> None:
        self._file, self._is_unwanted = file, is_unwanted

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes."""
        return self._checked().read(size)

    def write(self, content: bytes) -> int:
        """Write all of it."""
        return self._checked().write(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._checked().seek(offset, whence)

    def tell(self) -> int:
        """Say where in the file this is."""
        return self._checked().tell()

    def flush(self) -> None:
        """Write what is buffered."""
        self._checked().flush()

    def _checked(self) -> IO[bytes]:
        if self._is_unwanted.is_set():
            raise InterruptedError
        return self._file


def check_identity(identity: Identity) -> None:
    """Sign a black pixel and read it back, to know before long work whether an identity is good for it.

    Raises:
        UsageError: it is not.
    """
    pixel = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()

    def work(is_unwanted: threading.Event) -> Credentials:
        with _builder(Claim("none", {}), identity) as builder, io.BytesIO() as signed:
            builder.add_ingredient({"relationship": "parentOf", "label": ORIGINAL}, "png", io.BytesIO(pixel))
            builder.sign("png", io.BytesIO(pixel), signed)
            with _context(SETTINGS) as context, c2pa.Reader("png", signed, context=context) as reader:
                return _described(json.loads(reader.json()))

    try:
        found = run_aside(work)
    except c2pa.C2paError as error:
        raise UsageError(
            f"the certificate cannot sign Content Credentials: {error}; give another with --cert"
        ) from error
    if found.state == "tampered":
        why = "; ".join(found.problems) or "its signatures do not hold"
        raise UsageError(f"the certificate cannot sign Content Credentials: {why}; give another with --cert")


def read_credentials(path: Path, trusted: Sequence[bytes], beside: bytes | None = None) -> Credentials:
    """Read what a file says of how it was made: what is inside it, else the ``.c2pa`` file beside it.

    Args:
        path: the file.
        trusted: certificates, PEM, whose word is believed.
        beside: what the file beside it will hold, where there is none yet.

    Raises:
        MediaError: the file cannot be read.
    """
    require_file(path)
    if beside is not None:
        return _read(path, trusted, beside)
    inside = _read(path, trusted, None)
    named, real = (place.with_name(place.name + SIDECAR) for place in (path, path.resolve()))
    sidecar = named if is_file(named) else real
    try:
        other = _read(path, trusted, sidecar.read_bytes()) if is_file(sidecar) else None
    except OSError as error:
        other = Credentials("tampered", problems=(f"{sidecar.name} cannot be read: {error.strerror}",))
    if other is None:
        return inside
    if inside.state == "none" or inside.problems == (UNFOUND,):
        return other
    note = f"{sidecar.name} beside it does not fit; what is in the file itself counts"
    return replace(inside, problems=(*inside.problems, note)) if other.state == "tampered" else inside


def _read(path: Path, trusted: Sequence[bytes], manifest: bytes | None) -> Credentials:
    """Read the credentials of a file from inside it, or, where they are given, those given."""
    settings = {**SETTINGS, "trust": {"user_anchors": b"\n".join(trusted).decode()}} if trusted else SETTINGS
    given, kind = {} if manifest is None else {"manifest_data": manifest}, media_type(path) or _kind(path)

    def work(is_unwanted: threading.Event) -> str:
        with (
            path.open("rb") as file,
            _context(settings) as context,
            c2pa.Reader(kind, _Stream(file, is_unwanted), context=context, **given) as reader,
        ):
            told: str = reader.json()
            return told

    try:
        return _described(json.loads(run_aside(work)))
    except (LookupError, TypeError, AttributeError, ValueError):
        return Credentials("tampered", problems=("what they say is not in the form of C2PA",))
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return Credentials("tampered", problems=(UNFOUND,)) if _holds_some(path) else Credentials("none")
    except c2pa.C2paError as error:
        if manifest is None and not _holds_some(path):
            return Credentials("none")
        return Credentials("tampered", problems=(_legible(f"the credentials are damaged: {error}"),))
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error


def _holds_some(path: Path) -> bool:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(LABEL) >= 0


def _described(store: dict[str, Any]) -> Credentials:
    manifest = store["manifests"][store["active_manifest"]]
    wrong = [status for status in store.get("validation_status", ()) if status["code"] != UNTRUSTED]
    made = manifest.get("claim_generator_info") or [{}]
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    signature = manifest.get("signature_info", {})
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    late = bool(wrong) and all(status["code"] == EXPIRED for status in wrong)
    return Credentials(
        states.get(store["validation_state"], "expired" if late else "tampered"),
        _legible(" ".join(str(made[0][key]) for key in ("name", "version") if key in made[0])),
        tuple(map(_in_words, actions)),
        _legible(next((action["when"] for action in actions if "when" in action), signature.get("time", ""))),
        tuple(_legible(one.get("title", "a file")) for one in manifest.get("ingredients", ())),
        _legible(signature.get("common_name") or signature.get("issuer") or "nobody named"),
        tuple(_legible(f"{status['code']}: {status.get('explanation', '')}") for status in wrong),
    )


def _in_words(action: dict[str, Any]) -> str:
    source = action.get("digitalSourceType", "").rpartition("/")[2]
    told = action.get("parameters", {})
    parts = [
        action["action"].removeprefix("c2pa."),
        action.get("description", ""),
        f"with the model {told[MODEL]!r}" if MODEL in told else "",
        f"({told[FROM_PEOPLE]} to {told[TO_PEOPLE]})" if FROM_PEOPLE in told else "",
        f"({source})" if source else "",
    ]
    return _legible(" ".join(part for part in parts if part))


def _legible(words: object) -> str:
    """Make what a file says fit to be shown: no line of its own making, no sequence that a terminal obeys."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(words)[:LONGEST])


def _add_original(builder: c2pa.Builder, original: Path, is_unwanted: threading.Event) -> None:
    """Name the file that a result was made from, with the credentials it carries where it is of a kind that can."""
    title = original.name.encode("utf-8", "replace").decode()
    facts = {"title": title, "relationship": "parentOf", "label": ORIGINAL}
    try:
        with original.open("rb") as source:
            builder.add_ingredient(facts, media_type(original) or UNKNOWN_TYPE, _Stream(source, is_unwanted))
    except c2pa.C2paError:  # it is of a kind that is read, but not like this one: it is named all the same
        builder.add_ingredient(facts, UNKNOWN_TYPE, io.BytesIO())


def _builder(claim: Claim, identity: Identity) -> c2pa.Builder:
    signer = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.certificates, identity.key, None)
    )
    return c2pa.Builder(_manifest(claim), _context(SETTINGS, signer))


def _context(settings: Mapping[str, Any], signer: c2pa.Signer | None = None) -> c2pa.Context:
    return c2pa.Context(c2pa.Settings.from_dict(dict(settings)), signer)


def _manifest(claim: Claim) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    who = {FROM_PEOPLE: ", ".join(claim.people), TO_PEOPLE: ", ".join(claim.people.values())} if claim.people else {}
    program = {"name": "Recast", "version": __version__}
    edited = {
        "action": "c2pa.edited",
        "when": now,
        "softwareAgent": program,
        "digitalSourceType": SOURCE_TYPE,
        "description": "faces drawn by a neural network",
        "parameters": {MODEL: claim.model, **who},
    }
    opened = {"action": "c2pa.opened", "when": now, "softwareAgent": program}
    actions = [{**opened, "parameters": {"ingredientIds": [ORIGINAL]}}, edited]
    assertions = [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]
    return {"claim_generator_info": [program], "assertions": assertions}


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".") or "bin"
