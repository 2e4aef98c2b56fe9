"""The commands together, and how they end: 0, 2 for what the user can mend, 130 for Ctrl-C, 143 for SIGTERM."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from latentbrush.cli.convert import convert
from latentbrush.cli.data import data_app
from latentbrush.cli.diffuse import diffuse
from latentbrush.cli.evaluate import evaluate_app
from latentbrush.cli.info import info
from latentbrush.cli.interrupts import INTERRUPTED
from latentbrush.cli.paint import depth2img, edit, img2img, inpaint, sample, txt2img, upscale
from latentbrush.cli.reproduce import reproduce
from latentbrush.cli.study import study_app
from latentbrush.cli.tokens import tokens
from latentbrush.cli.train import train
from latentbrush.errors import UserError, one_line, printable

__all__ = ["app", "run"]

app = typer.Typer(
    name="latentbrush",
    help="Train, sample and ship latent diffusion models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(txt2img)
app.command()(sample)
app.command()(img2img)
app.command()(inpaint)
app.command()(edit)
app.command()(depth2img)
app.command()(upscale)
app.command()(diffuse)
app.command()(tokens)
app.command()(info)
app.command()(convert)
app.command()(reproduce)
app.command()(train)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")


def run(arguments: Sequence[str]) -> int:
    """Run a command and say on standard error, in one line, what the user can mend; returns the exit code.

    KeyboardInterrupt as it comes.
    """
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):  # a prompt's letters must not fail where a terminal lacks them
            output.reconfigure(errors="backslashreplace")
    try:
        code = app(args=list(arguments) or ["--help"], standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        missing = message.startswith("Missing")  # typer says of what, but not what it is
        return _refused(f"{message.rstrip('.')}; see latentbrush COMMAND --help" if missing else message)
    except ValidationError as error:
        return _refused(one_line(error))
    except UserError as error:
        return _refused(str(error))
    except OSError as error:  # what no room foresaw: a full disk, a vanished mount
        name = error.filename or "standard output, or a file,"  # a stream has no name
        remedy = "; give one of at most 255 bytes" if error.errno == errno.ENAMETOOLONG else ""
        return _refused(f"{name} could not be read or written: {error.strerror or error}{remedy}")
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns a command's KeyboardInterrupt into this code, without a word
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _refused(message: str) -> int:
    print(f"latentbrush: error: {printable(message)}", file=sys.stderr)
    return 2
