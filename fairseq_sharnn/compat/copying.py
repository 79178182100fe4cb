"""Patch that lets tasks be copied and pickled, and with them loaded models."""

from fairseq.tasks.fairseq_task import StatefulContainer

from fairseq_sharnn.compat.patching import patch


def let_tasks_be_copied() -> None:
    """The container of a task's state looks up every name in itself, also while it is empty, as copying and unpickling
    make it first: they recurse without end. Test: test_python_arguments.py.
    """

    @patch(StatefulContainer, "__getattr__")
    def __getattr__(original, self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return original(self, name)
