"""What the exit status of `rater` means; the same for every command."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
REFUSED = 3
INTERRUPTED = 130

TEXT = """\b
Exit status:
  0    done
  1    it failed; one line on stderr says why and what to do
  2    wrong usage: an option or an argument
  3    refused: the figures are not complete (frames missing, partial or failed)
  130  interrupted by Ctrl-C"""
