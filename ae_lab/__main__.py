"""All commands under one name.

`ae-lab train -m latent=2,5` is `python -m ae_lab.train -m latent=2,5`.
"""

import runpy
import sys
from pathlib import Path

from ae_lab.core.errors import suggest
from ae_lab.core.streams import lasting_output


def commands() -> dict[str, str]:
    """The commands and the first line of what each says of itself."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return {file.stem: first_line(file) for file in files}


def first_line(file: Path) -> str:
    return file.read_text().partition('"""')[2].splitlines()[0].rstrip('"')


@lasting_output()
def main() -> None:
    known, (word, *_) = commands(), (*sys.argv[1:], "--help")
    if word in ("-h", "--help"):
        print("ae-lab COMMAND ..., where COMMAND is one of\n")
        for name, text in known.items():
            print(f"  {name:14}{text}")
        return
    if word not in known:
        sys.exit(f"error: there is no command '{word}': {suggest(word, known)}")
    del sys.argv[1]
    runpy.run_module(f"ae_lab.{word}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
