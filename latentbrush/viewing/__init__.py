"""What people look at to see diffusion at work: the way of a picture from noise, and that of noise into one;
and what it will cost."""

from latentbrush.viewing.forward import ForwardProcess, NoisedLevel, forward_process, forward_sheet
from latentbrush.viewing.frames import FRAMES, STRIP_COLUMNS, View, animation, decode_frames, durations, strip
from latentbrush.viewing.memory import PaintingMemory, painting_memory
from latentbrush.viewing.sheet import labelled_sheet, save_animation, save_sheet
from latentbrush.viewing.trajectory import Frame, Trajectory, evenly

__all__ = [
    "FRAMES",
    "STRIP_COLUMNS",
    "ForwardProcess",
    "Frame",
    "NoisedLevel",
    "PaintingMemory",
    "Trajectory",
    "View",
    "animation",
    "decode_frames",
    "durations",
    "evenly",
    "forward_process",
    "forward_sheet",
    "labelled_sheet",
    "painting_memory",
    "save_animation",
    "save_sheet",
    "strip",
]
