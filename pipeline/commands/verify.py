"""The command verify: what files say about how they were made, and whether their signatures hold."""

from pathlib import Path

from pipeline.console import Report
from pipeline.errors import MediaError, RecastError, as_recast_error
from pipeline.options import VerifyOptions
from pipeline.provenance.certificate import given_root, own_root
from pipeline.provenance.credentials import NOTICE, SIDECAR, Credentials, read_credentials

SEARCHED_BYTES = 1 << 20  # at both ends of a file, where its comment is
SIGNATURES = {
    "trusted": "valid and trusted (your own certificate, or one that you trust), signed by",
    "valid": "valid, signed by somebody unknown (--trust CERT.pem makes them known):",
    "expired": "unchanged, but by this computer's clock the certificate is not valid now; signed by",
    "tampered": "TAMPERED: the file or its credentials were changed after signing; signed by",
}
PROBLEMS = {
    "tampered": "its Content Credentials do not hold",
    "expired": "its certificate has expired, or is not valid yet: is the clock right?",
    "none": "no Content Credentials",
}


def verify(options: VerifyOptions) -> Report:
    """Read the Content Credentials of files.

    Raises:
        UsageError: a certificate cannot be read.
    """
    trusted = [root for root in [own_root()] if root] + [given_root(path) for path in options.trust]
    report, found, failed = Report(), list[dict[str, object]](), list[RecastError]()
    for path in options.files:
        try:
            if path.suffix == SIDECAR:
                raise MediaError(f"{path} belongs to another file: name that one, {path.with_suffix('')}")
            credentials = read_credentials(path, trusted)
            has_comment = credentials.state == "none" and _has_comment(path)
        except (RecastError, OSError, UnicodeError) as error:
            failed.append(as_recast_error(error))
            continue
        report.lines += _describe(path, credentials, has_comment)
        if credentials.state in PROBLEMS:
            report.problems.append(f"{path}: {PROBLEMS[credentials.state]}")
        found.append({"path": path, "credentials": credentials, "says_so": has_comment})
    report.problems += map(str, failed)
    report.facts = {"found": found, "failed": failed}
    return report


def _describe(path: Path, credentials: Credentials, has_comment: bool) -> list[str]:
    if credentials.state == "none":
        if not has_comment:
            return [str(path), "  signature: none"]
        reasons = f"not signed (--no-credentials), or signature removed, or {path.name}{SIDECAR} is not beside it"
        return [str(path), f"  signature: none; its comment says that Recast made it: {reasons}"]
    facts = {
        "made by": " on ".join(part for part in (credentials.maker, credentials.when) if part),
        "what": "; ".join(credentials.actions),
        "from": ", ".join(credentials.originals),
        "signature": f"{SIGNATURES[credentials.state]} {credentials.signer or 'nobody named'}",
    }
    lines = [f"  {name}: {words}" for name, words in facts.items() if words]
    return [str(path), *lines, *(f"  {problem}" for problem in credentials.problems)]


def _has_comment(path: Path) -> bool:
    """Look for Recast's comment at both ends of a file."""
    words = NOTICE.encode()
    with path.open("rb") as file:
        head = file.read(SEARCHED_BYTES)
        file.seek(max(0, path.stat().st_size - SEARCHED_BYTES))
        return words in head or words in file.read()
