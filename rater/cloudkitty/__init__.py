"""A running CloudKitty, read through its REST API: its rules made a rule book, its totals compared with ours."""

from rater.cloudkitty.client import Cloud, CloudKittyError, read_rules
from rater.cloudkitty.convert import Imported, ImportRefusedError, Problem, convert
from rater.cloudkitty.differences import RELATIVE, ROUNDED_V1, Compared, Tolerance, compare, tolerance_of
from rater.cloudkitty.listing import Listing
from rater.cloudkitty.side import Connection, Side, from_file, nobody, of_token
from rater.cloudkitty.spans import days_of, local_month
from rater.cloudkitty.summaries import Amount, Group, Sums, Wanted, read_both, read_reached, read_sums

__all__ = [
    "RELATIVE",
    "ROUNDED_V1",
    "Amount",
    "Cloud",
    "CloudKittyError",
    "Compared",
    "Connection",
    "Group",
    "ImportRefusedError",
    "Imported",
    "Listing",
    "Problem",
    "Side",
    "Sums",
    "Tolerance",
    "Wanted",
    "compare",
    "convert",
    "days_of",
    "from_file",
    "local_month",
    "nobody",
    "of_token",
    "read_both",
    "read_reached",
    "read_rules",
    "read_sums",
    "tolerance_of",
]
