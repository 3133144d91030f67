"""How results are marked as synthetic: in words, by a signature, and if wanted for all to see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import MediaError
from pipeline.options import ConvertOptions, ResultView
from pipeline.provenance.certificate import Identity, given_identity, own_identity
from pipeline.provenance.credentials import SIDECAR, Claim, check_identity, read_credentials, sign
from pipeline.workspace import write_bytes


@dataclass(frozen=True)
class Marking:
    """What marks the results of a run.

    Attributes:
        claim: what is said of them.
        identity: who signs them; None where nobody is to.
        shown: what they show, a notice perhaps.
    """

    claim: Claim
    identity: Identity | None
    shown: ResultView

    def sign(self, made: Path, final: Path, original: Path) -> "Signature":
        """Sign a result that is whole, and make sure that the signature holds.

        Args:
            made: the file.
            final: the name it will get.
            original: what it was made from.

        Raises:
            MediaError: it cannot be signed.
        """
        if self.identity is None:
            return Signature("not signed (--no-credentials); its metadata still says that it is synthetic", None)
        credentials = sign(made, self.claim, self.identity, original)
        found = read_credentials(made, [], credentials)
        if found.state not in ("valid", "trusted"):
            raise MediaError(
                f"the signature of {final} does not hold ({'; '.join(found.problems) or found.state}): "
                "type the same command again; --no-credentials would leave it unsigned"
            )
        if credentials is None:
            return Signature("marked as synthetic, signed (show it: python cli.py verify FILE)", None)
        beside, kind = credentials_beside(final), final.suffix.removeprefix(".").upper()
        words = f"marked as synthetic, signed in {beside.name}, which goes with it: {kind} files cannot carry it"
        return Signature(words, credentials)


@dataclass(frozen=True)
class Signature:
    """How a result is marked.

    Attributes:
        words: for the person.
        beside: what has to lie beside it; None where nothing has to.
    """

    words: str
    beside: bytes | None

    def write_beside(self, final: Path) -> None:
        """Write what has to lie beside a result, just before that gets its name.

        Raises:
            WorkspaceError: it cannot be written.
        """
        if self.beside is not None:
            write_bytes(credentials_beside(final), self.beside)

    def drop_old(self, final: Path) -> None:
        """Delete what lay beside an earlier result, once the new one has its name: it would not fit."""
        if self.beside is None:
            credentials_beside(final).unlink(missing_ok=True)


def credentials_beside(final: Path) -> Path:
    """Name the file that holds the credentials of a result whose kind cannot carry them."""
    return final.with_name(final.name + SIDECAR)


def marking_of(options: ConvertOptions) -> Marking:
    """Make ready what marks results, and make sure that it can.

    Raises:
        UsageError: the certificate cannot be used.
        WorkspaceError: there is no place for a certificate.
    """
    claim = Claim(options.model_name, options.people() if options.credit_people else {})
    shown = shown_of(options)
    if options.no_credentials:
        return Marking(claim, None, shown)
    identity = given_identity(options.cert, options.key) if options.cert and options.key else own_identity()
    check_identity(identity)
    return Marking(claim, identity, shown)


def shown_of(options: ConvertOptions) -> ResultView:
    """Say what results are to show."""
    kind: Literal["result", "mask", "beside"] = "beside" if options.side_by_side else "result"
    return ResultView("mask" if options.only_mask else kind, options.label_text())
