# Ten percent off what a project pays for instances in an hour in which it runs two or more of them.
from decimal import Decimal

instances = data["usage"].get("instance", [])
if len(instances) >= 2:
    for point in instances:
        point["rating"]["price"] *= Decimal("0.9")
