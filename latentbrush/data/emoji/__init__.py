"""The emoji world: a captioned, artist-drawn data set that anyone can rebuild from three Debian packages.

Noto Color Emoji is drawn at 128 pixels with alpha, named in English and Korean by Unicode, and split so
that a fixed set of *combinations* (skin tone, gender, hair, profession, colour) is held out, all parts of
which occur in training. `build_emoji_world` writes the folder, `EmojiRecord` reads its metadata, `caption`
says what a picture shows.
"""

from latentbrush.data.emoji.build import build_emoji_world
from latentbrush.data.emoji.captions import CaptionMix, caption, family_weights
from latentbrush.data.emoji.draw import draw_emoji, open_font
from latentbrush.data.emoji.record import EmojiRecord
from latentbrush.data.emoji.source import Emoji, read_emoji
from latentbrush.data.emoji.split import Assignment, Split, assign

__all__ = [
    "Assignment",
    "CaptionMix",
    "Emoji",
    "EmojiRecord",
    "Split",
    "assign",
    "build_emoji_world",
    "caption",
    "draw_emoji",
    "family_weights",
    "open_font",
    "read_emoji",
]
