"""What runs inside the sandbox: the zygote, and the child it forks for each frame.

Of ours it imports `rater.sandbox.wire` alone: what is not in memory cannot be misused, and makes no fork slow.
"""
