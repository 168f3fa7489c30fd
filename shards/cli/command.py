"""The command line of every stage: Hydra composes conf/<config>.yaml, the stage's dataclass checks it, `run` gets it.

This is the only place that knows Hydra. What a user got wrong ends in one line on stderr: exit code 2 for a setting
that does not exist or has the wrong type, 1 for what a stage refuses, 130 for an interruption, 75 after SIGTERM,
141 without a line where nobody reads the output any more.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shards.cli.arguments import HELP, OVERRIDE, PositionalArguments, is_override
from shards.cli.commands import as_called, missing
from shards.cli.help import usage
from shards.cli.pipes import ending_quietly
from shards.cli.preemption import PREEMPTED, Preempted, preemptible
from shards.cli.settings import REQUIRED, SettingsError, build, is_named, is_paths, is_text, kind_of, leaves, unknown
from shards.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
# Hydra keeps to itself: no log, no folder but a sweep's own under outputs/, and no change of the working directory.
QUIET = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.sweep.dir=outputs/sweeps/${now:%Y-%m-%d_%H-%M-%S}",
    "hydra.sweep.subdir=.",
)

REMEDIES = {  # of errors that name a path
    errno.EACCES: ". Change its permissions, or give another path",
    errno.EEXIST: ", and is no folder. Give another path",
    errno.EISDIR: ", and a file is needed. Give another path",
    errno.ENOSPC: ". Make room, and run the same command again",
    errno.ENOTDIR: ": a part of this path is a file. Give another path",
    errno.EROFS: ". Give another path",
}

SWEEP = ("--multirun", "-m")

Settings = TypeVar("Settings")


def command(
    settings: type[Settings],
    config: str,
    run: Callable[[Settings], None],
    conf: Path = CONF,
    *,
    positional: str | None = None,
    resumable: bool = False,
    check: Callable[[Settings], None] | None = None,
) -> None:
    """Run a stage with conf/<config>.yaml and the overrides in sys.argv; with `--multirun`, each job of a sweep.

    `positional` names the setting, a list of paths, that words without a key belong to: `FILE... key=value`.
    All jobs' settings are checked before the first one starts, also by `check`, which raises as `run` does.
    `resumable`: the same command goes on where an earlier one was stopped, and says so when it is.
    """
    goes_on = ": the same command goes on from what is finished" if resumable else ""
    try:
        with ending_quietly(), preemptible():
            arguments = PositionalArguments.taken(positional, settings) if positional else None
            if set(HELP) & set(sys.argv[1:]):
                print(as_called(help_of(settings, config, conf, positional)))
            else:
                _run_hydra(settings, config, run, conf, arguments, check)
    except KeyboardInterrupt:
        sys.exit(_print_error(f"interrupted{goes_on}", 130))
    except Preempted:
        sys.exit(_print_error(f"stopped by SIGTERM{goes_on}", PREEMPTED))
    except SettingsError as error:
        sys.exit(_print_error(str(error), 2))


def help_of(settings: type, config: str, conf: Path = CONF, positional: str | None = None) -> str:
    """What --help prints."""
    values, choices = _compose(config, (), conf)
    return usage(settings, values, choices, conf / f"{config}.yaml", positional)


def compose(settings: type[Settings], config: str, overrides: Sequence[str] = (), conf: Path = CONF) -> Settings:
    """The settings of conf/<config>.yaml, or of one file of a group (`student/soundnet8`), without running anything.

    Raises SettingsError, and the ValueError of a dataclass's own `__post_init__`.
    """
    values, _ = _compose(config, translate(settings, overrides, conf), conf)
    for folder in config.split("/")[:-1]:
        values = values[folder]
    built: Settings = build(settings, values)
    return built


def translate(settings: type, overrides: Sequence[str], conf: Path = CONF, *, sweeping: bool = False) -> list[str]:
    """Overrides as typed, in Hydra's grammar: text arrives letter by letter, unknown keys raise SettingsError."""
    groups = {folder.relative_to(conf).as_posix() for folder in conf.rglob("*") if folder.is_dir()}
    return [_translate(settings, word, groups, sweeping) for word in overrides]


def _translate(settings: type, word: str, groups: set[str], sweeping: bool) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    match = OVERRIDE.fullmatch(word)
    if match is None or match["key"].startswith("hydra"):
        return word
    sign, key, value = match["sign"] or "", match["key"], match["value"]
    kind = None if key in groups else kind_of(settings, key)
    try:
        several = OverridesParser.create().parse_override(word).is_sweep_override()
    except HydraException as error:
        if not _is_literal(kind, value):
            raise SettingsError(f"{word} cannot be read: {_one_line(error)}") from None
        several = False
    if _is_literal(kind, value) and not (several and sweeping) and not _in_grammar(kind, value):
        plain = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # and no interpolation
        value = QuotedString(plain, Quote.single).with_quotes()
    elif several and not sweeping:
        raise SettingsError(f"{word} gives several values, which only a sweep takes: `make sweep ...` or --multirun")
    if kind is not None and not sign and is_named(settings, key):
        sign = "++"  # what the dataclass knows can be set whether or not the YAML file names it
    return f"{sign}{key}={value}"


def _no_setting(settings: type, word: str) -> str:
    """The line for a word that is neither a setting nor an option."""
    bare = word.lstrip("-")
    if bare != word and "=" in bare:
        return f"{word} is no setting: leave out the dashes, {bare}"
    if bare != word:
        return f"{word} is no option: there are --help and --multirun, and settings are key=value"
    required = [key for key, _, default in leaves(settings) if default == REQUIRED and "." not in key]
    return f"{word} is no setting: settings are key=value, as {next(iter(required), 'key')}={word}"


def _is_literal(kind: Any, value: str) -> bool:
    """Whether a value is taken letter by letter: a text, or one path where a list of paths is wanted."""
    return is_text(kind) or (is_paths(kind) and value[:1] != "[")


def _in_grammar(kind: Any, value: str) -> bool:
    """Whether a text is already what Hydra would read: null where the setting may be null, or a quoted string."""
    return (value == "null" and kind not in (str, Path)) or (
        value[:1] in ("'", '"') and value[-1:] == value[:1] != value
    )


def _run_hydra(
    settings: type[Settings],
    config: str,
    run: Callable[[Settings], None],
    conf: Path,
    positional: PositionalArguments | None,
    check: Callable[[Settings], None] | None,
) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    options = [word for word in sys.argv[1:] if not is_override(word)]
    for word in options:
        if word not in SWEEP:
            raise SettingsError(_no_setting(settings, word))
    overrides = [word for word in sys.argv[1:] if is_override(word)]
    sweeping = bool(options)
    jobs: list[tuple[str, Any]] = []

    def compose_job(composed: Any) -> None:
        """Hydra's job is a line and values and no more, so that all jobs are checked before the first one starts."""
        line = ""
        if sweeping:
            job_config = HydraConfig.get()
            line = f"job {job_config.job.num}: {' '.join(job_config.overrides.task).replace('++', '')}"
        GlobalHydra.instance().clear()  # it has done its part; `run` may compose other settings
        jobs.append((line, OmegaConf.to_container(composed, resolve=True)))

    overrides = translate(settings, overrides, conf, sweeping=sweeping)
    # Options first: argparse takes no second run of overrides behind an option.
    sys.argv[1:] = [*options, *QUIET, f"hydra.job.name={config}", *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would otherwise print, and exit
    try:
        hydra.main(config_path=str(conf), config_name=config, version_base="1.3")(compose_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_one_line(error)) from None
    built = [(line, _built(settings, positional.added_to(each) if positional else each, line)) for line, each in jobs]
    codes = []
    if sweeping and check is not None:
        for line, values in built:
            if code := _run_job(check, values, _unstarted(line)):
                sys.exit(code)
    for line, values in built:
        if line:
            print(line, file=sys.stderr)
        codes.append(_run_job(run, values))
    if any(codes):
        sys.exit(next(filter(None, codes)))


def _built(settings: type[Settings], given: Any, line: str) -> Settings:
    """A job's settings. Ends the program with a line where they are refused."""
    try:
        built: Settings = build(settings, given)
        return built
    except SettingsError as error:
        sys.exit(_print_error(f"{error}{_unstarted(line)}", 2))
    except ValueError as error:  # from a `__post_init__`: each value fits, but not beside the others
        sys.exit(_print_error(f"{_one_line(error)}{_unstarted(line)}", 1))


def _unstarted(line: str) -> str:
    """What a refused job of a sweep adds to its error."""
    return f" ({line}; no job was started)" if line else ""


def _run_job(run: Callable[[Settings], None], values: Settings, more: str = "") -> int:
    """The exit code: 0, or another and the line that says why is printed; the other jobs of a sweep go on."""
    from shards.media.rejects import UnreadableMedia

    try:
        with ending_quietly():
            run(values)
    except (UserError, UnreadableMedia) as error:
        return _print_error(f"{error}{more}", 1)
    except ModuleNotFoundError as error:  # which only some settings need
        if (line := missing(error)) is None:
            raise
        return _print_error(line, 1)
    except OSError as error:  # a full disk, a folder that may not be written: the machine's fault, or the path's
        path = error.filename2 or error.filename  # of a file that is renamed: where to
        where = f"{path}: " if path else ""
        remedy = REMEDIES.get(error.errno or 0, "") if error.filename else ""
        return _print_error(f"{where}{error.strerror or error}{remedy}{more}", 1)
    return 0


def _compose(config: str, overrides: Sequence[str], conf: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The composed values as plain dicts, and which file was chosen in each config group."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            composed = compose(config, list(overrides), return_hydra_config=True)
        choices: Any = OmegaConf.to_container(composed.hydra.runtime.choices)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        values: Any = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_one_line(error)) from None
    return values, {group: choice for group, choice in choices.items() if not group.startswith("hydra/")}


def _one_line(error: BaseException) -> str:
    """Hydra's several lines as one, or ours where that says more; the cause, where Hydra wraps it without a word."""
    from hydra.errors import MissingConfigException
    from omegaconf import DictConfig
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
        key = str(cause.full_key)
        group, _, name = key.rpartition(".")
        if group and name.isdecimal():
            return _no_entry(group, name)
        if group and isinstance(cause.parent_node, DictConfig):
            beside = [f"{group}.{name}" for name in map(str, cause.parent_node)]
            return f"{unknown(key, beside)} (+{key}=... adds it)"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={unknown(choice, error.options)}"
    line = " ".join(str(error).split())
    if entry := re.match(r"(?:Could not override '|Error merging override )(?P<group>[^=]+?)\.(?P<index>\d+)\b", line):
        return _no_entry(entry["group"], entry["index"])
    if delete := re.match("Could not delete from config. '(?P<key>.+)' does not exist", line):
        return f"~{delete['key']} takes nothing away: nothing but its default stands there, which key=... changes"
    return line


def _no_entry(group: str, index: str) -> str:
    """The line for an entry of a list that the YAML files do not give."""
    return f"{group} has no entry {index} to change: give {group}=[...] as a whole"


def _print_error(line: str, code: int) -> int:
    """Print the line that a command ends with; returns the exit code, to be raised with."""
    print(f"error: {as_called(line)}", file=sys.stderr)
    return code
