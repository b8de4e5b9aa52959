"""What a laptop needs to run rater without Docker."""
