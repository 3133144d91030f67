"""How results are marked as synthetic: by a comment, a signature, and a visible label if asked for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.errors import MediaError
from pipeline.options import ConvertOptions, ResultView
from pipeline.provenance.certificate import Identity, given_identity, own_identity
from pipeline.provenance.credentials import SIDECAR, Disclosure, check_identity, read_credentials, sign
from pipeline.workspace import write_bytes


@dataclass(frozen=True)
class Signature:
    """The signature of a result.

    Attributes:
        words: a line about it for the user.
        beside: content of the ``.c2pa`` file; None if the signature is in the result, or there is none.
    """

    words: str
    beside: bytes | None

    def write_beside(self, final: Path) -> None:
        """Write the ``.c2pa`` file of a result, just before the result is renamed into place."""
        if self.beside is not None:
            write_bytes(credentials_beside(final), self.beside)

    def drop_old(self, final: Path) -> None:
        """Delete the ``.c2pa`` file of an earlier result, once the new one is in place."""
        if self.beside is None:
            credentials_beside(final).unlink(missing_ok=True)


@dataclass(frozen=True)
class Marking:
    """How the results of a run are marked.

    Attributes:
        disclosure: what they say about themselves.
        identity: that signs them; None to leave them unsigned.
        view: what they show, perhaps with a label.
    """

    disclosure: Disclosure
    identity: Identity | None
    view: ResultView

    def of(self, face_count: int) -> "Marking":
        """What holds for a result with so many drawn faces."""
        return self if face_count else replace(self, disclosure=replace(self.disclosure, shows="nothing"))

    def sign(self, temporary: Path, final: Path, original: Path) -> Signature:
        """Sign a complete result that still has a temporary name, and check that the signature holds."""
        is_synthetic = self.disclosure.shows != "nothing"
        if self.identity is None:
            still = "; its metadata still says that it is synthetic" if is_synthetic else ""
            return Signature(f"not signed (--no-credentials){still}", None)
        beside = sign(temporary, self.disclosure, self.identity, original)
        found = read_credentials(temporary, [], beside)
        if found.state not in ("valid", "trusted"):
            raise MediaError(
                f"the signature of {final} does not hold ({'; '.join(found.problems) or found.state}): "
                "type the same command again; --no-credentials would leave it unsigned"
            )
        marked = "marked as synthetic, signed" if is_synthetic else "signed"
        if beside is None:
            return Signature(f"{marked} (show it: python cli.py verify FILE)", None)
        sidecar, kind = credentials_beside(final).name, final.suffix.removeprefix(".").upper()
        return Signature(f"{marked} in {sidecar}, which belongs to it: {kind} files cannot carry it", beside)


def credentials_beside(final: Path) -> Path:
    """Path of the ``.c2pa`` file of a result."""
    return final.with_name(final.name + SIDECAR)


def prepare_marking(options: ConvertOptions) -> Marking:
    """Prepare the marking of a run's results, and check that it can sign."""
    people = options.people() if options.credit_people else {}
    disclosure = Disclosure(options.model_name, people, "mask" if options.only_mask else "faces")
    identity: Identity | None = None
    if not options.no_credentials:
        identity = given_identity(options.cert, options.key) if options.cert and options.key else own_identity()
        check_identity(identity)
    return Marking(disclosure, identity, view_of(options))


def view_of(options: ConvertOptions) -> ResultView:
    """Return what results show."""
    kind: Literal["result", "mask", "beside"] = "beside" if options.side_by_side else "result"
    return ResultView("mask" if options.only_mask else kind, options.label_text())
