"""What tests read from the Debian packages of the emoji world."""

from pathlib import Path

import pytest

from latentbrush.data.emoji.source import Emoji, read_emoji


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
