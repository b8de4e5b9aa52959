"""What runs rater somewhere: Kafka for a laptop, and what deploys it to servers."""
