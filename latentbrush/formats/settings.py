"""The settings of a single file, laid out as those of a folder, so that one reader serves both.

They come from a folder that the caller names, from the file's own header, where `latentbrush convert` puts them, or
from the family that its keys and shapes tell.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from latentbrush.conditioning import Tokenizer
from latentbrush.conditioning.published import clip_tokenizer
from latentbrush.conditioning.word_pieces import has_vocabulary
from latentbrush.diffusion import Prediction
from latentbrush.errors import UserError, short
from latentbrush.files import read_json, small_text, write_json
from latentbrush.formats.families import family_of, unknown, write_family
from latentbrush.formats.index import INDEX, LOW_RES, read_index
from latentbrush.formats.kinds import LDM_BERT, TOKENIZERS
from latentbrush.formats.ldm_families import VOCABULARY_NEEDED, ldm_family_of, write_ldm_family
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import KINDS
from latentbrush.formats.ours import OURS
from latentbrush.formats.store import TensorFile

__all__ = [
    "METADATA",
    "SCHEDULER",
    "Settings",
    "checked_prediction",
    "copy_settings",
    "header_of",
    "header_texts",
    "settings_in",
    "settings_of",
]

METADATA = "latentbrush.settings"
"""Where they stand in a safetensors file's header: JSON, an object of file names and their texts."""
SCHEDULER = "scheduler/scheduler_config.json"
VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json", "vocab.txt")
BESIDE_VOCABULARY = ("tokenizer_config.json", "special_tokens_map.json")
NAMES = (
    *(INDEX, OURS, SCHEDULER, f"{LOW_RES}/scheduler_config.json"),
    *(f"{part}/config.json" for part in KINDS),
    *(f"{part}/{name}" for part in TOKENIZERS for name in (*VOCABULARY, *BESIDE_VOCABULARY)),
)
MOST = 2**26
"""Characters of the settings in a header."""


@dataclass(frozen=True)
class Settings:
    """A folder with all of a model but its weights. `told`: who says so; `doubt`: what is assumed."""

    directory: Path
    told: str
    doubt: str = ""


def checked_prediction(name: str | None) -> Prediction | None:
    """UserError for a prediction type that there is not."""
    if name is not None and name not in get_args(Prediction):
        raise UserError(f"prediction {short(name)} is unknown; choose one of {', '.join(get_args(Prediction))}")
    return name  # type: ignore[return-value]  # just checked


@contextmanager
def settings_of(
    file: TensorFile, *, config: str | Path | None = None, prediction: Prediction | None = None
) -> Iterator[Settings]:
    """What is known of a file, in a folder that is gone after the block; errors within it name the file.

    `config`: a folder of such settings, instead of what file or family say; or, for a model that reads BERT's
    vocabulary, one that holds that alone. `prediction` has the last word.
    """
    with _temporary(file.path if config is None else Path(config)) as directory:
        settings = _laid_out(file, directory, config, prediction)
        _predict(directory, prediction)
        yield settings if prediction is None else Settings(directory, settings.told)


@contextmanager
def settings_in(folder: Path, *, prediction: Prediction | None = None) -> Iterator[Settings]:
    """As `settings_of`, of a model's folder."""
    with _temporary(folder) as directory:
        copy_settings(folder, directory)
        _predict(directory, prediction)
        yield Settings(directory, f"as {folder} says")


@contextmanager
def _temporary(source: Path) -> Iterator[Path]:
    """A folder whose name errors do not tell, but that of what is read."""
    with tempfile.TemporaryDirectory(prefix="latentbrush-") as temporary:
        try:
            yield Path(temporary)
        except UserError as error:
            raise UserError(
                str(error).replace(f"{temporary}/", f"{source}: ").replace(temporary, f"{source}")
            ) from None


def _predict(directory: Path, prediction: Prediction | None) -> None:
    if prediction is not None:
        path = directory / SCHEDULER
        write_json(path, {**read_json(path), "prediction_type": prediction})


def _laid_out(file: TensorFile, directory: Path, config: str | Path | None, prediction: Prediction | None) -> Settings:
    given = None if config is None else Path(config).expanduser()
    vocabulary = given if given is not None and not (given / INDEX).is_file() and has_vocabulary(given) else None
    if given is not None and vocabulary is None:
        copy_settings(given, directory)
        return Settings(directory, f"as {config} says")
    if vocabulary is None and METADATA in file.metadata:
        texts = header_texts(file)
        if texts and not texts.keys() - {f"{part}/config.json" for part in KINDS}:
            raise unknown(file)  # a part by itself
        if INDEX in texts:
            _write_texts(texts, directory)
        _check_whole(file, texts, directory)
        return Settings(directory, "as its own header says")
    ldm = ldm_family_of(file)
    if ldm is not None:
        write_ldm_family(ldm, directory, prediction or "epsilon", vocabulary)
        return Settings(directory, f"{ldm.name}, by its keys and shapes")
    if vocabulary is not None:
        raise UserError(f"{vocabulary} has no {INDEX}; give a model's folder")
    family = family_of(file, prediction)
    write_family(family, directory)
    return Settings(directory, f"{family.name}, by its keys and shapes", family.doubt)


def _check_whole(file: TensorFile, texts: Mapping[str, str], directory: Path) -> None:
    """UserError unless a header has the settings of every network that its index, laid out already, names."""
    names = [INDEX]
    if INDEX in texts:
        names = [*(f"{part}/config.json" for part in read_index(directory).parts if part in KINDS), SCHEDULER]
    for name in names:
        if name not in texts:
            raise UserError(f"{file.path}: the settings in its header have no {name}; convert it anew")


def copy_settings(source: Path, directory: Path) -> None:
    """The settings of a model's folder, and nothing else of it. UserError for what is no such folder."""
    if not (source / INDEX).is_file():
        raise UserError(f"{source} has no {INDEX}; give a model's folder")
    refuse_links_out(source, (INDEX, OURS, *KINDS, *TOKENIZERS, "scheduler", LOW_RES))
    _write_texts({name: _text(source / name) for name in NAMES if (source / name).is_file()}, directory)


def _text(path: Path) -> str:
    try:
        return small_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy or download it again") from None


def header_texts(file: TensorFile) -> dict[str, str]:
    """From the header. Only the files of a folder's settings may be named there."""
    text = file.metadata[METADATA]
    try:
        if len(text) > MOST:
            raise ValueError(f"they have {len(text)} characters, at most {MOST} are read")
        texts = json.loads(text)
        if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
            raise ValueError("no object of texts")
        for value in texts.values():
            value.encode()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.path}: the settings in its header cannot be read ({error}); convert it anew") from None
    for name in texts:
        if name not in NAMES:
            raise UserError(f"{file.path}: the settings in its header have {short(name)}, which is unknown here")
    return texts


def _write_texts(texts: dict[str, str], directory: Path) -> None:
    for name, text in texts.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8", newline="")
    if read_index(directory).kind is LDM_BERT:
        if not has_vocabulary(directory / "tokenizer"):
            raise UserError(f"{directory / 'tokenizer'} has no vocabulary; {VOCABULARY_NEEDED}")
        return
    for part in _tokenizers(directory):
        if not any((directory / part / name).is_file() for name in VOCABULARY):
            # Left out where it is the published one, whose files are as long as small weights.
            clip_tokenizer().save(directory / part)
            for name in BESIDE_VOCABULARY:
                if f"{part}/{name}" in texts:
                    (directory / part / name).write_text(texts[f"{part}/{name}"], encoding="utf-8", newline="")


def _tokenizers(directory: Path) -> list[str]:
    return [part for part in read_index(directory).parts if part in TOKENIZERS]


def header_of(directory: Path) -> dict[str, str]:
    """The metadata of a single file whose settings lie in `directory`; one entry, whose order cannot vary."""
    names, published = list(NAMES), clip_tokenizer()
    for part in [] if read_index(directory).kind is LDM_BERT else _tokenizers(directory):
        own = Tokenizer.from_folder(directory / part)
        if (own.vocab, own.merges) == (published.vocab, published.merges):
            names = [name for name in names if name not in {f"{part}/{vocabulary}" for vocabulary in VOCABULARY}]
    texts = {name: _text(directory / name) for name in names if (directory / name).is_file()}
    return {METADATA: json.dumps(texts, ensure_ascii=False)}
