"""rater: streaming rating and chargeback. No silent hole, no double count, exact prices."""
