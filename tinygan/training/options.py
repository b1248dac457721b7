"""The command line of a demo. What several demos share is described once, in SHARED."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import backend
from ..files import UsageError
from ..functions import ShapeError
from . import checkpoints, notebook, watch

LARGEST = 1_000_000_000  # no count of anything is larger
NOT_INHERITED = {"help", "out", "resume", "overwrite", "watch", "debug"}  # by a resumed run
Parser, Settings = argparse.ArgumentParser, argparse.Namespace


def path(text: str) -> Path:
    """A type for argparse: a path; ~ is the home folder, also in --out=~/runs and in notebooks."""
    return Path(os.path.expanduser(text))


def positive(kind: type) -> Callable[[str], Any]:
    """A type for argparse: a number above zero, and up to 1e9 if it is a whole one."""
    if kind is int:
        return _number(int, lambda value: 0 < value <= LARGEST, f"above 0, up to {LARGEST:,}")
    return _number(float, lambda value: 0 < value < math.inf, "above 0")


def from_zero(limit: float = math.inf, kind: type = float) -> Callable[[str], Any]:
    """A type for argparse: a number from zero to below the limit."""
    range_ = "from 0" if limit == math.inf else f"from 0 to below {limit}"
    return _number(kind, lambda value: 0 <= value < limit, range_)


def _number(kind: type, fits: Callable[[Any], bool], range_: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {name} {range_}")
        return value

    return read


_whole, _rate = positive(int), positive(float)
SHARED: dict[str, dict[str, Any]] = {
    "steps": {"type": _whole, "metavar": "N", "help": "training steps"},
    "batch_size": {"type": _whole, "metavar": "N", "help": "examples in a batch"},
    "latent": {"type": _whole, "metavar": "N", "help": "numbers in a latent z ~ N(0, 1)"},
    "lr": {"type": _rate, "metavar": "RATE", "help": "learning rate (of G, where D has its own)"},
    "d_lr": {"type": _rate, "metavar": "RATE", "help": "learning rate of D"},
    "beta1": {"type": from_zero(1), "metavar": "RATE",
              "help": "share of the past in Adam's mean of the gradients"},
    "beta2": {"type": from_zero(1), "metavar": "RATE",
              "help": "share of the past in Adam's mean of their squares"},
    "d_steps": {"type": _whole, "metavar": "K", "help": "updates of D in a step"},
    "r1": {"type": from_zero(), "metavar": "GAMMA",
           "help": "weight of the penalty on D's gradient at real images; 0: none"},
    "codes": {"type": from_zero(1000, int), "metavar": "N",
              "help": "turn this many numbers of z into a one-hot code; 0: none"},
    "translate": {"type": from_zero(100, int), "metavar": "N",
                  "help": "for the first 60 %% of the run, shift D's images by up to N pixels"},
    "width": {"type": _whole, "metavar": "N",
              "help": "channels or units after the first layer; the others scale with it"},
    "data": {"help": "mnist (9,000 digits that ship with tinygan: no network needed), characters "
             "(as many, 16 x 16 in colour), mnist-full, fashion (both downloaded unless in "
             "--data-dir) or folder:PATH"},
    "size": {"type": _whole, "metavar": "PIXELS", "help": "side of the images of a folder"},
    "channels": {"type": int, "choices": (1, 3),
                 "help": "of the images of a folder: 1 for grey, 3 for colour"},
    "measure": {"type": from_zero(LARGEST, int), "metavar": "N",
                "help": "samples to measure at the end, 1,000 or more; 0: none"},
}


def parser(demo: str, description: str, **defaults: Any) -> Parser:
    """The options of the demo of that name: those of every run, and from SHARED those named here.

    A demo adds options of its own with add_argument.
    """
    options = Parser(description=description, formatter_class=_Help, allow_abbrev=False)
    length = options.add_mutually_exclusive_group()
    for name, default in defaults.items():
        group = length if name == "steps" else options
        group.add_argument("--" + name.replace("_", "-"), default=default, **SHARED[name])
    add = options.add_argument
    if "data" in defaults:
        length.add_argument("--epochs", type=_whole, metavar="N",
                            help="the length of the run in passes over the data, not steps")
        add("--data-dir", type=path, metavar="PATH",
            help="where the files of mnist-full and fashion are")
    add("--seed", type=from_zero(LARGEST, int), default=0, metavar="N",
        help="the same seed gives the same run")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--out", type=path, default=Path("runs") / demo, metavar="PATH",
        help="folder for everything that the run writes")
    add("--resume", action="store_true", help="continue from the checkpoint in --out")
    add("--overwrite", action="store_true", help="replace the run in --out")
    add("--watch", action="store_true", help="check every array from the first step on, and stop "
        "at the first NaN or infinity (slow; happens by itself once a loss is NaN)")
    add("--debug", action="store_true", help="show the traceback of an error")
    options.set_defaults(demo=demo)
    return options


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows defaults, where there are any, and keeps the description's lines."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def main(
    parser: Parser,
    train: Callable[[Settings], Any],
    instead: Mapping[str, Callable[[Settings], Any]] | None = None,
    arguments: Sequence[Any] | None = None,
) -> None:
    """Run a demo: choose the device, seed the random generator, train.

    instead    by option, what is done with the run in --out if that option is given
    arguments  those of the command line, or in a notebook such as ["--steps", 500]

    See run_main for errors.
    """
    if arguments is None and notebook.in_a_cell():
        arguments = []
    given = [] if arguments is None else [[*map(str, arguments)]]
    words = given[0] if given else sys.argv[1:]

    def demo() -> None:
        if "--resume" in words:
            _ask_for_nothing(parser)
        settings = parser.parse_args(*given)
        chosen = [name for name in instead or {} if getattr(settings, name) is not None]
        if settings.resume or chosen:
            saved = saved_settings(parser, checkpoints.read(settings.out))
            settings = parser.parse_args(*given, namespace=saved)  # what is typed now is preferred
        else:
            require_free(settings, settings.out)
        backend.use_device(settings.device)
        backend.seed(settings.seed)
        (instead[chosen[0]] if chosen else train)(settings)

    run_main(demo, debug="--debug" in words)


def require_free(settings: Settings, *folders: Path) -> None:
    """Raise UsageError where one of the folders holds a run that is not to be replaced."""
    taken = [folder for folder in folders if checkpoints.exists(folder)]
    if taken and not settings.overwrite:
        raise UsageError(
            f"{taken[0]} holds a run already: continue it with --resume, replace it with "
            "--overwrite, or choose another folder with --out"
        )


def saved_settings(parser: Parser, checkpoint: checkpoints.Checkpoint) -> Settings:
    """The options of a checkpoint, read as if they were typed, and refused where those would be.

    Raises CheckpointError where another demo made it.
    """
    demo = parser.get_default("demo")
    if checkpoint.demo != demo:
        raise checkpoints.CheckpointError(
            f"this run was made by demos/{checkpoint.demo}.py, not by demos/{demo}.py"
        )
    _ask_for_nothing(parser)
    settings = parser.parse_args([])
    for name, value in checkpoint.options.items():
        actions = [action for action in parser._actions if action.dest == name]
        by_default = checkpoints.as_json(getattr(settings, name, None))
        if actions and name not in NOT_INHERITED and checkpoints.as_json(value) != by_default:
            try:
                setattr(settings, name, _as_typed(parser, actions, value))
            except argparse.ArgumentError as error:
                if value is not None:  # some code sets None to what can't be typed any more
                    parser.error(str(error))
    return settings


def _ask_for_nothing(parser: Parser) -> None:
    """What must be typed for a new run, the checkpoint of an old one has."""
    for option in (*parser._actions, *parser._mutually_exclusive_groups):
        option.required = False


def _as_typed(parser: Parser, actions: list[argparse.Action], value: Any, depth: int = 0) -> Any:
    """A value from a checkpoint as the options of one name read it.

    actions  those options, such as --colour and --grey, which set one thing
    depth    of value in the lists that an option collects: append, nargs="*", or both

    Raises ArgumentError for what could not have been typed.
    """
    for action in actions:  # an option without a value stands for a constant
        yes_or_no = isinstance(action, argparse.BooleanOptionalAction)
        for known in (True, False) if yes_or_no else [action.const] * (action.nargs in (0, "?")):
            if checkpoints.as_json(known) == checkpoints.as_json(value):
                return known
    action = max(actions, key=lambda action: action.nargs != 0)  # one that takes a value, if any
    if isinstance(action, argparse._CountAction) and type(value) is int and value > 0:
        return value
    lists = isinstance(action, argparse._AppendAction | argparse._AppendConstAction)
    if not isinstance(action, argparse._ExtendAction):
        lists += action.nargs not in (None, 0, "?")
    if depth < lists and isinstance(value, list):
        return [_as_typed(parser, actions, one, depth + 1) for one in value]
    refused = argparse.ArgumentError(action, f"{value!r} in the checkpoint can't be read")
    if depth < lists or action.nargs == 0 or value is None:
        raise refused
    texts = [str(value), checkpoints.as_json(value)]
    if isinstance(value, list):  # which a type has made of one text
        texts.append(",".join(map(str, value)))
    for text in texts:
        try:
            read = parser._get_value(action, text)
            parser._check_value(action, read)
            plain = text is texts[0] and not isinstance(value, list | dict)
            if plain or checkpoints.as_json(read) == checkpoints.as_json(value):
                return read
        except argparse.ArgumentError as error:
            refused = error if text is texts[0] else refused
    raise refused


def run_main(main: Callable[[], None], debug: bool | None = None) -> None:
    """Call main; an error that its user can mend becomes one sentence and exit status 2.

    With debug, by default where --debug was typed, it stays an error. A notebook has no exit
    status: there it is one, too, and shows as one sentence.
    """
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(errors="backslashreplace")  # for paths that are no proper text
    try:
        main()
    except SystemExit as end:
        if not notebook.running():
            raise
        if end.code:
            raise UsageError("see the sentence above") from end
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (UsageError, ShapeError, MemoryError) as error:
        if notebook.running() or ("--debug" in sys.argv if debug is None else debug):
            raise
        advice = ""
        if isinstance(error, MemoryError):
            advice = "; a smaller --batch-size needs less"
        if isinstance(error, watch.NotFinite):
            advice = "; a lower --lr usually helps (the last good checkpoint is kept)"
        print(f"error: {error}{advice}", file=sys.stderr)
        sys.exit(2)
