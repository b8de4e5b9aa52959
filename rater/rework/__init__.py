"""Closed frames rated again: from stored usage, or collected anew; on request, or since usage came too late."""

from rater.rework.asking import Asking
from rater.rework.brackets import bracket_of
from rater.rework.difference import (
    DiffLine,
    LinePair,
    Revision,
    compare,
    facts,
    revision_of_rows,
    revision_of_topic,
)
from rater.rework.late import LateAlerts, LateFollower
from rater.rework.material import materials
from rater.rework.requests import RequestBook, Task, decode_request
from rater.rework.run import Finished, ReworkLog, Runner, run_rework
from rater.rework.settings import ReworkSettings
from rater.rework.tasks import Make, TaskFollower, Tasks
from rater.rework.values import Bracket, FrameKey, Left, Material, ReworkError, Wanted

__all__ = [
    "Asking",
    "Bracket",
    "DiffLine",
    "Finished",
    "FrameKey",
    "LateAlerts",
    "LateFollower",
    "Left",
    "LinePair",
    "Make",
    "Material",
    "RequestBook",
    "Revision",
    "ReworkError",
    "ReworkLog",
    "ReworkSettings",
    "Runner",
    "Task",
    "TaskFollower",
    "Tasks",
    "Wanted",
    "bracket_of",
    "compare",
    "decode_request",
    "facts",
    "materials",
    "revision_of_rows",
    "revision_of_topic",
    "run_rework",
]
