"""Draw one emoji with Noto Color Emoji, as the 128-pixel picture that the font holds.

The font is a set of 136 x 128 bitmaps (CBDT) at one size, 109 pixels; joined sequences become one glyph only
through complex text layout, which Pillow does with libraqm.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from latentbrush.errors import UserError

__all__ = ["FONT", "IMAGE_SIZE", "draw_emoji", "open_font"]

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Where Debian's package fonts-noto-color-emoji puts the font."""
IMAGE_SIZE = 128
"""Width and height of a drawn emoji in pixels."""

_FONT_SIZE = 109  # the only size of the bitmap font
_CROP = (4, 0, 132, 128)  # the square in the middle of the 136 x 128 glyph
_GLYPH_WIDTH = 136


def open_font(path: Path = FONT) -> ImageFont.FreeTypeFont:
    """Open the emoji font. UserError where the font or Pillow's complex text layout is missing."""
    if not features.check("raqm"):
        raise UserError(
            "this Pillow has no raqm layout, which joined emoji need: "
            "install Debian's libraqm0, or Pillow from its wheel"
        )
    try:
        return ImageFont.truetype(str(path), _FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise UserError(
            f"cannot open the font {path} ({error}): install Debian's package fonts-noto-color-emoji or give the path"
        ) from error


def draw_emoji(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The emoji as an RGBA image of 128 x 128 pixels on a transparent ground.

    UserError where the font has no picture of it: a font older than the list of emoji draws a joined sequence
    as several glyphs, or nothing.
    """
    image = Image.new("RGBA", (_GLYPH_WIDTH, IMAGE_SIZE), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
    image = image.crop(_CROP)
    # Pasted on transparent black, colours come out multiplied by alpha; taken as they are, every edge would
    # have a dark rim.
    image = Image.frombytes("RGBa", image.size, image.tobytes()).convert("RGBA")
    if image.getchannel("A").getbbox() is None or font.getlength(text) > 1.5 * _GLYPH_WIDTH:
        points = " ".join(f"U+{ord(character):04X}" for character in text)
        raise UserError(
            f"the font has no single picture of {text!r} ({points}): "
            "install fonts-noto-color-emoji of the same Debian release as unicode-data"
        )
    return image
