"""Reads back how a file says it was made, for a person."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import MediaError, RecastError, as_recast_error
from pipeline.options import VerifyOptions
from pipeline.provenance.certificate import given_root, own_root
from pipeline.provenance.credentials import NOTICE, SIDECAR, Credentials, read_credentials

SEARCHED_BYTES = 1 << 20  # at either end of a file, where its comment lies
STATES = {
    "trusted": "valid and trusted (a certificate of your own, or one that you trust), signed by",
    "valid": "valid, signed by somebody unknown (--trust CERT.pem makes them known):",
    "expired": "unchanged, but by this computer's clock the certificate is out of its time; signed by",
    "tampered": "TAMPERED: the file was changed after it was signed, or its credentials were; signed by",
}


@dataclass(frozen=True)
class Verified:
    """A file, and what it says.

    Attributes:
        path: of the file.
        credentials: what they say.
        says_so: whether, where there are none, its comment says that it is Recast's.
    """

    path: Path
    credentials: Credentials
    says_so: bool = False


@dataclass
class VerifyReport:
    """What the files say."""

    found: list[Verified] = field(default_factory=list)
    failed: list[RecastError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A paragraph for each file."""
        return [line for one in self.found for line in _paragraph(one)]

    def problems(self) -> list[str]:
        """The files that do not hold what they say, or say nothing."""
        lines = []
        for one in self.found:
            if one.credentials.state == "tampered":
                lines.append(f"{one.path}: its Content Credentials do not hold")
            if one.credentials.state == "expired":
                lines.append(f"{one.path}: its certificate has expired, or is not valid yet: is the clock right?")
            if one.credentials.state == "none":
                lines.append(f"{one.path}: no Content Credentials")
        return [*lines, *map(str, self.failed)]


def verify(options: VerifyOptions) -> VerifyReport:
    """Look at files.

    Raises:
        UsageError: a certificate cannot be read.
    """
    trusted = [root for root in [own_root()] if root] + [given_root(path) for path in options.trust]
    report = VerifyReport()
    for path in options.files:
        try:
            if path.suffix == SIDECAR:
                raise MediaError(f"{path} belongs to another file: name that one, {path.with_suffix('')}")
            found = read_credentials(path, trusted)
            report.found.append(Verified(path, found, found.state == "none" and _says_so(path)))
        except (RecastError, OSError, UnicodeError) as error:
            report.failed.append(as_recast_error(error))
    return report


def _paragraph(found: Verified) -> list[str]:
    path, credentials = found.path, found.credentials
    if credentials.state == "none":
        if not found.says_so:
            return [f"{path}", "  signature: none"]
        reasons = (
            f"it was not signed (--no-credentials), or they were removed, or {path.name}{SIDECAR} is not beside it"
        )
        return [f"{path}", f"  signature: none; its comment says that Recast made it: {reasons}"]
    facts = {
        "made by": " on ".join(part for part in (credentials.maker, credentials.when) if part),
        "what": "; ".join(credentials.actions),
        "from": ", ".join(credentials.originals),
        "signature": f"{STATES[credentials.state]} {credentials.signer or 'nobody named'}",
    }
    lines = [f"  {name}: {words}" for name, words in facts.items() if words]
    return [f"{path}", *lines, *(f"  {problem}" for problem in credentials.problems)]


def _says_so(path: Path) -> bool:
    """Look for our comment at both ends of a file."""
    words = NOTICE.encode()
    with path.open("rb") as file:
        head = file.read(SEARCHED_BYTES)
        file.seek(max(0, path.stat().st_size - SEARCHED_BYTES))
        return words in head or words in file.read()
