"""docs/settings.md is what every command's --help says. `make settings` (this file as a program) writes it anew."""

from __future__ import annotations

from pathlib import Path

from shards.cli.command import help_of
from shards.cli.commands import COMMANDS
from tests.project.test_conf import COMMANDS as CONFIGS
from tests.project.test_conf import settings_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD = """\
# All settings

What `soundnet COMMAND --help` prints: settings, defaults, and what each does. They are the same words behind `make` and
behind `soundnet`: `make train lr=3e-4`, `soundnet train lr=3e-4`. `student=soundnet5` sets all that is in the file
`conf/student/soundnet5.yaml`. `make settings` writes this page, from the comments beside the settings' definitions.
"""


def page() -> str:
    configs = {module.removesuffix(".__main__"): config for config, (module, _) in CONFIGS.items()}
    parts = [HEAD]
    for module in dict.fromkeys(command.module for command in COMMANDS.values() if command.module in configs):
        names = [name for name, command in COMMANDS.items() if command.module == module]
        rows = help_of(settings_of(configs[module]), configs[module]).partition("\n\n")[2]
        parts.append(f"## {', '.join(names)}\n\n```text\n{rows}\n```\n")
    return "\n".join(parts)


def test_the_page_is_what_help_says() -> None:
    assert PAGE.read_text() == page(), "run `make settings`"


if __name__ == "__main__":
    PAGE.write_text(page())
