# make demo    paint a first picture          make test       what must pass before a change lands
# make models  train the shipped model anew   make test-slow  what takes longer

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

# A run that was interrupted goes on.
train = $(BIN)/latentbrush train recipes/$(1).yaml --run runs/$(1) $(if $(wildcard runs/$(1)/recipe.yaml),--resume)

.PHONY: demo test test-slow lint models clean

demo: $(VENV)/.installed
	$(BIN)/latentbrush txt2img "a red heart" --seed 0 --out out/a-red-heart.png --overwrite

# The stamps are made last, so that an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable ".[report]"
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable ".[test]"
	touch $@

lint: $(VENV)/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS)

test-slow: $(VENV)/.tested
	$(BIN)/python -m pytest -m slow

# Two and a half hours on two cores. runs/emoji/model is the folder that ships as latentbrush/models/emoji.
models: $(VENV)/.installed
	test -d data/emoji || $(BIN)/latentbrush data emoji data/emoji
	$(call train,emoji-autoencoder)
	$(call train,emoji-clip)
	$(call train,emoji)

clean:
	rm -rf $(VENV) build dist *.egg-info out
