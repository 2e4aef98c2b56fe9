"""Data sets: folders of captioned images, and the emoji world that ships with the package.

`ImageFolder` opens any folder in the ImageFolder convention; `latentbrush.data.emoji` builds such a folder.
"""

from latentbrush.data.folder import ImageFolder

__all__ = ["ImageFolder"]
