"""The rules of a running CloudKitty, read through its REST API and made a rule book."""

from rater.cloudkitty.client import CloudKittyError, read_rules
from rater.cloudkitty.convert import Imported, ImportRefusedError, Problem, convert
from rater.cloudkitty.listing import Listing

__all__ = ["CloudKittyError", "ImportRefusedError", "Imported", "Listing", "Problem", "convert", "read_rules"]
