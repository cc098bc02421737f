"""Training tasks: built in by name, or a user's own file.

>>> from thalweg.tasks import load_task
>>> task = load_task("digits-mlp")
>>> sorted(task.hyper)
['decay', 'momentum', 'rate']
"""

from thalweg.tasks.built_in import built_in, names
from thalweg.tasks.sources import failures_named, is_file_task, load_task
from thalweg.tasks.task import Task

__all__ = ["Task", "built_in", "failures_named", "is_file_task", "load_task", "names"]
