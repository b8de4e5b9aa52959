"""The demonstration: a small cloud's three days, with a hole in them, from replay to a report that may be billed."""
