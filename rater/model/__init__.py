"""Wire structs, codec and identity: what every other part of rater agrees on. No I/O, no clock."""
