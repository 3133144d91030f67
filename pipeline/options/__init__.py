"""Every option of every command: name, type, default, help and check, once.

The command line is made from these classes (``cli.py``), and the stages take the same objects.
This package must stay quick to import: ``cli.py --help`` loads it and little else.
"""

from pipeline.options.base import CommandOptions, WorkspaceOptions
from pipeline.options.check import CheckOptions
from pipeline.options.convert import ConvertOptions, LookOptions, PreviewOptions, SwapOptions
from pipeline.options.doctor import DoctorOptions
from pipeline.options.extract import ExtractOptions
from pipeline.options.models import ModelsOptions
from pipeline.options.people import PeopleOptions, ReviewOptions
from pipeline.options.train import ImportOptions, TrainOptions
from pipeline.options.verify import VerifyOptions

__all__ = [
    "CheckOptions",
    "CommandOptions",
    "ConvertOptions",
    "DoctorOptions",
    "ExtractOptions",
    "ImportOptions",
    "LookOptions",
    "ModelsOptions",
    "Options",
    "PeopleOptions",
    "PreviewOptions",
    "ReviewOptions",
    "SwapOptions",
    "TrainOptions",
    "VerifyOptions",
    "WorkspaceOptions",
]

Options = (
    ExtractOptions
    | TrainOptions
    | PreviewOptions
    | ConvertOptions
    | ImportOptions
    | PeopleOptions
    | ReviewOptions
    | ModelsOptions
    | VerifyOptions
    | DoctorOptions
    | CheckOptions
)
