"""The folder of a run: what it refuses, and with which words."""

from pathlib import Path

import pytest
import yaml
from tiny_world import AUTOENCODER, autoencoder_recipe

from latentbrush.errors import UserError
from latentbrush.training import Run, run_recipe


def test_an_empty_or_absent_folder_becomes_a_run(tmp_path: Path) -> None:
    recipe = autoencoder_recipe(tmp_path)
    for directory in (tmp_path / "absent" / "too", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        Run(directory, recipe, resume=False).begin()
        stated = yaml.safe_load((directory / "recipe.yaml").read_text("utf-8"))
        assert type(recipe).model_validate(stated) == recipe


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not empty; name a new folder, or --resume") as caught:
        Run(tmp_path, autoencoder_recipe(tmp_path), resume=False)
    assert str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize(("place", "said"), [("diary.txt", "diary.txt is no folder; name"), ("diary.txt/run", "/run")])
def test_a_file_in_the_way_is_refused(place: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=said):
        Run(tmp_path / place, autoencoder_recipe(tmp_path), resume=False).begin()


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    # Else the mended command would be refused for the folder that the broken one left.
    with pytest.raises(UserError, match="world is not a folder"):
        run_recipe(autoencoder_recipe(tmp_path / "world"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_resuming_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent holds no run to resume"):
        Run(tmp_path / "absent", autoencoder_recipe(tmp_path), resume=True)
    assert not (tmp_path / "absent").exists()


def test_a_key_that_came_later_has_its_default(tmp_path: Path) -> None:
    """A run begun before recipes had `precision` goes on; one that says otherwise does not."""
    Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=False).begin()
    path = tmp_path / "run" / "recipe.yaml"
    stated = yaml.safe_load(path.read_text("utf-8"))
    del stated["precision"]
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=True)
    with pytest.raises(UserError, match=r"it differs in precision$"):
        Run(tmp_path / "run", autoencoder_recipe(tmp_path, precision="bfloat16"), resume=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stage: contrastive", "begun with another recipe: "),
        ("12", "begun with another recipe: "),
        ("1: 2", "begun with another recipe: "),
        ("a: [", "recipe.yaml is damaged"),
        ("[" * 5000, "recipe.yaml is damaged"),
        ("steps: !!bool x", "recipe.yaml is damaged"),
    ],
)
def test_what_is_no_such_recipe_is_named(text: str, said: str, tmp_path: Path) -> None:
    Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=False).begin()
    (tmp_path / "run" / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=True)


def test_resuming_with_another_recipe_names_the_fields(tmp_path: Path) -> None:
    Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=False).begin()
    Run(tmp_path / "run", autoencoder_recipe(tmp_path), resume=True)
    other = autoencoder_recipe(tmp_path, steps=15, autoencoder={**AUTOENCODER, "latent_channels": 3})
    with pytest.raises(UserError, match=r"begun with another recipe; it differs in autoencoder, steps$"):
        Run(tmp_path / "run", other, resume=True)
