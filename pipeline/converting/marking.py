"""How results are marked as synthetic: in words, by a signature, and if wanted for all to see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.blending.label import check_label
from pipeline.blending.look import Shown
from pipeline.media.certificate import Identity, given_identity, own_identity
from pipeline.media.notice import Claim
from pipeline.media.provenance import SIDECAR, check_identity, sign
from pipeline.options import ConvertOptions
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
    shown: Shown

    def sign(self, made: Path, final: Path, original: Path) -> str:
        """Sign a result that is whole, just before it gets its name.

        Args:
            made: the file.
            final: the name it will get.
            original: what it was made from.

        Returns:
            How it is marked now, in words.

        Raises:
            MediaError: it cannot be signed.
            WorkspaceError: the credentials cannot be written.
        """
        beside = credentials_beside(final)
        if self.identity is None:
            beside.unlink(missing_ok=True)  # those of an earlier result would not fit this one
            return "not signed (--no-credentials); its metadata still says that it is synthetic"
        credentials = sign(made, self.claim, self.identity, original)
        if credentials is None:
            beside.unlink(missing_ok=True)
            return "marked as synthetic, signed (show it: python cli.py verify FILE)"
        write_bytes(beside, credentials)
        kind = final.suffix.removeprefix(".").upper()
        return f"marked as synthetic, signed in {beside.name}, which goes with it: {kind} files cannot carry it"


def credentials_beside(final: Path) -> Path:
    """Name the file that holds the credentials of a result whose kind cannot carry them."""
    return final.with_name(final.name + SIDECAR)


def marking_of(options: ConvertOptions) -> Marking:
    """Make ready what marks results, and make sure that it can.

    Raises:
        UsageError: the certificate or the label cannot be used.
        WorkspaceError: there is no place for a certificate.
    """
    claim = Claim(options.model_name, options.people() if options.credit_people else {})
    shown = shown_of(options)
    check_label(shown.label)
    if options.no_credentials:
        return Marking(claim, None, shown)
    identity = given_identity(options.cert, options.key) if options.cert and options.key else own_identity()
    check_identity(identity)
    return Marking(claim, identity, shown)


def shown_of(options: ConvertOptions) -> Shown:
    """Say what results are to show."""
    kind: Literal["result", "mask", "beside"] = "beside" if options.side_by_side else "result"
    return Shown("mask" if options.only_mask else kind, options.label_text())
