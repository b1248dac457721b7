"""`pytest tests/exercises` says of every exercise how it stands, and how many are done.

They are left out where nobody asked for this folder, so that `pytest` alone tests the library.
"""

import importlib.util
from pathlib import Path

import pytest
from exercise_checks import EXERCISES

FOLDER = Path(__file__).resolve().parent
STATES = {"passed": "done", "skipped": "not started", "failed": "wrong: see the message above"}
_states: dict[str, str] = {}  # of the exercises of this run, by file


def pytest_collect_file(file_path, parent):
    if file_path.stem in EXERCISES and file_path.parent == FOLDER and _asked_for(parent.config):
        return ExerciseFile.from_parent(parent, path=file_path)
    return None


def _asked_for(config):
    paths = [argument.partition("::")[0] for argument in config.args]
    wanted = [(config.invocation_params.dir / path).resolve() for path in paths]
    return any(path.is_relative_to(FOLDER) for path in wanted)


class ExerciseFile(pytest.File):
    def collect(self):
        yield Exercise.from_parent(self, name=EXERCISES[self.path.stem][0])


class Exercise(pytest.Item):
    """Loads a student's file and runs its check."""

    def runtest(self):
        specification = importlib.util.spec_from_file_location(self.path.stem, self.path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        try:
            EXERCISES[self.path.stem][1](module)
        except NotImplementedError as error:
            pytest.skip(str(error))

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        # A mistake of Python's: where in the student's file, and nothing of what is around it.
        excinfo.traceback = excinfo.traceback.cut(path=self.path)
        return excinfo.getrepr(style="short")

    def reportinfo(self):
        return self.path, None, f"{self.path.stem}: {self.name}"


def pytest_runtest_logreport(report):
    stem = Path(report.nodeid.partition("::")[0]).stem
    if report.when == "call" and stem in EXERCISES:
        _states[stem] = report.outcome


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """After all that pytest itself says."""
    yield
    if _states:
        write = session.config.pluginmanager.get_plugin("terminalreporter").write_line
        write("")
        for stem, outcome in _states.items():
            write(f"{stem.partition('_')[2].replace('_', ' '):24}  {STATES[outcome]}")
        done = sum(outcome == "passed" for outcome in _states.values())
        write(f"{done} of {len(_states)} exercises are done")
