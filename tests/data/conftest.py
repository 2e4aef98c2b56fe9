"""The Debian packages of the emoji world, and what the tests read from them."""

import os
from pathlib import Path

import pytest

from latentbrush.data.emoji.draw import FONT
from latentbrush.data.emoji.source import CLDR_DIRECTORY, EMOJI_TEST, Emoji, read_emoji

PACKAGES = {
    FONT: "fonts-noto-color-emoji",
    EMOJI_TEST: "unicode-data",
    CLDR_DIRECTORY / "annotations" / "ko.xml": "unicode-cldr-core",
}


@pytest.fixture(scope="session")
def debian_emoji() -> None:
    """Skip where the packages are missing; fail in CI, where a skipped test would hide that they are."""
    missing = sorted(package for path, package in PACKAGES.items() if not path.exists())
    if missing:
        message = f"install Debian's packages {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def emoji(debian_emoji: None) -> list[Emoji]:
    """All emoji of the installed Unicode version."""
    return read_emoji()


@pytest.fixture
def few_emoji(tmp_path: Path, debian_emoji: None) -> Path:
    """An emoji-test.txt with six emoji, so that a build takes no time."""
    path = tmp_path / "emoji-test.txt"
    path.write_text(
        "# group: Smileys & Emotion\n# subgroup: heart\n"
        "2764 FE0F ; fully-qualified # ❤️ E0.6 red heart\n"
        "2764 ; unqualified # ❤ E0.6 red heart\n"
        "1F49C ; fully-qualified # 💜 E0.6 purple heart\n"
        "# group: People & Body\n# subgroup: person-role\n"
        "1F468 200D 1F393 ; fully-qualified # 👨‍🎓 E4.0 man student\n"
        "1F469 1F3FD 200D 1F692 ; fully-qualified # 👩🏽‍🚒 E4.0 woman firefighter: medium skin tone\n"
        "# group: Flags\n# subgroup: country-flag\n"
        "1F1F0 1F1F7 ; fully-qualified # 🇰🇷 E0.6 flag: South Korea\n"
        "# group: Symbols\n# subgroup: keycap\n"
        "0031 FE0F 20E3 ; fully-qualified # 1️⃣ E0.6 keycap: 1\n",
        encoding="utf-8",
    )
    return path
