"""What the papers say of one sampler beside another, to be held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAIMS", "Claim"]


@dataclass(frozen=True)
class Claim:
    """At so many network calls the pictures of `better` have a lower Fréchet distance than those of `worse`."""

    better: str
    worse: str
    calls: tuple[int, ...]
    source: str


CLAIMS = (
    Claim("ddim", "ddpm", (5, 10, 20, 50), "Song et al. 2021 (DDIM), table 1"),
    Claim("plms", "ddim", (10, 20, 50), "Liu et al. 2022 (PNDM)"),
    Claim("deis", "ddim", (5, 10, 20), "Zhang and Chen 2023 (DEIS)"),
    Claim("dpmpp_2m", "ddim", (10, 20), "Lu et al. 2022 (DPM-Solver++)"),
    Claim("dpmpp_2m", "dpmpp_2s", (10, 20), "Lu et al. 2022 (DPM-Solver++)"),
    Claim("unipc", "dpmpp_2m", (5, 10), "Zhao et al. 2023 (UniPC)"),
    Claim("heun", "euler", (50,), "Karras et al. 2022, figure 2"),
    Claim("euler-karras", "euler", (20, 50), "Karras et al. 2022, figure 2"),
    Claim("heun-karras", "heun", (20, 50), "Karras et al. 2022, figure 2"),
    Claim("ddim", "lcm", (5, 10), "Luo et al. 2023 (LCM): its network has to be distilled"),
)
