"""What programs outside may rely on: examples of records, the topics as AsyncAPI, and that new schemas fit old ones.

`python -m rater.contracts` writes `schemas/asyncapi.yaml` and `schemas/examples/` and compares with the last release.
"""
