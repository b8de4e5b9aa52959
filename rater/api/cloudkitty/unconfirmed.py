"""Posts that Kafka did not confirm: sent again without a key of their own, they count once all the same."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Unconfirmed"]

KEPT_SECONDS = 3600  # a client repeats what failed within minutes; the same frames much later are other frames
MOST = 10_000  # posts that are remembered


class _Post(NamedTuple):
    """One that may be there, wholly or in part."""

    post_id: str
    until: float


class Unconfirmed:
    """By what they say. Of this process: a repetition that another replica gets is another post."""

    def __init__(self) -> None:
        self._posts: dict[str, list[_Post]] = {}
        self._count = 0

    def take(self, content: str, now: float) -> str:
        """The id of such a post, which then is nobody else's; empty if there is none. `now` in seconds."""
        posts = self._posts.pop(content, [])
        self._count -= len(posts)
        fresh = [post for post in posts if now < post.until]
        if not fresh:
            return ""
        if fresh[1:]:
            self._posts[content] = fresh[1:]
            self._count += len(fresh) - 1
        return fresh[0].post_id

    def keep(self, content: str, post_id: str, now: float) -> None:
        """Remembers one. The oldest are forgotten where there are too many."""
        while self._count >= MOST:
            self._count -= len(self._posts.pop(next(iter(self._posts))))
        self._posts.setdefault(content, []).append(_Post(post_id, now + KEPT_SECONDS))
        self._count += 1
