"""The shell: Faust worker, checkpoints, rule log and sink. Everything that touches Kafka on the rating side."""
